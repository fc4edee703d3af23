//! The admin port's listener: small, bounded in connections, scrapes and patience.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::AdminSource;
use super::pages::{self, Page};
use crate::telemetry::Telemetry;

/// Connections at a time; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 64;
/// Pages that cost something to render, at a time; more are told to come back.
const MAX_SCRAPES: usize = 2;
/// How long a client may take to send a request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may last: one request each, so that idle ones never fill the port.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How often readiness is looked at while somebody waits for it.
const LOOK: Duration = Duration::from_millis(10);
/// How long accepting pauses when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin port at work; it ends, with its connections, when this is dropped.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

struct Admin<S> {
    source: S,
    telemetry: Arc<Telemetry>,
    scrapes: Arc<Semaphore>,
}

impl AdminServer {
    /// Binds `address` (port 0 picks one) and serves it on `runtime`, which should not be the one that carries
    /// traffic.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub fn start<S: AdminSource>(
        address: SocketAddr,
        source: S,
        telemetry: Arc<Telemetry>,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let _entered = runtime.enter();
        let listener = TcpListener::from_std(listener)?;
        let admin = Arc::new(Admin { source, telemetry, scrapes: Arc::new(Semaphore::new(MAX_SCRAPES)) });
        let task = runtime.spawn(accept(listener, admin));
        Ok(Self { address, _task: AbortOnDropHandle::new(task) })
    }

    /// Where it really listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept<S: AdminSource>(listener: TcpListener, admin: Arc<Admin<S>>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => drop(connections.spawn(serve(stream, admin.clone()))),
            Err(e) => {
                warn!(error = %e, "the admin port cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S: AdminSource>(stream: TcpStream, admin: Arc<Admin<S>>) {
    let service = service_fn(|request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => debug!(error = %e, "an admin connection ended early"),
        Err(_) => debug!("an admin connection took too long"),
    }
}

impl<S: AdminSource> Admin<S> {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(pages::method_not_allowed());
        }
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        if let Some(patience) = (path == "/ready").then(|| pages::patience(query)).flatten() {
            self.wait_until_ready(patience).await;
        }
        if !matches!(path, "/metrics" | "/config" | "/status" | "/decisions") {
            return response(pages::page((path, query), &self.source, &self.telemetry));
        }
        let Ok(permit) = self.scrapes.clone().try_acquire_owned() else {
            return response(pages::busy());
        };
        // On a thread of its own: probes and spans do not wait for a large configuration to be rendered.
        let (path, query) = (path.to_owned(), query.to_owned());
        let rendered = spawn_blocking(move || {
            let _permit = permit;
            pages::page((&path, &query), &self.source, &self.telemetry)
        });
        response(rendered.await.unwrap_or_else(|_| pages::failed()))
    }

    /// For a probe that would else learn of it only by its next try.
    async fn wait_until_ready(&self, patience: Duration) {
        let ready = async {
            while self.source.ready().is_err() {
                sleep(LOOK).await;
            }
        };
        // What it is then, the page says.
        let _ = timeout(patience, ready).await;
    }
}

/// hyper leaves the body out of the answer to a HEAD.
fn response(page: Page) -> Response<Full<Bytes>> {
    let status = page.status;
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    match status {
        StatusCode::METHOD_NOT_ALLOWED => drop(headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"))),
        StatusCode::SERVICE_UNAVAILABLE => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
        _ => {}
    }
    response
}
