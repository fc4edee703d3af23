//! `istio.v1.auth.IstioCertificateService`.

use std::sync::Arc;
use std::time::Duration;

use tidegate_identity::{IssueError, SpiffeId, Unauthenticated};
use tidegate_xds::ca::{
    AUTHORIZATION, IstioCertificateRequest, IstioCertificateResponse, IstioCertificateService,
    IstioCertificateServiceServer,
};
use tidegate_xds::server::grpc::Caller;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::Certifier;

const MAX_MESSAGE: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Service(Arc<Certifier>);

/// The service, ready to be added to a server.
pub(crate) fn service(certifier: Arc<Certifier>) -> IstioCertificateServiceServer<Service> {
    IstioCertificateServiceServer::new(Service(certifier)).max_decoding_message_size(MAX_MESSAGE)
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, extensions, asked) = request.into_parts();
        let by_tls = extensions.get::<Caller>().and_then(|caller| caller.identity.as_deref()?.parse().ok());
        let signed = self.sign(bearer(&metadata), by_tls, &asked).await;
        self.0.count(signed.is_ok());
        signed.map(Response::new)
    }
}

impl Service {
    async fn sign(
        &self,
        token: &str,
        by_tls: Option<SpiffeId>,
        asked: &IstioCertificateRequest,
    ) -> Result<IstioCertificateResponse, Status> {
        let caller = self.0.caller(token, by_tls).await.map_err(|why| {
            tracing::warn!(%why, "a caller without a name wanted a certificate");
            match why {
                Unauthenticated::Unavailable(_) => Status::unavailable(why.to_string()),
                _ => Status::unauthenticated(why.to_string()),
            }
        })?;
        let wished = Duration::from_secs(u64::try_from(asked.validity_duration).unwrap_or(0));
        let now = self.0.held().now();
        let issued = self.0.authority().issue(&asked.csr, &caller, wished, now).map_err(|why| {
            tracing::warn!(%caller, %why, "no certificate");
            match why {
                IssueError::Expired | IssueError::Failed(_) => Status::internal(why.to_string()),
                _ => Status::invalid_argument(why.to_string()),
            }
        })?;
        tracing::info!(%caller, "signed a certificate");
        Ok(IstioCertificateResponse { cert_chain: issued.chain, trust_bundle: issued.bundle })
    }
}

/// Empty without one.
fn bearer(metadata: &MetadataMap) -> &str {
    let value = metadata.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer ") => token.trim(),
        _ => "",
    }
}
