//! A real HTTP server on loopback that misbehaves on demand, request by request.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls::{HandshakeKind, ServerConfig};
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::body::{TestBody, streaming};

mod tunnel;

/// Only a test that is broken waits this long.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTION_WINDOW: u32 = 1 << 26;

/// See the module. HTTP/1.1 and HTTP/2 with prior knowledge. Stops when dropped.
#[derive(Debug)]
pub struct FaultBackend {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// How a request came in by TLS: among the extensions of its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenTls {
    pub server_name: Option<String>,
    pub alpn: Option<Vec<u8>>,
    /// The client's own certificate, in DER.
    pub shown: Option<Vec<u8>>,
    /// The session was one of an earlier connection.
    pub resumed: bool,
}

/// What to do with one request.
#[derive(Clone, Debug)]
pub enum Script {
    Reply(Reply),
    /// Sends the request's body and trailers back as they come.
    Echo,
    /// The same as the other, once it has been notified.
    After(Arc<Notify>, Box<Self>),
    /// Opens the tunnel that is asked for (an upgrade, CONNECT or extended CONNECT), and sends back what comes in it.
    Tunnel,
    /// Never answers.
    Hang,
    /// Resets the connection before a byte of the answer.
    Reset,
    /// Closes the connection in order, before a byte of the answer.
    Close,
    /// Reads the request's body until it ends or breaks, then resets the connection.
    ReadThenReset,
    /// Sends a body that is longer than this, and breaks off after this much once notified.
    Cut(Bytes, Arc<Notify>),
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Announces extended CONNECT (RFC 8441).
    extended_connect: bool,
    scripts: Mutex<VecDeque<Script>>,
    default: Mutex<Option<Script>>,
    seen: Mutex<Vec<request::Parts>>,
    counts: watch::Sender<Counts>,
    /// Told to all connections.
    hang_up: Notify,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub connections: usize,
    /// Of these, still open.
    pub open: usize,
    pub requests: usize,
    /// Tunnels that are open.
    pub tunnels: usize,
    /// Requests whose answer was no longer wanted before it was given.
    pub cancelled: usize,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Reset,
    Close,
}

impl FaultBackend {
    /// On a free port; answers 200 with an empty body until told otherwise.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn start() -> Self {
        Self::listen(None, false).await
    }

    /// The same, and takes WebSockets over HTTP/2.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn start_with_tunnels() -> Self {
        Self::listen(None, true).await
    }

    /// The same, by TLS.
    ///
    /// # Panics
    /// Without a free port.
    pub async fn start_tls(config: Arc<ServerConfig>) -> Self {
        Self::listen(Some(TlsAcceptor::from(config)), false).await
    }

    async fn listen(tls: Option<TlsAcceptor>, extended_connect: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { extended_connect, ..Shared::default() });
        let task = tokio::spawn(accept(listener, shared.clone(), tls));
        Self { address, shared, task }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to do with the next request that no earlier script is for.
    pub fn push(&self, script: Script) -> &Self {
        self.shared.scripts.lock().push_back(script);
        self
    }

    /// What to do with every request that no script is left for.
    pub fn always(&self, script: Script) -> &Self {
        *self.shared.default.lock() = Some(script);
        self
    }

    pub fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// The heads of all requests so far.
    pub fn seen(&self) -> Vec<request::Parts> {
        self.shared.seen.lock().clone()
    }

    /// Waits until the counts are as wanted.
    ///
    /// # Panics
    /// After a minute.
    pub async fn until(&self, wanted: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.shared.counts.subscribe();
        let reached = tokio::time::timeout(PATIENCE, counts.wait_for(wanted)).await;
        *reached.expect("the backend never saw what was waited for").expect("the sender lives in `self`")
    }

    /// Closes all connections, in order, whatever happens on them.
    pub fn hang_up(&self) {
        self.shared.hang_up.notify_waiters();
    }
}

impl Drop for FaultBackend {
    fn drop(&mut self) {
        self.task.abort();
        self.hang_up();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.counts.send_modify(|c| {
            c.connections += 1;
            c.open += 1;
        });
        let (shared, tls) = (shared.clone(), tls.clone());
        tokio::spawn(async move {
            open(stream, &shared, tls).await;
            shared.counts.send_modify(|c| c.open -= 1);
        });
    }
}

