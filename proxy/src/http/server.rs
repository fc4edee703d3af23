//! One downstream connection: protocol, limits, drain. What happens to a request is in `handler`.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tidegate_policy::Reason;
use tidegate_policy::call::Limit;
use tidegate_policy::model::{AppProtocol, Peer};
use tidegate_policy::pick::PickContext;
use tidegate_policy::pipeline::Cut;
use tidegate_policy::snapshot::{Scope, Selected, Snapshot, Target};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::detect::{Version, detect};
use super::handler::{NoAnswer, handle};
use super::headers::client_address;
use super::overtime::Overtime;
use super::resets::Resets;
use super::response_body::ResponseBody;
use super::rest;
use super::wire::Wire;
use crate::clock::SEED_STEP;
use crate::listener::{HTTP_2, Presence, handshake};
use crate::proxy_protocol::Addresses;
use crate::state::ProxyState;
use crate::telemetry::{ConnectionSide, Direction};
use crate::upstream::Pools;

/// From the accept to the first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// When a drain begins, requests may be on their way on connections that look idle: these stay open for this long, and
/// every answer on them says that it is the last.
const LAST_REQUESTS: Duration = Duration::from_millis(500);
/// Of all headers together, as in most servers.
pub(crate) const MAX_HEADER_BYTES: u32 = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// Of what an HTTP/1 client has sent or will be sent, each.
const MAX_BUFFER: usize = 128 * 1024;
const MAX_STREAMS: u32 = 1_000;
/// Resets that hyper has not seen the request of yet (the rapid reset attack), and streams that broke the protocol,
/// before the connection is closed.
const MAX_PENDING_RESETS: usize = 20;
const MAX_BROKEN_STREAMS: usize = 1_024;
/// Of one response, waiting for the client to read.
const MAX_SEND_BUFFER: usize = 256 * 1024;
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// Bodies that their backends do not read share it with those that are read, so it is that of many streams; not of all,
/// as it is what one client can make us hold.
pub(crate) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What every request of one connection shares.
#[derive(Debug)]
pub(crate) struct ConnectionContext {
    pub(crate) proxy: Arc<ProxyState>,
    pub(crate) scope: Scope,
    pub(crate) direction: Direction,
    pub(crate) peer: Peer,
    /// Of the peer, as the next hop is told it.
    pub(super) client_address: HeaderValue,
    pub(crate) tls: Option<TlsSession>,
    pub(crate) presence: Arc<Presence>,
    /// The address that the client connected to.
    pub(crate) reached: SocketAddr,
    /// Connections to backends that are for this client alone, once there are any: they end with this one.
    own_pools: OnceLock<Arc<Pools>>,
    /// For requests to an address that is no Service's.
    passthrough: OnceLock<Selected>,
    /// What was said of the connection, where its first request was waited for before anybody was asked.
    pub(super) entered: OnceLock<Result<(), Cut>>,
    /// Where this connection's random numbers go on.
    seed: AtomicU64,
    /// The next answer is the last on this connection.
    last: AtomicBool,
    /// See [`Wire`].
    unread: Arc<AtomicBool>,
    pub(super) resets: Resets,
    /// Of the one request of an HTTP/1 connection.
    pub(super) overtime: Overtime,
}

/// What a TLS handshake has told.
#[derive(Debug)]
pub(crate) struct TlsSession {
    /// The name that the client asked for, if it did (RFC 6066, section 3).
    pub(crate) server_name: Option<Box<str>>,
}

