//! The gRPC port: by TLS where there is an authority, and plain where there is none, or for who is on this machine.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, stream};
use tidegate_identity::dial::GRPC;
use tidegate_identity::tls::{self, Clients, peer_id};
use tidegate_xds::server::grpc::Caller;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::Certifier;

/// From the accept to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes under way; those beyond wait in the listen queue.
const HANDSHAKES: usize = 1_024;
const READY: usize = 64;
/// After an accept error such as "too many open files", which a busy loop would only make worse.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// What a TLS client begins with (RFC 8446, section 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// A connection of a proxy.
#[derive(Debug)]
pub(crate) struct Connection {
    io: Io,
    caller: Caller,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Every connection that may come in, until the shutdown.
pub(crate) fn incoming(
    listener: TcpListener,
    certifier: Option<&Arc<Certifier>>,
    shutdown: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let config = certifier.map(|one| Arc::new(tls::server(one.held(), Clients::Any, &[GRPC])));
    let (ready, queue) = mpsc::channel(READY);
    tokio::spawn(async move {
        shutdown.run_until_cancelled(accept(listener, config.map(Into::into), ready)).await
    });
    stream::unfold(queue, async |mut queue: mpsc::Receiver<_>| Some((Ok(queue.recv().await?), queue)))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, ready: mpsc::Sender<Connection>) {
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(turn) = room.clone().acquire_owned().await else { return };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a proxy's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            let opened = timeout(HANDSHAKE, open(stream, client, tls)).await;
            drop(turn);
            match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                // Fails only when nobody serves any more.
                Ok(connection) => drop(ready.send(connection).await),
                Err(error) => tracing::debug!(%client, %error, "a proxy's connection came to nothing"),
            }
        });
    }
}

async fn open(stream: TcpStream, client: SocketAddr, tls: Option<TlsAcceptor>) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Connection::plain(stream)) };
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if first != [HANDSHAKE_RECORD] {
        if client.ip().to_canonical().is_loopback() {
            return Ok(Connection::plain(stream));
        }
        tracing::warn!(%client, "refused: from another machine, proxies come by TLS");
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let stream = tls.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let identity = shown.and_then(peer_id).map(|id| id.to_string().into());
    Ok(Connection { io: Io::Tls(Box::new(stream)), caller: Caller { identity } })
}

impl Connection {
    fn plain(stream: TcpStream) -> Self {
        Self { io: Io::Plain(stream), caller: Caller::default() }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
