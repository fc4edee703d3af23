//! The client's end of TLS to a control plane, for connections that somebody else opens.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tidegate_xds::client::dial::{Secure, Secured, Stream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::credentials::Held;
use crate::spiffe::SpiffeId;
use crate::tls::{self, Expected, FixedRoots};

/// HTTP/2, for gRPC.
pub const GRPC: &[u8] = b"h2";

/// Whom a client asks for: nobody, for the other side is known by its identity. It is not sent.
pub fn nobody() -> ServerName<'static> {
    IpAddr::V4(Ipv4Addr::LOCALHOST).into()
}

/// To the control plane of our trust domain, and to nobody else; shows what is held.
#[derive(Clone)]
pub struct ByTls(Arc<ClientConfig>, ServerName<'static>);

impl ByTls {
    pub fn new(held: &Arc<Held>, fixed: Option<FixedRoots>) -> Self {
        let expected = Expected(vec![SpiffeId::control_plane(held.trust_domain.clone())]);
        Self(Arc::new(tls::client(held, expected, fixed, &[GRPC])), nobody())
    }
}

impl ByTls {
    /// To whoever signs in the control plane's stead: known by the name of its host, as servers on the web are.
    ///
    /// # Errors
    /// `host` is no name.
    pub fn to_host(held: &Arc<Held>, roots: &FixedRoots, host: &str) -> Result<Self, String> {
        let name =
            ServerName::try_from(host.to_owned()).map_err(|_| format!("`{host}` is no name of a host"))?;
        Ok(Self(Arc::new(tls::client_of_host(held, roots, &[GRPC])), name))
    }
}

impl Secure for ByTls {
    fn secure(&self, stream: TcpStream) -> Secured {
        let connecting = TlsConnector::from(self.0.clone()).connect(self.1.clone(), stream);
        Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Stream>) })
    }
}

/// Whether an address is one of this machine, where nobody else listens in.
pub fn is_loopback(host: &str) -> bool {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl std::fmt::Debug for ByTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByTls").finish_non_exhaustive()
    }
}
