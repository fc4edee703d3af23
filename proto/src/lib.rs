//! Protobuf messages that Tidegate speaks: prost types only, no logic.
//!
//! `envoy`, `istio` and `google` are wire-compatible subsets of the public protocols of those names; `tidegate` is ours.
#![allow(missing_debug_implementations, clippy::all)]

pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.config.core.v3.rs"));
            }
        }
        pub mod endpoint {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.config.endpoint.v3.rs"));
            }
        }
    }
    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                pub mod v3 {
                    include!(concat!(env!("OUT_DIR"), "/envoy.extensions.common.ratelimit.v3.rs"));
                }
            }
        }
    }
    pub mod service {
        pub mod discovery {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.discovery.v3.rs"));
            }
        }
        pub mod load_stats {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.load_stats.v3.rs"));
            }
        }
        pub mod ratelimit {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.ratelimit.v3.rs"));
            }
        }
        pub mod rate_limit_quota {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.rate_limit_quota.v3.rs"));
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            include!(concat!(env!("OUT_DIR"), "/envoy.r#type.v3.rs"));
        }
    }
}

pub mod google {
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}

pub mod istio {
    pub mod v1 {
        pub mod auth {
            include!(concat!(env!("OUT_DIR"), "/istio.v1.auth.rs"));
        }
    }
}

pub mod tidegate {
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/tidegate.v1.rs"));

        impl std::fmt::Debug for Certificate {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("Certificate").field("secret", &self.secret).finish_non_exhaustive()
            }
        }
    }
}