async fn open(stream: TcpStream, shared: &Arc<Shared>, tls: Option<TlsAcceptor>) {
    // Delays between a head and its body must be the script's, not the kernel's.
    let _ = stream.set_nodelay(true);
    // Outlives hyper's hold on the socket, so that how it closes can be chosen at the end.
    let Ok(handle) = stream.as_fd().try_clone_to_owned().map(Socket::from) else { return };
    match tls {
        None => serve((stream, handle), shared, None).await,
        Some(tls) => {
            let Ok(stream) = tls.accept(stream).await else { return };
            let session = stream.get_ref().1;
            let seen = SeenTls {
                server_name: session.server_name().map(str::to_owned),
                alpn: session.alpn_protocol().map(<[u8]>::to_vec),
                shown: session.peer_certificates().and_then(|shown| Some(shown.first()?.to_vec())),
                resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
            };
            serve((stream, handle), shared, Some(seen)).await;
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    (stream, handle): (S, Socket),
    shared: &Arc<Shared>,
    tls: Option<SeenTls>,
) {
    let end = Arc::new(watch::Sender::new(None));
    let service = {
        let (shared, end) = (shared.clone(), end.clone());
        service_fn(move |mut request: Request<Incoming>| {
            if let Some(seen) = &tls {
                request.extensions_mut().insert(seen.clone());
            }
            answer(shared.clone(), end.clone(), request)
        })
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    // What one stream does not read is no concern of the others.
    server.http2().initial_connection_window_size(CONNECTION_WINDOW);
    if shared.extended_connect {
        server.http2().enable_connect_protocol();
    }
    let mut ended = end.subscribe();
    let how = {
        let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::select! {
            _ = connection => None,
            how = ended.wait_for(Option::is_some) => how.ok().and_then(|how| *how),
            () = shared.hang_up.notified() => Some(End::Close),
        }
    };
    match how {
        Some(End::Reset) => drop(SockRef::from(&handle).set_linger(Some(Duration::ZERO))),
        Some(End::Close) => drop(handle.shutdown(std::net::Shutdown::Both)),
        None => {}
    }
}

async fn answer(
    shared: Arc<Shared>,
    end: Arc<watch::Sender<Option<End>>>,
    mut request: Request<Incoming>,
) -> Result<Response<TestBody>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let echoed =
        [TRAILER, CONTENT_TYPE].map(|name| head.headers.get(&name).map(|value| (name, value.clone())));
    let agreement = tunnel::agreement(&head);
    shared.seen.lock().push(head);
    let mut script = shared.scripts.lock().pop_front();
    script = script.or_else(|| shared.default.lock().clone());
    shared.counts.send_modify(|c| c.requests += 1);
    let mut unanswered = Unanswered(Some(&shared));
    let mut script = script.unwrap_or_default();
    while let Script::After(notify, next) = script {
        notify.notified().await;
        script = *next;
    }
    let response = match script {
        Script::Reply(reply) => reply.response(),
        Script::Echo => echo(echoed.into_iter().flatten(), body),
        Script::Tunnel => {
            tokio::spawn(tunnel::echo(upgrade, shared.clone()));
            agreement
        }
        Script::Cut(part, notify) => Response::new(cut(part, notify)),
        Script::Hang => pending().await,
        Script::ReadThenReset => {
            let _ = body.collect().await;
            finish(&end, End::Reset).await
        }
        Script::Reset => finish(&end, End::Reset).await,
        Script::Close | Script::After(..) => finish(&end, End::Close).await,
    };
    unanswered.0 = None;
    Ok(response)
}

async fn finish<T>(end: &watch::Sender<Option<End>>, how: End) -> T {
    end.send_replace(Some(how));
    pending().await
}

/// HTTP/1.1 sends no trailer that its head did not announce.
fn echo(headers: impl Iterator<Item = (HeaderName, HeaderValue)>, body: Incoming) -> Response<TestBody> {
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    response.headers_mut().extend(headers);
    response
}

fn cut(part: Bytes, notify: Arc<Notify>) -> TestBody {
    let (frames, body) = streaming();
    tokio::spawn(async move {
        frames.data(part).await;
        notify.notified().await;
        frames.fail().await;
    });
    body
}

impl Default for Script {
    fn default() -> Self {
        Self::Reply(Reply::default())
    }
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap_or_default(), ..Self::default() }
    }

    pub fn text(body: &'static str) -> Self {
        Self { body: Bytes::from_static(body.as_bytes()), ..Self::default() }
    }

    /// A gRPC answer with one message and its status in the trailers.
    pub fn grpc(message: &'static str, status: u8) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
        Self { trailers: Some(trailers), ..Self::text(message) }.header("content-type", "application/grpc")
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    fn response(self) -> Response<TestBody> {
        let body = Full::new(self.body).with_trailers(ready(self.trailers.map(Ok)));
        let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

/// Counts a request that is dropped before its answer.
struct Unanswered<'a>(Option<&'a Shared>);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.counts.send_modify(|c| c.cancelled += 1);
        }
    }
}
