//! One client connection, HTTP/1.1 or HTTP/2, plain or TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::body::Body;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1 with keep-alive
    H1,
    /// HTTP/2 with prior knowledge
    H2,
}

/// Sends requests on one connection. Of an HTTP/2 connection there may be many.
#[derive(Debug)]
pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// Where and how to connect.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<TlsConnector>,
}

/// A TLS 1.3 client that trusts the certificates in `ca` and makes a whole handshake each time.
pub(crate) fn tls(ca: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(|| ca.display().to_string())? {
        roots.add(certificate?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Target {
    pub(crate) async fn connect(&self) -> anyhow::Result<Sender> {
        self.speak(TcpStream::connect(self.address).await?).await
    }

    /// From this address of our own: each address has ports of its own to use up.
    pub(crate) async fn connect_from(&self, own: Ipv4Addr) -> anyhow::Result<Sender> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((own, 0)))?;
        self.speak(socket.connect(self.address).await?).await
    }

    async fn speak(&self, stream: TcpStream) -> anyhow::Result<Sender> {
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.handshake(stream).await,
            Some(tls) => {
                let name = ServerName::try_from("localhost")?;
                self.handshake(tls.connect(name, stream).await?).await
            }
        }
    }

    async fn handshake<I>(&self, io: I) -> anyhow::Result<Sender>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Ok(match self.protocol {
            Protocol::H1 => {
                let (sender, connection) = http1::handshake(TokioIo::new(io)).await?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Protocol::H2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        })
    }
}

impl Sender {
    async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the answer to its end: its status.
    ///
    /// # Errors
    /// The connection broke, or a gRPC call was answered 200 without the status OK in its trailers.
    pub(crate) async fn call(&mut self, request: Request<Body>) -> anyhow::Result<u16> {
        let grpc = request.headers().contains_key("te");
        let response = self.send(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut outcome = None;
        while let Some(frame) = body.frame().await {
            if let Ok(trailers) = frame?.into_trailers() {
                outcome = trailers.get("grpc-status").cloned();
            }
        }
        ensure!(!grpc || status != 200 || outcome.is_some_and(|outcome| outcome == "0"), "no grpc-status 0");
        Ok(status)
    }

    /// Another sender on the same connection, where the protocol has such.
    pub(crate) fn another(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}
