//! Opening a TCP connection to an endpoint.

use std::io;
use std::time::Duration;

use tidegate_policy::Reason;
use tidegate_policy::model::Address;
use tokio::net::TcpStream;

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
    Ok(stream)
}
