//! One downstream connection: protocol, limits, drain. What happens to a request is in `handler`.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tidegate_policy::model::Peer;
use tidegate_policy::snapshot::Scope;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::body::ResponseBody;
use super::detect::{Version, detect};
use super::handler::handle;
use crate::state::ProxyState;
use crate::telemetry::{ConnectionSide, Direction};

/// From the accept to the first bytes.
const FIRST_BYTES: Duration = Duration::from_secs(10);
/// For a whole HTTP/1 head, and for the pause between two requests: hyper runs one clock for both, so this is also
/// how long a client may keep an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Of all headers together, as in most servers.
const MAX_HEADER_BYTES: u32 = 64 * 1024;
const MAX_HEADERS: usize = 128;
const MAX_STREAMS: u32 = 1_000;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What every request of one connection shares.
#[derive(Debug)]
pub(crate) struct ConnectionContext {
    pub(crate) proxy: Arc<ProxyState>,
    pub(crate) scope: Scope,
    pub(crate) direction: Direction,
    pub(crate) peer: Peer,
    /// Where this connection's random numbers go on.
    seed: AtomicU64,
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
        peer: Peer,
        seed: u64,
    ) -> Self {
        Self { proxy, scope, direction, peer, seed: AtomicU64::new(seed) }
    }

    /// A generator for one request, so that no two requests share a lock or a sequence.
    pub(crate) fn rng(&self) -> fastrand::Rng {
        // The golden ratio's bits: the step of SplitMix64, which visits every seed once.
        fastrand::Rng::with_seed(self.seed.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }
}

impl HttpServer {
    pub(crate) fn new() -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEADER_BYTES as usize);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
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
            () = drain.cancelled() => return,
        };
        let Ok(Ok(version)) = first else { return };
        let _counted = context.proxy.telemetry.connection(ConnectionSide::Downstream);
        let context = Arc::new(context);
        let service = service_fn(move |request| answer(context.clone(), request));
        let io = TokioIo::new(stream);
        let ended = match version {
            Version::Http1 => {
                let connection = self.http1.serve_connection(io, service).with_upgrades();
                drive(connection, |c| c.graceful_shutdown(), &drain).await
            }
            Version::Http2 => {
                let connection = self.http2.serve_connection(io, service);
                drive(connection, |c| c.graceful_shutdown(), &drain).await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "downstream connection ended");
        }
    }
}

async fn answer(
    context: Arc<ConnectionContext>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    Ok(handle(&context, request).await)
}

async fn drive<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    drain: &CancellationToken,
) -> hyper::Result<()> {
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = drain.cancelled() => {}
    }
    shut_down(connection.as_mut());
    connection.await
}
