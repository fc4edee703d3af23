//! What plugins are told of the world: time, and what is known of a request beside its messages. And where their log goes.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tidegate_wasm::{Clock, Level, Line, StreamView, SystemClock};

use tidegate_policy::model::Peer;

use crate::http::ConnectionContext;

/// Of the process.
#[derive(Debug)]
pub(super) struct Outside {
    clock: Arc<SystemClock>,
    node: String,
}

/// Of one request.
pub(super) struct Seen {
    pub(super) connection: Arc<ConnectionContext>,
    pub(super) route: Option<Arc<str>>,
    pub(super) backend: Option<Arc<str>>,
    pub(super) http2: bool,
    /// Since the Unix epoch.
    pub(super) begun: Duration,
    pub(super) request_id: Option<String>,
}

/// The endpoint that a connection is carried to, once it is.
pub(super) type Upstream = OnceLock<SocketAddr>;

/// Of one connection that is carried as a whole.
#[derive(Debug)]
pub(crate) struct SeenConnection {
    id: u64,
    peer: Peer,
    reached: SocketAddr,
    server_name: Option<Arc<str>>,
    route: Option<Arc<str>>,
    backend: Option<Arc<str>>,
    pub(super) upstream: Arc<Upstream>,
}

/// Of connections, counted in this process.
static LAST_ID: AtomicU64 = AtomicU64::new(0);

impl SeenConnection {
    pub(crate) fn new(
        (peer, reached): (Peer, SocketAddr),
        server_name: Option<Arc<str>>,
        (route, backend): (Option<Arc<str>>, Option<Arc<str>>),
    ) -> Self {
        let id = LAST_ID.fetch_add(1, Ordering::Relaxed) + 1;
        Self { id, peer, reached, server_name, route, backend, upstream: Arc::default() }
    }
}

impl Outside {
    pub(super) fn new(node: &str) -> Self {
        Self { clock: SystemClock::shared(), node: node.to_owned() }
    }
}

impl tidegate_wasm::Outside for Outside {
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn log(&self, line: &Line<'_>) {
        let (plugin, message, dropped) = (&**line.plugin, line.message, line.dropped);
        let id = line.stream.and_then(StreamView::request_id);
        match line.level {
            Level::Trace => tracing::trace!(target: "plugin", plugin, request_id = id, "{message}"),
            Level::Debug => tracing::debug!(target: "plugin", plugin, request_id = id, "{message}"),
            Level::Info => tracing::info!(target: "plugin", plugin, request_id = id, dropped, "{message}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, request_id = id, dropped, "{message}"),
            Level::Error | Level::Critical => {
                tracing::error!(target: "plugin", plugin, request_id = id, dropped, "{message}");
            }
        }
    }

    fn log_level(&self) -> Level {
        if tracing::enabled!(target: "plugin", tracing::Level::TRACE) {
            Level::Trace
        } else if tracing::enabled!(target: "plugin", tracing::Level::DEBUG) {
            Level::Debug
        } else {
            Level::Info
        }
    }

    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        match path {
            ["node", "id"] => Some(self.node.as_bytes().to_vec()),
            _ => None,
        }
    }
}

impl StreamView for Seen {
    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        let server_name = self.connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        match path {
            ["request", "protocol"] => text(if self.http2 { "HTTP/2" } else { "HTTP/1.1" }),
            ["request", "time"] => number(i64::try_from(self.begun.as_nanos()).unwrap_or(i64::MAX)),
            ["xds", "route_name"] => text(self.route.as_deref()?),
            ["xds", "cluster_name"] => text(self.backend.as_deref()?),
            path => of_client(path, (&self.connection.peer, self.connection.reached), server_name),
        }
    }

    fn request_id(&self) -> Option<String> {
        self.request_id.clone()
    }
}

impl StreamView for SeenConnection {
    fn property(&self, path: &[&str]) -> Option<Vec<u8>> {
        match path {
            ["connection", "id"] => number(i64::try_from(self.id).unwrap_or(i64::MAX)),
            ["upstream", "address"] => text(&self.upstream.get()?.to_string()),
            ["upstream", "port"] => number(self.upstream.get()?.port().into()),
            ["xds", "route_name"] => text(self.route.as_deref()?),
            ["xds", "cluster_name"] => text(self.backend.as_deref()?),
            path => of_client(path, (&self.peer, self.reached), self.server_name.as_deref()),
        }
    }
}

/// What is known of who has connected, and where to.
fn of_client(
    path: &[&str],
    (peer, reached): (&Peer, SocketAddr),
    server_name: Option<&str>,
) -> Option<Vec<u8>> {
    match path {
        ["source", "address"] => text(&peer.address.to_string()),
        ["source", "port"] => number(peer.address.port().into()),
        ["destination", "address"] => text(&reached.to_string()),
        ["destination", "port"] => number(reached.port().into()),
        ["connection", "mtls"] => Some(vec![u8::from(peer.identity.is_some())]),
        ["connection", "uri_san_peer_certificate"] => text(&peer.identity.as_ref()?.0),
        ["connection", "requested_server_name"] => text(server_name?),
        _ => None,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a property is")]
fn text(text: &str) -> Option<Vec<u8>> {
    Some(text.as_bytes().to_vec())
}

#[expect(clippy::unnecessary_wraps, reason = "what a property is")]
fn number(number: i64) -> Option<Vec<u8>> {
    Some(number.to_le_bytes().to_vec())
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("route", &self.route).field("request_id", &self.request_id).finish()
    }
}
