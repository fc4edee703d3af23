//! HTTPS for the API server. Bounded in connections, in bytes and in time.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use tidegate_control_plane::answer::{reply, text};

use super::keeper::Identity;
use super::mutate::{Mutate, Namespace};
use super::review::{self, MAX_REVIEW, Unanswered, validate};

const MAX_CONNECTIONS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The API server waits no longer than 30 s for any webhook.
const REQUEST: Duration = Duration::from_secs(30);
const HEADER: Duration = Duration::from_secs(5);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Looks up a namespace's labels, on a thread that may wait; the error says why that could not be done.
type Namespaces = Arc<dyn Fn(&str) -> Result<Namespace, String> + Send + Sync>;

/// What is answered.
#[derive(Clone)]
pub(crate) struct Answers {
    /// Without one, `/inject` leaves every pod as it is.
    pub(crate) mutate: Option<Arc<dyn Mutate>>,
    pub(crate) namespaces: Namespaces,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("mutate", &self.mutate).finish_non_exhaustive()
    }
}

/// Answers on `listener` until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    identity: Arc<Identity>,
    answers: Answers,
    shutdown: CancellationToken,
) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = match builder {
        Ok(builder) => builder.with_no_client_auth().with_cert_resolver(identity),
        Err(error) => {
            tracing::error!(%error, "the webhook cannot be served");
            return;
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let turns = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(turn) = turns.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, acceptor.clone(), answers.clone(), shutdown.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(turn);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a webhook connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, answers: Answers, shutdown: CancellationToken) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        tracing::debug!("a webhook connection ended in its handshake");
        return;
    };
    let service = service_fn(move |request| {
        let answers = answers.clone();
        async move {
            let answered = timeout(REQUEST, answer(request, answers)).await;
            Ok::<_, Infallible>(answered.unwrap_or_else(|_| text(StatusCode::REQUEST_TIMEOUT, "too slow\n")))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Some(REQUEST));
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let finished = tokio::select! {
        finished = &mut serving => finished,
        () = shutdown.cancelled() => {
            // What is asked already is answered.
            serving.as_mut().graceful_shutdown();
            match timeout(REQUEST, serving).await {
                Ok(finished) => finished,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = finished {
        tracing::debug!(%error, "a webhook connection ended early");
    }
}

async fn answer(request: Request<Incoming>, answers: Answers) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path == "/ready" {
        return text(StatusCode::OK, "ready\n");
    }
    if !matches!(&*path, "/validate" | "/inject") {
        return text(StatusCode::NOT_FOUND, "there are /validate and /inject\n");
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
    }
    let body = match Limited::new(request.into_body(), MAX_REVIEW).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return text(StatusCode::PAYLOAD_TOO_LARGE, format!("{error}\n")),
    };
    // A large policy takes its time to compile: off the threads that push.
    let judged = tokio::task::spawn_blocking(move || match (&*path, &answers.mutate) {
        ("/validate", _) => validate(&body).map_err(Unanswered::Bad),
        (_, Some(mutate)) => review::mutate(&body, &**mutate, &*answers.namespaces),
        (_, None) => review::leave(&body).map_err(Unanswered::Bad),
    });
    match judged.await {
        Ok(Ok(review)) => reply(StatusCode::OK, "application/json", review.to_string()),
        Ok(Err(Unanswered::Bad(fault))) => text(StatusCode::BAD_REQUEST, format!("{fault}\n")),
        Ok(Err(Unanswered::NotNow(why))) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
