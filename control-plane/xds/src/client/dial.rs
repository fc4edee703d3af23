//! The way to a control plane: plain, or secured by whoever knows how. TLS is none of this crate's business.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint, Error};

use super::grpc::CONNECT_TIMEOUT;

/// A silent connection is probed this often, and is dead when a probe stays unanswered for so long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub type Secured = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Takes a new connection through its handshake.
pub trait Secure: fmt::Debug + Send + Sync {
    fn secure(&self, stream: TcpStream) -> Secured;
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Dial {
    uri: Uri,
    endpoint: Endpoint,
    secure: Option<Arc<dyn Secure>>,
}

impl Dial {
    pub(super) fn new(uri: String) -> Result<Self, Error> {
        let endpoint = tuned(Endpoint::from_shared(uri)?);
        Ok(Self { uri: endpoint.uri().clone(), endpoint, secure: None })
    }

    /// Every connection goes through `secure`.
    ///
    /// # Errors
    /// The address is no authority.
    pub fn secured(self, secure: Arc<dyn Secure>) -> Result<Self, Error> {
        // TLS is not tonic's here; it would refuse the scheme.
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let endpoint = tuned(Endpoint::from_shared(format!("http://{authority}"))?);
        Ok(Self { endpoint, secure: Some(secure), ..self })
    }

    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// # Errors
    /// It cannot be reached, or the handshake failed.
    pub async fn connect(&self) -> Result<Channel, Error> {
        match &self.secure {
            None => self.endpoint.connect().await,
            Some(secure) => self.endpoint.connect_with_connector(Connector(secure.clone())).await,
        }
    }
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
}

#[derive(Clone)]
struct Connector(Arc<dyn Secure>);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let secure = self.0.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            let port = uri.port_u16().unwrap_or(443);
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            secure.secure(stream).await.map(TokioIo::new)
        })
    }
}
