use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_policy::model::Peer;
use tidegate_policy::snapshot::Scope;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::http::{ConnectionContext, HttpServer};
use crate::state::ProxyState;
use crate::telemetry::Direction;
use crate::upstream::keepalive;

const BACKLOG: i32 = 1024;
/// Out of file descriptors or memory, accepting fails at once and for a while: this long a pause keeps it from
/// taking a whole core while connections that end make room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two lines in the log that say the same.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Which traffic a socket is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) scope: Scope,
    pub(crate) direction: Direction,
}

/// Turns accepted connections into tasks.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor {
    pub(crate) proxy: Arc<ProxyState>,
    server: Arc<HttpServer>,
    /// One for every connection that may be open, shared by all sockets.
    places: Arc<Semaphore>,
}

/// Takes an address without listening on it yet: who connects is refused. An IPv6 wildcard takes IPv4 as well.
///
/// # Errors
/// Of the system: the port is taken, or needs a privilege.
pub(crate) fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted proxy must not wait for the old one's connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    // What is accepted inherits both. A peer that is gone without a word is noticed even where nobody waits for it.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive())?;
    Ok(socket)
}

/// Listens on a reserved address.
///
/// # Errors
/// Of the system: somebody else who had reserved the port was faster to listen.
pub(crate) fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Opens a listening socket.
///
/// # Errors
/// As [`reserve`].
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    listen(reserve(address)?)
}

impl Acceptor {
    pub(crate) fn new(proxy: Arc<ProxyState>, server: HttpServer) -> Self {
        let places = Arc::new(Semaphore::new(proxy.config.max_connections));
        Self { proxy, server: Arc::new(server), places }
    }

    /// Accepts until `stop`, whatever happens on the way. `stop` also drains the connections of this socket.
    pub(crate) async fn run(&self, listener: TcpListener, site: Site, stop: CancellationToken) {
        let accepting = async {
            let mut warned = None;
            loop {
                let place = self.place(&mut warned).await;
                match listener.accept().await {
                    Ok((stream, address)) => self.spawn(stream, address, site, place, stop.clone()),
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept; trying again");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            never = accepting => never,
            () = stop.cancelled() => {}
        }
        self.empty(listener, site, &stop);
    }

    /// Waits for leave to accept one more.
    async fn place(&self, warned: &mut Option<Instant>) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        if warned.is_none_or(|then| then.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            let limit = self.proxy.config.max_connections;
            tracing::warn!(limit, "--max-connections reached; more wait until one ends");
        }
        // Fails only when closed, which nobody does.
        self.places.clone().acquire_owned().await.ok()
    }

    /// Takes what the kernel has already accepted for us: closing the socket would reset it.
    fn empty(&self, listener: TcpListener, site: Site, stop: &CancellationToken) {
        let Ok(listener) = listener.into_std() else { return };
        while let Ok(place) = self.places.clone().try_acquire_owned() {
            let Ok((stream, address)) = listener.accept() else { return };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.spawn(stream, address, site, Some(place), stop.clone());
            }
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        site: Site,
        place: Option<OwnedSemaphorePermit>,
        stop: CancellationToken,
    ) {
        // Fails only on a socket that is gone already, which serving it will notice.
        let _ = stream.set_nodelay(true);
        let context = ConnectionContext::new(
            self.proxy.clone(),
            site.scope,
            site.direction,
            peer(address),
            crate::clock::seed(),
        );
        let server = self.server.clone();
        let tls = match site.scope {
            Scope::Gateway(bind) => self.proxy.store.tls(bind),
            Scope::Inbound | Scope::Outbound => None,
        };
        self.proxy.connections.spawn(async move {
            match tls {
                Some(tls) => server.serve_tls(stream, &tls, context, stop).await,
                None => server.serve(stream, context, stop).await,
            }
            drop(place);
        });
    }
}

/// An IPv4 client of a socket for both families is the same client as on one for IPv4 alone: to a limit by address, and
/// to who reads the log.
fn peer(address: SocketAddr) -> Peer {
    Peer { address: SocketAddr::new(address.ip().to_canonical(), address.port()), identity: None }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_client_is_told_by_its_ipv4_address() {
        let told = |address: &str| peer(address.parse().unwrap()).address.to_string();
        assert_eq!(told("[::ffff:192.0.2.7]:4000"), "192.0.2.7:4000");
        assert_eq!(told("[2001:db8::7]:4000"), "[2001:db8::7]:4000");
    }
}
