//! Envoy's rate limit service: the generated client and server, for proxies that ask one and for who is asked.

pub use generated::rate_limit_service_client::RateLimitServiceClient;
pub use generated::rate_limit_service_server::{RateLimitService, RateLimitServiceServer};

pub use tidegate_proto::envoy::config::core::v3::HeaderValue;
pub use tidegate_proto::envoy::extensions::common::ratelimit::v3::{
    RateLimitDescriptor, rate_limit_descriptor::Entry,
};
pub use tidegate_proto::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, RateLimit, rate_limit::Unit,
};
pub use tidegate_proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

mod generated {
    #![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/envoy.service.ratelimit.v3.rs"));
}
