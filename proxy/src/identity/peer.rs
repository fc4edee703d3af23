//! Calling a proxy of the mesh: by mTLS to whom it must be, or not at all.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use tidegate_identity::SpiffeId;
use tidegate_identity::dial::nobody;
use tidegate_identity::tls::{self, Expected};
use tidegate_policy::Reason;
use tidegate_policy::model::MeshPeer;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{CARRIED, HTTP_1, HTTP_2, WorkloadIdentity};
use crate::upstream::{Protocol, tls_failure};

/// Opens connections to one peer.
pub(crate) struct MeshConnector {
    identity: Arc<WorkloadIdentity>,
    config: Arc<ClientConfig>,
    protocol: &'static [u8],
}

impl MeshConnector {
    /// `protocol`: `None` for bytes that are only carried.
    ///
    /// # Errors
    /// [`Reason::NoIdentity`]: this proxy has nothing to show, and is not about to. [`Reason::UpstreamTlsInvalid`]: nobody can
    /// have the identity that is asked for.
    pub(crate) fn new(
        identity: Option<&Arc<WorkloadIdentity>>,
        peer: &MeshPeer,
        protocol: Option<Protocol>,
    ) -> Result<Self, Reason> {
        let identity = identity.ok_or(Reason::NoIdentity)?;
        let domain = &identity.held.trust_domain;
        let ids = peer.service_accounts.iter();
        let ids = ids.map(|account| SpiffeId::new(domain.clone(), &account.namespace, &account.name));
        let ids: Result<_, _> = ids.collect();
        let expected = Expected(ids.map_err(|_| Reason::UpstreamTlsInvalid)?);
        let protocol = match protocol {
            Some(Protocol::Http2) => HTTP_2,
            Some(Protocol::Http1) => HTTP_1,
            None => CARRIED,
        };
        let config = Arc::new(tls::client(&identity.held, expected, None, &[protocol]));
        Ok(Self { identity: identity.clone(), config, protocol })
    }

    /// Takes a connection through its handshake.
    ///
    /// # Errors
    /// [`Reason::NoIdentity`], [`Reason::UpstreamTlsUntrusted`] or [`Reason::UpstreamTlsFailed`]; the details go to the log.
    pub(crate) async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Reason> {
        if self.identity.held.usable().is_none() {
            return Err(Reason::NoIdentity);
        }
        let peer = stream.peer_addr().ok();
        let connecting = TlsConnector::from(self.config.clone()).connect(nobody(), stream);
        let stream = connecting.await.map_err(|error| {
            tracing::debug!(?peer, %error, "mTLS handshake failed");
            tls_failure(&error)
        })?;
        if stream.get_ref().1.alpn_protocol() != Some(self.protocol) {
            tracing::debug!(?peer, "what answers there is no proxy of the mesh");
            return Err(Reason::UpstreamTlsFailed);
        }
        Ok(stream)
    }
}

impl fmt::Debug for MeshConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshConnector").finish_non_exhaustive()
    }
}
