//! Opening a connection to an endpoint.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tidegate_policy::Reason;
use tidegate_policy::model::Address;
use tidegate_policy::snapshot::TlsSettings;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::pool::Protocol;
use super::tls::{Connector, UpstreamStream, made};
use crate::identity::MeshConnector;

/// A connection on which nothing comes for this long is asked whether its peer is still there.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// For sockets on both sides of the proxy.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY)
}

/// Connects within `limit`, name resolution included, and sends `first`: before anything else, TLS too.
///
/// # Errors
/// [`Reason::ConnectTimeout`] or [`Reason::ConnectFailed`]; the details go to the log.
pub(crate) async fn connect(address: &Address, limit: Duration, first: &[u8]) -> Result<TcpStream, Reason> {
    within(address, limit, reach(address, first)).await
}

/// The same by TLS, handshake included.
///
/// # Errors
/// The same, [`Reason::UpstreamTlsUntrusted`] or [`Reason::UpstreamTlsFailed`].
pub(super) async fn connect_tls(
    address: &Address,
    limit: Duration,
    first: &[u8],
    (connector, protocol): (&Connector, Option<Protocol>),
) -> Result<TlsStream<TcpStream>, Reason> {
    let opening = async { connector.handshake(reach(address, first).await?, protocol).await };
    within(address, limit, opening).await
}

/// For bytes of any kind; by TLS where there are settings for it.
///
/// # Errors
/// The same, or [`Reason::UpstreamTlsInvalid`] for settings that cannot be used.
pub(crate) async fn connect_opaque(
    address: &Address,
    limit: Duration,
    first: &[u8],
    tls: Option<&TlsSettings>,
) -> Result<UpstreamStream, Reason> {
    connect_speaking(address, limit, first, (tls, None)).await
}

/// The same, where by TLS this protocol is agreed upon.
///
/// # Errors
/// The same.
pub(crate) async fn connect_speaking(
    address: &Address,
    limit: Duration,
    first: &[u8],
    (tls, protocol): (Option<&TlsSettings>, Option<Protocol>),
) -> Result<UpstreamStream, Reason> {
    let Some(settings) = tls else { return connect(address, limit, first).await.map(UpstreamStream::Plain) };
    match &*made(settings) {
        Ok(connector) => {
            let stream = connect_tls(address, limit, first, (connector, protocol)).await?;
            Ok(UpstreamStream::Tls(Box::new(stream)))
        }
        Err(_) => Err(Reason::UpstreamTlsInvalid),
    }
}

/// To a proxy of the mesh, handshake included.
///
/// # Errors
/// The same, or [`Reason::NoIdentity`].
pub(crate) async fn connect_mesh(
    address: &Address,
    limit: Duration,
    first: &[u8],
    connector: &MeshConnector,
) -> Result<UpstreamStream, Reason> {
    let opening = async { connector.handshake(reach(address, first).await?).await };
    let stream = within(address, limit, opening).await?;
    Ok(UpstreamStream::Tls(Box::new(stream)))
}

async fn within<T>(
    address: &Address,
    limit: Duration,
    opening: impl Future<Output = Result<T, Reason>>,
) -> Result<T, Reason> {
    tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
        tracing::debug!(%address, ?limit, "connect timed out");
        Err(Reason::ConnectTimeout)
    })
}

async fn reach(address: &Address, first: &[u8]) -> Result<TcpStream, Reason> {
    let opened = async {
        let mut stream = open(address).await?;
        if !first.is_empty() {
            stream.write_all(first).await?;
        }
        Ok(stream)
    };
    opened.await.map_err(|error: io::Error| {
        tracing::debug!(%address, %error, "connect failed");
        Reason::ConnectFailed
    })
}

async fn open(address: &Address) -> io::Result<TcpStream> {
    let stream = match address {
        Address::Socket(address) => TcpStream::connect(address).await?,
        Address::Name { host, port } => TcpStream::connect((&**host, *port)).await?,
    };
    // Frames and heads are written whole; waiting for more only adds latency.
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    Ok(stream)
}
