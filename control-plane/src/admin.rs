//! What operators ask the control plane over HTTP: `/status`, `/objects`, `/describe`, `/why`, `/metrics`, `/ready`.
//!
//! Read-only, and bounded: whoever scrapes too hard waits, and cannot slow a push.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tidegate_policy::matching::query_value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::answer::{reply, text};
use crate::metrics;
use crate::status::{Filter, Reporter};

const MAX_CONNECTIONS: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection held longer than any question takes is closed, so that idle ones cannot use up the others' turn.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// After an accept error such as "too many open files", which a busy loop would only make worse.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bytes of the id that is asked for.
const MAX_ID: usize = 1_024;

const INDEX: &str = "\
tidegate control plane

/objects   every object as Kubernetes would show it, with its .status (JSON); picked as below
/status    every object: accepted, programmed on how many nodes, errors with path and line (JSON)
           ?kind=RateLimitPolicy&namespace=shop&name=per-user picks objects
/describe  what is attached to an object, and what holds there (JSON); ?kind=service|route|gateway&name=shop/cart
/why       what proxies keep of one request: each hop, each decision (JSON); ?id=REQUEST_ID or a trace id
/metrics   counts for Prometheus
/ready     200 once policies are being served
";

/// Answers on `listener` until `shutdown`.
pub async fn serve(listener: TcpListener, reporter: Arc<Reporter>, shutdown: CancellationToken) {
    let turns = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, reporter.clone(), shutdown.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, reporter: Arc<Reporter>, shutdown: CancellationToken) {
    let service = service_fn(move |request| {
        let reporter = reporter.clone();
        async move { Ok::<_, Infallible>(answer(&request, reporter).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let finished = tokio::select! {
        finished = &mut serving => finished,
        () = shutdown.cancelled() => return,
        () = tokio::time::sleep(CONNECTION_LIFETIME) => return,
    };
    if let Err(error) = finished {
        tracing::debug!(%error, "admin connection ended early");
    }
}

async fn answer(request: &Request<Incoming>, reporter: Arc<Reporter>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        refused.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/" => text(StatusCode::OK, INDEX),
        "/ready" => text(StatusCode::OK, "ready\n"),
        "/status" => match Filter::parse(request.uri().query().unwrap_or_default()) {
            Ok(filter) => report(reporter, move |reporter| json(&reporter.status().pick(&filter))).await,
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/objects" => match Filter::parse(request.uri().query().unwrap_or_default()) {
            Ok(filter) => report(reporter, move |reporter| json(&reporter.manifests(&filter))).await,
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/describe" => match Filter::parse(request.uri().query().unwrap_or_default()) {
            Ok(filter) => report(reporter, move |reporter| described(reporter, &filter)).await,
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        "/why" => match asked_id(request.uri().query().unwrap_or_default()) {
            Some(id) => json(&reporter.why(&id).await),
            None => text(StatusCode::BAD_REQUEST, "write ?id=, and a request id or a trace id\n"),
        },
        "/metrics" => report(reporter, numbers).await,
        path => text(StatusCode::NOT_FOUND, format!("nothing at {path}; / lists what there is\n")),
    }
}

fn described(reporter: &Reporter, filter: &Filter) -> Response<Full<Bytes>> {
    let Some(name) = &filter.name else {
        return text(StatusCode::BAD_REQUEST, "write ?kind=service|route|gateway&name=, and a name\n");
    };
    let name =
        filter.namespace.as_ref().map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"));
    let subject = filter.kind.as_deref().unwrap_or_default().parse();
    match subject.and_then(|subject| reporter.describe(subject, &name)) {
        Ok(described) => json(&described),
        Err(error) => text(StatusCode::NOT_FOUND, format!("{error}\n")),
    }
}

/// A request may be given any id; longer ones are not kept.
fn asked_id(query: &str) -> Option<String> {
    let id = query.strip_prefix("id=").filter(|rest| !rest.contains('&'))?;
    query_value(id).filter(|id| !id.is_empty() && id.len() <= MAX_ID)
}

/// Counting over many proxies takes its time: off the threads that push, and one at a time.
async fn report(
    reporter: Arc<Reporter>,
    render: impl FnOnce(&Reporter) -> Response<Full<Bytes>> + Send + 'static,
) -> Response<Full<Bytes>> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let rendered = tokio::task::spawn_blocking(move || render(&reporter)).await;
    rendered.unwrap_or_else(|error| text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}

fn numbers(reporter: &Reporter) -> Response<Full<Bytes>> {
    match metrics::render(reporter) {
        Ok(page) => reply(StatusCode::OK, metrics::CONTENT_TYPE, page),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(json) => reply(StatusCode::OK, "application/json", json + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
