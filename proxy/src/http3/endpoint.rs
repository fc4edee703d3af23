//! A UDP socket: who may begin a connection, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use h3::error::Code;
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};
use tidegate_policy::model::Peer;
use tidegate_policy::snapshot::{BindAddress, Intake, Scope};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, MAX_REQUESTS};
use super::quic::number;
use crate::http::{CONNECTION_WINDOW, ConnectionContext, STREAM_WINDOW, TlsSession, last_requests};
use crate::listener::{Acceptor, HANDSHAKE, Presence, canonical};
use crate::state::ProxyState;
use crate::telemetry::Direction;

/// Handshakes at a time, beyond which a client must first show that it can be reached at the address it claims (RFC
/// 9000, section 8.1.2). It costs one round trip, so not before there is a need.
const UNASKED: usize = 64;
/// Waiting to be looked at; beyond, they are dropped, and tried again by their clients.
const MAX_INCOMING: usize = 1_024;
/// Of all of those together.
const MAX_INCOMING_BYTES: u64 = 4 * 1024 * 1024;
/// Control, two for QPACK, and some of kinds that we do not know and turn away.
const MAX_UNIDIRECTIONAL: u32 = 8;
/// When a client that says nothing more is taken for gone. While it is there, [`PING_EVERY`] keeps the path open.
const GONE: VarInt = VarInt::from_u32(60_000);
const PING_EVERY: Duration = Duration::from_secs(20);
/// For telling clients of the end.
const FAREWELL: Duration = Duration::from_millis(500);
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// One socket for HTTP/3.
pub(crate) struct Endpoint {
    quic: quinn::Endpoint,
    /// Without the TLS of the moment.
    config: ServerConfig,
    acceptor: Acceptor,
    bind: BindAddress,
    /// Handshakes that are under way.
    shaking: Arc<AtomicUsize>,
    connections: TaskTracker,
}

/// How TLS is spoken there, if HTTP/3 is: only where every connection is for requests, and so is looked at by the same
/// rules as over TCP.
pub(crate) fn tls(proxy: &ProxyState, bind: BindAddress) -> Option<Arc<QuicServerConfig>> {
    let requests = proxy.store.load().intake(bind) == Some(Intake::Requests);
    proxy.store.tls_of_quic(bind).filter(|_| requests)
}

impl Endpoint {
    /// Takes the address that a listener has for TCP. Must be called inside of the runtime that moves traffic.
    ///
    /// # Errors
    /// Of the system: the port is taken.
    pub(crate) fn open(
        address: SocketAddr,
        bind: BindAddress,
        acceptor: Acceptor,
        tls: Arc<QuicServerConfig>,
    ) -> io::Result<Self> {
        let config = server_config(tls);
        let (socket, settings) = (reserve(address)?, EndpointConfig::default());
        let quic = quinn::Endpoint::new(settings, Some(config.clone()), socket, Arc::new(TokioRuntime))?;
        let connections = TaskTracker::new();
        Ok(Self { quic, config, acceptor, bind, shaking: Arc::default(), connections })
    }

    /// Takes connections until `stop`, which also drains those that are there.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                incoming = self.quic.accept() => match incoming {
                    Some(incoming) => self.admit(incoming, &stop),
                    None => return,
                },
                () = &mut stopped => break,
            }
        }
        self.drain().await;
    }

    async fn drain(self) {
        self.connections.close();
        let refused = async {
            while let Some(incoming) = self.quic.accept().await {
                incoming.refuse();
            }
        };
        let limit = self.acceptor.proxy.config.drain_timeout;
        tokio::select! {
            () = refused => {}
            _ = tokio::time::timeout(limit, self.connections.wait()) => {}
        }
        self.quic.close(number(Code::H3_NO_ERROR), b"");
        // It is only a courtesy.
        let _ = tokio::time::timeout(FAREWELL, self.quic.wait_idle()).await;
    }

    fn admit(&self, incoming: Incoming, stop: &CancellationToken) {
        let proxy = &self.acceptor.proxy;
        if !incoming.remote_address_validated() && self.shaking.load(Ordering::Relaxed) >= UNASKED {
            // Fails only for an address that is validated.
            let _ = incoming.retry();
            return;
        }
        // Where there is no place, TCP can wait for one.
        let (Some(tls), Some((place, presence)), Ok(local)) =
            (tls(proxy, self.bind), self.acceptor.try_enter(), self.quic.local_addr())
        else {
            return incoming.refuse();
        };
        let mut config = self.config.clone();
        config.crypto = tls;
        let shaking = Shaking::one_of(&self.shaking);
        let (proxy, stop, guest) = (proxy.clone(), stop.clone(), place.guest());
        let site = (self.bind, local, presence);
        let serving = self.connections.track_future(async move {
            serve(proxy, site, (incoming, config), shaking, stop).await;
            drop(place);
        });
        let task = self.acceptor.proxy.connections.spawn(serving);
        self.acceptor.seated(guest, task.abort_handle());
    }
}

async fn serve(
    proxy: Arc<ProxyState>,
    (bind, local, presence): (BindAddress, SocketAddr, Arc<Presence>),
    (incoming, config): (Incoming, ServerConfig),
    shaking: Shaking,
    stop: CancellationToken,
) {
    let client = incoming.remote_address();
    let shaken = async { incoming.accept_with(Arc::new(config))?.await };
    let quic = tokio::select! {
        shaken = tokio::time::timeout(HANDSHAKE, shaken) => match shaken {
            Ok(Ok(quic)) => quic,
            Ok(Err(error)) => return tracing::debug!(%error, peer = %client, "QUIC handshake failed"),
            Err(_late) => return,
        },
        () = last_requests(&stop) => return,
    };
    drop(shaking);
    let peer = Peer { address: canonical(client), identity: None };
    let scope = Scope::Gateway(bind);
    let reached = SocketAddr::new(quic.local_ip().unwrap_or(local.ip()), local.port());
    let mut context =
        ConnectionContext::new(proxy, scope, Direction::Gateway, (peer, reached), crate::clock::seed());
    context.presence = presence;
    let told = quic.handshake_data().and_then(|data| data.downcast::<HandshakeData>().ok());
    let server_name = told.and_then(|data| data.server_name).map(Into::into);
    context.tls = Some(TlsSession { server_name });
    connection::serve(quic, context, stop).await;
}

/// A handshake that is under way.
struct Shaking(Arc<AtomicUsize>);

impl Shaking {
    fn one_of(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(all.clone())
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Exclusively: two sockets that share a UDP port would each get some packets of every connection.
fn reserve(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    // One socket takes what thousands of connections send; the system may give less.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    Ok(socket.into())
}

fn server_config(tls: Arc<QuicServerConfig>) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(MAX_REQUESTS.into())
        .max_concurrent_uni_streams(MAX_UNIDIRECTIONAL.into())
        .stream_receive_window(STREAM_WINDOW.into())
        .receive_window(CONNECTION_WINDOW.into())
        .send_window(CONNECTION_WINDOW.into())
        .max_idle_timeout(Some(IdleTimeout::from(GONE)))
        .keep_alive_interval(Some(PING_EVERY))
        .datagram_receive_buffer_size(None);
    let mut config = ServerConfig::with_crypto(tls);
    config
        .transport_config(Arc::new(transport))
        // Policies judge a client by the address from which it connected.
        .migration(false)
        .max_incoming(MAX_INCOMING)
        .incoming_buffer_size_total(MAX_INCOMING_BYTES);
    config
}
