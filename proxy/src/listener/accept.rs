use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_policy::model::Peer;
use tidegate_policy::snapshot::Scope;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::origin::{Origin, Refusal, canonical};
use super::seldom::Seldom;
use crate::http::{ConnectionContext, HttpServer};
use crate::state::ProxyState;
use crate::telemetry::{Direction, RefusedConnection};
use crate::upstream::keepalive;
use crate::{intake, outbound};

const BACKLOG: i32 = 1024;
/// Out of file descriptors or memory, accepting fails at once and for a while: this long a pause keeps it from
/// taking a whole core while connections that end make room.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    refusals: Arc<[Seldom; 2]>,
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
        Self { proxy, server: Arc::new(server), places, refusals: Arc::default() }
    }

    /// Accepts until `stop`, whatever happens on the way. `stop` also drains the connections of this socket.
    pub(crate) async fn run(&self, listener: TcpListener, site: Site, stop: CancellationToken) {
        let accepting = async {
            let full = Seldom::default();
            loop {
                let place = self.place(&full).await;
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
    async fn place(&self, full: &Seldom) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        if full.now() {
            let limit = self.proxy.config.max_connections;
            tracing::warn!(limit, "--max-connections reached; more wait until one ends");
        }
        // Fails only when closed, which nobody does.
        self.places.clone().acquire_owned().await.ok()
    }

    /// Leave for one more connection, if there is a place now.
    pub(crate) fn try_place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
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
        client: SocketAddr,
        site: Site,
        place: Option<OwnedSemaphorePermit>,
        stop: CancellationToken,
    ) {
        let acceptor = self.clone();
        self.proxy.connections.spawn(async move {
            // Fails only on a socket that is gone already, which serving it will notice.
            let _ = stream.set_nodelay(true);
            acceptor.serve(stream, client, site, stop).await;
            drop(place);
        });
    }

    async fn serve(&self, mut stream: TcpStream, client: SocketAddr, site: Site, stop: CancellationToken) {
        let Self { proxy, server, .. } = self;
        let mut origin = Origin { client: canonical(client), destination: None };
        if site.scope == Scope::Outbound {
            let header = proxy.config.accept_proxy_protocol;
            let found = tokio::select! {
                found = Origin::find(&mut stream, client, header, &proxy.listeners) => found,
                () = stop.cancelled() => return,
            };
            origin = match found {
                Ok(origin) => origin,
                Err(refusal) => return self.refuse(&refusal, client),
            };
        }
        let peer = Peer { address: origin.client, identity: None };
        let scope = origin.destination.map_or(site.scope, Scope::OutboundTo);
        let context =
            ConnectionContext::new(proxy.clone(), scope, site.direction, peer, crate::clock::seed());
        match scope {
            Scope::Gateway(bind) => intake::serve(server, stream, bind, context, stop).await,
            Scope::OutboundTo(address) => outbound::serve(server, stream, address, context, stop).await,
            Scope::Inbound | Scope::Outbound => server.serve(stream, context, stop).await,
        }
    }

    fn refuse(&self, refusal: &Refusal, client: SocketAddr) {
        let why = match refusal {
            Refusal::Header(_) | Refusal::Late => RefusedConnection::ProxyHeader,
            Refusal::Loop(_) => RefusedConnection::Loop,
        };
        self.proxy.telemetry.refused(why);
        if self.refusals[why as usize].now() {
            tracing::warn!(%client, %refusal, "connection to --outbound closed; more like it are only counted");
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
