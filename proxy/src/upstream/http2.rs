//! HTTP/2 connections: one is shared by all requests to an endpoint, more are opened when its streams are used up.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tidegate_policy::Reason;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::group::Group;
use super::lease::Unanswered;
use super::tls::UpstreamStream;
use crate::http::RequestBody;

/// Streams on one connection before another is opened, until the endpoint has said what it allows.
const INITIAL_STREAMS: usize = 100;
/// More streams than this on one connection crowd each other's flow control and one task.
const MAX_STREAMS: usize = 1_000;
const STREAM_WINDOW: u32 = 256 * 1024;
/// What all streams may hold together: clients that do not read their answers must not take it from those that do.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;
/// A dead peer is noticed by unanswered pings, and only while somebody waits for it.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// For the SETTINGS of an endpoint; those that come at all come with its first bytes.
const SETTINGS_TIME: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
pub(crate) struct Http2Pool {
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held by the one who connects.
    pub(crate) connecting: tokio::sync::Mutex<()>,
}

pub(crate) struct Connection {
    /// `None` once the connection has ended; see [`super::http1::Sender`] for why it must go at once.
    sender: Arc<Mutex<Option<SendRequest<RequestBody>>>>,
    streams: AtomicUsize,
    /// As the endpoint allows at the moment.
    limit: Arc<AtomicUsize>,
    idle_since: Mutex<Instant>,
    tunnels: Arc<Tunnels>,
}

/// Whether the endpoint takes extended CONNECT (RFC 8441): said in its SETTINGS, which come when they come.
#[derive(Debug, Default)]
struct Tunnels {
    announced: AtomicBool,
    /// The SETTINGS are there, for they come before any answer.
    settled: AtomicBool,
    /// Asks the connection's task to look at what has come.
    look: Notify,
}

/// One stream's share of a connection.
#[derive(Debug)]
pub(crate) struct Stream(Arc<Connection>);

/// Makes a connection of `stream`. `held` is held until the connection has ended, whoever ends it.
///
/// # Errors
/// [`Reason::ConnectFailed`].
pub(crate) async fn handshake(
    stream: UpstreamStream,
    group: &Arc<Group>,
    held: impl Send + 'static,
) -> Result<Connection, Reason> {
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Reason::ConnectFailed)?;
    let limit = Arc::new(AtomicUsize::new(INITIAL_STREAMS));
    let sender = Arc::new(Mutex::new(Some(sender)));
    let tunnels = Arc::new(Tunnels::default());
    let told = tunnels.clone();
    // Weak: a connection that the pool lets go ends with its last stream.
    let (group, allowed, half) = (group.clone(), limit.clone(), Arc::downgrade(&sender));
    tokio::spawn(async move {
        let mut connection = Box::pin(connection);
        let mut look = pin!(told.look.notified());
        let ended = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            if polled.is_pending() {
                allowed.store(connection.current_max_send_streams().min(MAX_STREAMS), Ordering::Relaxed);
                // Never taken back (RFC 8441, section 3).
                if !told.announced.load(Ordering::Relaxed) {
                    let announced = connection.is_extended_connect_protocol_enabled();
                    told.announced.store(announced, Ordering::Release);
                }
                while look.as_mut().poll(cx).is_ready() {
                    look.set(told.look.notified());
                }
            }
            polled
        });
        let ended = ended.await;
        // Its end of the channel first: what is handed over after this is refused, and not lost.
        drop(connection);
        if let Err(error) = ended {
            tracing::debug!(%error, "upstream connection ended");
        }
        if let Some(half) = half.upgrade() {
            *half.lock() = None;
        }
        drop(held);
        group.freed.notify_one();
    });
    let idle_since = Mutex::new(Instant::now());
    Ok(Connection { sender, streams: AtomicUsize::new(0), limit, idle_since, tunnels })
}

impl Http2Pool {
    /// A stream on the first connection that has room: later ones run dry and are closed.
    pub(crate) fn share(&self) -> Option<Stream> {
        let mut connections = self.connections.lock();
        connections.retain(|connection| !connection.is_closed());
        connections.iter().find(|connection| connection.has_room()).map(Stream::on)
    }

    /// A stream on any live connection, the least used one.
    pub(crate) fn overload(&self) -> Option<Stream> {
        let connections = self.connections.lock();
        let live = connections.iter().filter(|connection| !connection.is_closed());
        live.min_by_key(|connection| connection.streams.load(Ordering::Relaxed)).map(Stream::on)
    }

    pub(crate) fn add(&self, connection: Connection) -> Stream {
        let connection = Arc::new(connection);
        let stream = Stream::on(&connection);
        self.connections.lock().push(connection);
        stream
    }

    pub(crate) fn reap(&self, now: Instant, limit: Duration) {
        self.connections.lock().retain(|connection| {
            let idle = connection.is_idle() && now.duration_since(*connection.idle_since.lock()) >= limit;
            !idle && !connection.is_closed()
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.lock().is_empty()
    }

    pub(crate) fn evict_one(&self) -> bool {
        let mut connections = self.connections.lock();
        let idle = connections.iter().position(|connection| connection.is_idle());
        idle.map(|index| drop(connections.remove(index))).is_some()
    }
}

impl Connection {
    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed).max(1)
    }

    fn is_closed(&self) -> bool {
        self.sender.lock().as_ref().is_none_or(SendRequest::is_closed)
    }

    fn is_idle(&self) -> bool {
        self.streams.load(Ordering::Relaxed) == 0
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("streams", &self.streams).field("limit", &self.limit).finish()
    }
}

impl Stream {
    /// Called under the pool's lock, so that a connection is not closed as idle while a stream is put on it.
    fn on(connection: &Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }

    pub(super) async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let sending = match (&mut *self.0.sender.lock(), request.take()) {
            (Some(sender), Some(asked)) => sender.try_send_request(asked),
            (_, asked) => return Err(Unanswered::never_sent(asked)),
        };
        let answer = sending.await?;
        let tunnels = &self.0.tunnels;
        if !tunnels.settled.load(Ordering::Relaxed) && !tunnels.settled.swap(true, Ordering::Relaxed) {
            // How many streams the endpoint allows is known by now, but the task has not looked since it asked.
            tunnels.look.notify_one();
        }
        Ok(answer)
    }

    /// Whether the endpoint takes extended CONNECT. Waits for its SETTINGS on a connection that is new.
    pub(super) async fn carries_tunnels(&self) -> bool {
        let tunnels = &self.0.tunnels;
        let announced = async {
            loop {
                let settled = tunnels.settled.load(Ordering::Relaxed);
                tunnels.look.notify_one();
                tokio::time::sleep(LOOK_AGAIN).await;
                if settled || tunnels.announced.load(Ordering::Acquire) {
                    return;
                }
            }
        };
        if !tunnels.announced.load(Ordering::Acquire) {
            let _ = tokio::time::timeout(SETTINGS_TIME, announced).await;
        }
        tunnels.announced.load(Ordering::Acquire)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.0.streams.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.0.idle_since.lock() = Instant::now();
        }
    }
}
