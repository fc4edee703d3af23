//! Opening a TCP connection to an endpoint.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tidegate_policy::Reason;
use tidegate_policy::model::Address;
use tokio::net::TcpStream;

/// A connection on which nothing comes for this long is asked whether its peer is still there.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// For sockets on both sides of the proxy.
pub(crate) fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY)
}

/// Connects within `limit`, name resolution included.
///
/// # Errors
/// [`Reason::ConnectTimeout`] or [`Reason::ConnectFailed`]; the details go to the log.
pub(crate) async fn connect(address: &Address, limit: Duration) -> Result<TcpStream, Reason> {
    match tokio::time::timeout(limit, open(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            tracing::debug!(%address, %error, "connect failed");
            Err(Reason::ConnectFailed)
        }
        Err(_) => {
            tracing::debug!(%address, ?limit, "connect timed out");
            Err(Reason::ConnectTimeout)
        }
    }
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
