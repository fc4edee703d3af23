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

use super::origin::{Origin, Refusal};
use super::seldom::Seldom;
use crate::config::HeaderSite;
use crate::http::{ConnectionContext, HttpServer, last_requests};
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
        let headers = &proxy.config.accept_proxy_protocol;
        let header = Some(headers).filter(|headers| headers.expected_at(header_site(site.direction)));
        let found = async {
            match (site.scope, header) {
                (Scope::Outbound, header) => {
                    Origin::find(&mut stream, client, header, &proxy.listeners).await
                }
                (_, Some(headers)) => Origin::told(&mut stream, client, headers).await,
                (_, None) => Origin::of_socket(&stream, client),
            }
        };
        let found = tokio::select! {
            biased;
            found = found => found,
            () = last_requests(&stop) => return,
        };
        let origin = match found {
            Ok(origin) => origin,
            Err(refusal) => return self.refuse(&refusal, client, site.direction),
        };
        let peer = Peer { address: origin.client, identity: None };
        let scope = origin.destination.map_or(site.scope, Scope::OutboundTo);
        let seed = crate::clock::seed();
        let context =
            ConnectionContext::new(proxy.clone(), scope, site.direction, (peer, origin.reached), seed);
        match scope {
            Scope::Gateway(bind) => intake::serve(server, stream, bind, context, stop).await,
            Scope::OutboundTo(address) => outbound::serve(server, stream, address, context, stop).await,
            Scope::Inbound | Scope::Outbound => server.serve(stream, context, stop).await,
        }
    }

    fn refuse(&self, refusal: &Refusal, client: SocketAddr, direction: Direction) {
        let why = match refusal {
            Refusal::Header(_) | Refusal::Late | Refusal::Sender(_) => RefusedConnection::ProxyHeader,
            Refusal::Loop(_) => RefusedConnection::Loop,
        };
        self.proxy.telemetry.refused(why);
        if self.refusals[why as usize].now() {
            let listener = direction.as_str();
            tracing::warn!(%client, listener, %refusal, "connection closed; more like it are only counted");
        }
    }
}

fn header_site(direction: Direction) -> HeaderSite {
    match direction {
        Direction::Inbound => HeaderSite::Inbound,
        Direction::Outbound => HeaderSite::Outbound,
        Direction::Gateway => HeaderSite::Gateway,
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
