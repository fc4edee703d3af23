use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_policy::model::Peer;
use tidegate_policy::snapshot::Scope;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::origin::{Origin, Refusal};
use super::room::{Leave, Place, Presence, Room};
use super::seldom::Seldom;
use crate::config::HeaderSite;
use crate::http::{ConnectionContext, HttpServer, last_requests};
use crate::state::ProxyState;
use crate::telemetry::{Direction, RefusedConnection};
use crate::upstream::keepalive;
use crate::workers::Workers;
use crate::{inbound, intake, outbound};

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
    room: Arc<Room>,
    workers: Workers,
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
    pub(crate) fn new(proxy: Arc<ProxyState>, server: HttpServer, workers: Workers) -> Self {
        let room = Arc::new(Room::new(proxy.config.max_connections));
        Self { proxy, server: Arc::new(server), room, workers, refusals: Arc::default() }
    }

    /// Accepts until `stop`, whatever happens on the way. `stop` also drains the connections of this socket.
    pub(crate) async fn run(&self, listener: TcpListener, site: Site, stop: CancellationToken) {
        let accepting = async {
            let full = Seldom::default();
            loop {
                match listener.accept().await {
                    // Whoever has come first, so that nobody is asked to leave for a client that is not there.
                    Ok((stream, address)) => {
                        let leave = self.leave(&full).await;
                        self.spawn(stream, address, site, leave, stop.clone());
                    }
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

    /// Waits for leave to serve one more.
    async fn leave(&self, full: &Seldom) -> Option<Leave> {
        if let Some(leave) = self.room.try_leave() {
            return Some(leave);
        }
        if full.now() {
            let limit = self.proxy.config.max_connections;
            tracing::warn!(limit, "--max-connections reached; those longest without a request are closed");
        }
        self.room.leave().await
    }

    /// A place for one more connection that came by other ways than a socket of ours, if there is one now.
    pub(crate) fn try_enter(&self) -> Option<(Place, Arc<Presence>)> {
        self.room.try_leave().map(|leave| self.room.enter(Some(leave)))
    }

    /// Says which task such a place is for.
    pub(crate) fn seated(&self, guest: u64, task: AbortHandle) {
        self.room.seated(guest, task);
    }

    /// Takes what the kernel has already accepted for us: closing the socket would reset it.
    fn empty(&self, listener: TcpListener, site: Site, stop: &CancellationToken) {
        let Ok(listener) = listener.into_std() else { return };
        while let Some(leave) = self.room.try_leave() {
            let Ok((stream, address)) = listener.accept() else { return };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                self.spawn(stream, address, site, Some(leave), stop.clone());
            }
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        site: Site,
        leave: Option<Leave>,
        stop: CancellationToken,
    ) {
        // None only without any thread to serve it, and then nobody would be here.
        let Some((worker, seat)) = self.workers.seat() else { return };
        let Ok(stream) = Moved::to(worker, stream) else { return };
        let (place, presence) = self.room.enter(leave);
        let (acceptor, guest) = (self.clone(), place.guest());
        let serving = async move {
            // Each fails only on a socket that is gone already.
            if let Ok(stream) = stream.arrived() {
                acceptor.serve(stream, client, site, presence, stop).await;
            }
            drop((place, seat));
        };
        let task = self.proxy.connections.spawn_on(serving, worker);
        self.room.seated(guest, task.abort_handle());
    }

    async fn serve(
        &self,
        mut stream: TcpStream,
        client: SocketAddr,
        site: Site,
        presence: Arc<Presence>,
        stop: CancellationToken,
    ) {
        let Self { proxy, server, .. } = self;
        let headers = &proxy.config.accept_proxy_protocol;
        let header = Some(headers).filter(|headers| headers.expected_at(header_site(site.direction)));
        let found = async {
            match (site.scope, header) {
                (Scope::Outbound, header) => {
                    Origin::find(&mut stream, client, header, &proxy.listeners).await
                }
                (Scope::Inbound, header) => Origin::of_call(&mut stream, client, header).await,
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
        let scope = match (site.scope, origin.destination) {
            (Scope::Outbound, Some(address)) => Scope::OutboundTo(address),
            // Where the application has but one port, whatever leads here is for that.
            (Scope::Inbound, _) if proxy.config.local.apps.contains_key(&origin.reached.port()) => {
                Scope::InboundAt(origin.reached.port())
            }
            (scope, _) => scope,
        };
        let seed = proxy.config.played.map_or_else(crate::clock::seed, |played| played.seed);
        let mut context =
            ConnectionContext::new(proxy.clone(), scope, site.direction, (peer, origin.reached), seed);
        context.presence = presence;
        // Boxed, here and further on, what not every connection is: an idle one costs what it is and no more.
        match scope {
            Scope::Gateway(bind) => Box::pin(intake::serve(server, stream, bind, context, stop)).await,
            Scope::OutboundTo(address) => {
                Box::pin(outbound::serve(server, stream, address, context, stop)).await;
            }
            Scope::Inbound | Scope::InboundAt(_) if proxy.identity.is_some() => {
                if let Some(identity) = proxy.identity.clone() {
                    Box::pin(inbound::serve(server, stream, &identity, context, stop)).await;
                }
            }
            Scope::Inbound | Scope::InboundAt(_) if !intake::lets_in_to_app(&context, &stream) => {}
            Scope::Inbound | Scope::InboundAt(_) | Scope::Outbound => {
                server.serve(stream, context, stop).await;
            }
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

/// A connection on its way to the thread that will serve it: a socket belongs to the runtime that it was accepted in.
enum Moved {
    Here(TcpStream),
    There(StdStream),
}

impl Moved {
    fn to(worker: &Handle, stream: TcpStream) -> io::Result<Self> {
        if worker.id() == Handle::current().id() {
            return Ok(Self::Here(stream));
        }
        stream.into_std().map(Self::There)
    }

    fn arrived(self) -> io::Result<TcpStream> {
        match self {
            Self::Here(stream) => Ok(stream),
            Self::There(stream) => TcpStream::from_std(stream),
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
