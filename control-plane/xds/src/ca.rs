//! Certificates by Istio's protocol: the generated client and server, for workloads that ask and for who is asked.

pub use generated::istio_certificate_service_client::IstioCertificateServiceClient;
pub use generated::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
pub use tidegate_proto::istio::v1::auth::{IstioCertificateRequest, IstioCertificateResponse};

/// The metadata that says who asks: `Bearer TOKEN`.
pub const AUTHORIZATION: &str = "authorization";

mod generated {
    #![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/istio.v1.auth.rs"));
}