/// The protocol servers, configured once for all listeners.
#[derive(Clone, Debug)]
pub(crate) struct HttpServer {
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl ConnectionContext {
    pub(crate) fn new(
        proxy: Arc<ProxyState>,
        scope: Scope,
        direction: Direction,
        (peer, reached): (Peer, SocketAddr),
        seed: u64,
    ) -> Self {
        Self {
            proxy,
            scope,
            direction,
            client_address: client_address(peer.address.ip()),
            peer,
            reached,
            tls: None,
            presence: Arc::default(),
            own_pools: OnceLock::new(),
            passthrough: OnceLock::new(),
            entered: OnceLock::new(),
            seed: AtomicU64::new(seed),
            last: AtomicBool::new(false),
            unread: Arc::default(),
            resets: Resets::default(),
            overtime: Overtime::new(),
        }
    }

    /// How long the client may take to send the head of a request, if a policy says so.
    pub(super) fn head_limit(&self) -> Option<Limit> {
        let server_name = self.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        self.proxy.store.load().head_limit(self.scope, server_name).cloned()
    }

    /// Tells that it has taken longer.
    pub(super) fn tell_late(&self, limit: &Limit) {
        let mut record = self.proxy.telemetry.stream(self.peer.clone(), self.reached, self.direction);
        record.decisions.extend(limit.reached(Reason::RequestTimeout));
        record.ended(Some(Reason::RequestTimeout));
    }

    /// Whether nothing is under way: no answer, and no body that was not read to its end.
    pub(super) fn is_settled(&self) -> bool {
        !self.presence.is_busy() && !self.unread.load(Ordering::Relaxed)
    }

    /// The address that this connection is for, if that is no Service's: no policy looks at what goes there, so it is
    /// passed on as it is written.
    pub(super) fn foreign(&self, snapshot: &Snapshot) -> Option<SocketAddr> {
        match self.scope {
            Scope::OutboundTo(address) => Some(address).filter(|address| !snapshot.serves(*address)),
            Scope::Gateway(_) | Scope::Inbound | Scope::InboundAt(_) | Scope::Outbound => None,
        }
    }

    /// Where a request of this connection goes.
    ///
    /// # Errors
    /// As [`Snapshot::route`].
    pub(super) fn route(&self, snapshot: &Snapshot, cx: &mut PickContext<'_>) -> Result<Selected, Reason> {
        let Some(address) = self.foreign(snapshot) else {
            return Selected::pick(snapshot.find(self.scope, cx.head)?, cx);
        };
        let http2 = cx.head.version == http::Version::HTTP_2;
        let same = if http2 { AppProtocol::H2c } else { AppProtocol::Http1 };
        Ok(self.passthrough.get_or_init(|| Selected::passthrough(address, same)).clone())
    }

    /// The connections that a request to `target` may use: where the backend is told whom a connection is for, those of
    /// this client.
    pub(super) fn pools(&self, target: &Target) -> &Pools {
        let told = target.backend.as_ref().is_ok_and(|backend| backend.proxy_protocol.is_some());
        if !told {
            return &self.proxy.pools;
        }
        let addresses = Addresses { source: self.peer.address, destination: self.reached };
        self.own_pools.get_or_init(|| self.proxy.pools.of_client(addresses))
    }

    /// Whether an HTTP/1 answer should say that it is the last.
    pub(super) fn is_last(&self) -> bool {
        self.last.load(Ordering::Relaxed)
    }

    /// The time that a drain leaves an HTTP/1 connection: unlike HTTP/2, it can say that a request was the last one only with
    /// an answer. `None` if the connection has not ended by then.
    pub(super) async fn last_requests<C>(&self, connection: C) -> Option<hyper::Result<()>>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        self.last.store(true, Ordering::Relaxed);
        tokio::time::timeout(LAST_REQUESTS, connection).await.ok()
    }

    /// Whether most of its requests were taken back at once.
    pub(crate) fn takes_back_too_much(&self) -> bool {
        self.resets.too_many()
    }

    /// Where else the same is to be had, as `alt-svc` tells it.
    pub(super) fn alternative(&self) -> Option<HeaderValue> {
        match self.scope {
            Scope::Gateway(bind) if self.tls.is_some() && self.proxy.config.http3 => {
                self.proxy.http3.of(bind)
            }
            _ => None,
        }
    }

    /// Whether the client may still be sending a body that nobody reads.
    pub(super) fn set_unread(&self, unread: bool) {
        self.unread.store(unread, Ordering::Relaxed);
    }

    /// A generator for one request, so that no two requests share a lock or a sequence.
    pub(crate) fn rng(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.fetch_add(SEED_STEP, Ordering::Relaxed))
    }
}

impl HttpServer {
    pub(crate) fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1
            // Ours does both: see `rest`.
            .header_read_timeout(None)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER)
            .max_header_size(MAX_HEADER_BYTES as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(MAX_STREAMS)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_local_error_reset_streams(MAX_BROKEN_STREAMS)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        Self { http1, http2 }
    }

    /// Serves `stream` until it ends; after `drain`, no longer than its requests in flight last.
    pub(crate) async fn serve(
        &self,
        stream: TcpStream,
        context: ConnectionContext,
        drain: CancellationToken,
    ) {
        let first = tokio::select! {
            first = tokio::time::timeout(FIRST_BYTES, detect(&stream)) => first,
            () = last_requests(&drain) => return,
        };
        let Ok(Ok(version)) = first else { return };
        let wire = Wire::new(stream, context.unread.clone(), context.proxy.config.stall_timeout);
        self.exchange(wire, version, context, drain).await;
    }

    /// The same for a client that begins with TLS; ALPN says which HTTP follows.
    pub(crate) async fn serve_tls(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        acceptor: &TlsAcceptor,
        mut context: ConnectionContext,
        drain: CancellationToken,
    ) {
        let wire = Wire::new(stream, context.unread.clone(), context.proxy.config.stall_timeout);
        let shaken = tokio::select! {
            shaken = handshake(acceptor, wire) => shaken,
            () = last_requests(&drain) => return,
        };
        let stream = match shaken {
            Ok(stream) => stream,
            Err(error) => {
                return tracing::debug!(%error, peer = %context.peer.address, "TLS handshake failed");
            }
        };
        let (_, session) = stream.get_ref();
        let version = if session.alpn_protocol() == Some(HTTP_2) { Version::Http2 } else { Version::Http1 };
        context.tls = Some(TlsSession { server_name: session.server_name().map(Into::into) });
        self.exchange(stream, version, context, drain).await;
    }

    /// The same where it is known what comes, over a connection that is secured already.
    pub(crate) async fn serve_known(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        version: Version,
        context: ConnectionContext,
        drain: CancellationToken,
    ) {
        let wire = Wire::new(stream, context.unread.clone(), context.proxy.config.stall_timeout);
        self.exchange(wire, version, context, drain).await;
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        version: Version,
        context: ConnectionContext,
        drain: CancellationToken,
    ) {
        let _counted = context.proxy.telemetry.connection(ConnectionSide::Downstream);
        let context = Arc::new(context);
        let ours = context.clone();
        let ended = match version {
            Version::Http1 => rest::serve(&self.http1, stream, &context, &drain).await,
            Version::Http2 => {
                // Boxed, because hyper moves each into a task of its own, and several times on the way.
                let service = service_fn(move |request| Box::pin(answer(ours.clone(), request)));
                let connection = self.http2.serve_connection(TokioIo::new(stream), service);
                Box::pin(drive(connection, |c| c.graceful_shutdown(), &context, &drain)).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "downstream connection ended");
        }
    }
}

/// Returns when the time for last requests, after the beginning of a drain, is over.
pub(crate) async fn last_requests(drain: &CancellationToken) {
    drain.cancelled().await;
    tokio::time::sleep(LAST_REQUESTS).await;
}

pub(super) async fn answer(
    context: Arc<ConnectionContext>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, NoAnswer> {
    let response = handle(&context, request).await;
    response.extensions().get().map_or(Ok(()), |none: &NoAnswer| Err(*none))?;
    Ok(response)
}

/// Runs an HTTP/2 connection to its end; once `drain` has come, no longer than its requests in flight last.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    context: &ConnectionContext,
    drain: &CancellationToken,
) -> hyper::Result<()> {
    let (mut connection, mut drained) = (pin!(connection), pin!(drain.cancelled()));
    let ended = poll_fn(|cx| match connection.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Some(ended)),
        Poll::Pending if context.resets.too_many() => {
            tracing::debug!(client = %context.peer.address, "too many requests taken back; closing");
            Poll::Ready(Some(Ok(())))
        }
        Poll::Pending => drained.as_mut().poll(cx).map(|()| None),
    });
    if let Some(ended) = ended.await {
        return ended;
    }
    context.last.store(true, Ordering::Relaxed);
    // It says which request was the last one taken, so nothing is to be waited for.
    shut_down(connection.as_mut());
    connection.await
}

#[cfg(test)]
pub(super) mod tests;
