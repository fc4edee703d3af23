//! One request and its answer over a connection that is used for nothing else and ends with it.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::FutureExt;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tidegate_policy::health::check::{Cause, Finding, HttpProbe};
use tokio::task::JoinSet;

use crate::upstream::{Protocol, UpstreamStream, refused_us};

/// A head of an answer that is larger is not waited for.
const MAX_HEAD: u16 = 16 * 1024;
const MAX_BODY: usize = 64 * 1024;
const AGENT: HeaderValue = HeaderValue::from_static("tidegate-health-check");

/// How an endpoint is asked.
pub(super) struct Asked {
    pub(super) protocol: Protocol,
    pub(super) tls: bool,
    /// For checks that name no other.
    pub(super) host: String,
}

/// What runs beside a connection over HTTP/2; ends when this is dropped.
#[derive(Default)]
struct Tasks(Arc<Mutex<JoinSet<()>>>);

/// Weak: tasks that hold it must not keep themselves alive.
#[derive(Clone)]
struct Spawn(Weak<Mutex<JoinSet<()>>>);

/// Asks by HTTP. Of the body no more is read than [`MAX_BODY`].
pub(super) async fn http(stream: UpstreamStream, asked: &Asked, probe: &HttpProbe) -> Result<Finding, Cause> {
    let mut request =
        Request::builder().method(&probe.method).body(Empty::<Bytes>::new()).map_err(|_| Cause::Malformed)?;
    request.headers_mut().insert(USER_AGENT, AGENT);
    for (name, value) in &probe.headers {
        request.headers_mut().insert(name, value.clone());
    }
    let written = probe.host.as_ref().and_then(|host| host.to_str().ok());
    address(&mut request, asked, written.unwrap_or(&asked.host), &probe.path)?;
    send(stream, asked.protocol, request, async |response: Response<Incoming>| {
        let finding = probe.judge(response.status().as_u16());
        if finding == Finding::Passed {
            read(response.into_body()).await?;
        }
        Ok(finding)
    })
    .await
}

/// Gives a request its target, in the form of its protocol.
pub(super) fn address<B>(
    request: &mut Request<B>,
    asked: &Asked,
    host: &str,
    path: &str,
) -> Result<(), Cause> {
    let uri = match asked.protocol {
        Protocol::Http1 => {
            let host = HeaderValue::try_from(host).map_err(|_| Cause::Malformed)?;
            request.headers_mut().insert(HOST, host);
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            Uri::try_from(path)
        }
        Protocol::Http2 => {
            let scheme = if asked.tls { "https" } else { "http" };
            Uri::try_from(format!("{scheme}://{host}{path}"))
        }
    };
    *request.uri_mut() = uri.map_err(|_| Cause::Malformed)?;
    Ok(())
}

/// Sends a request and has its answer read. The connection is driven here and nowhere else, so that it ends with this.
pub(crate) async fn send<B, T>(
    stream: UpstreamStream,
    protocol: Protocol,
    request: Request<B>,
    answered: impl AsyncFnOnce(Response<Incoming>) -> Result<T, Cause>,
) -> Result<T, Cause>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TokioIo::new(stream);
    match protocol {
        Protocol::Http1 => {
            let made = http1::Builder::new().max_buf_size(MAX_HEAD.into()).handshake(stream).await;
            let (mut sender, connection) = made.map_err(|error| cause(&error))?;
            let exchange =
                async { answered(sender.send_request(request).await.map_err(|e| cause(&e))?).await };
            driven(connection, exchange).await
        }
        Protocol::Http2 => {
            let tasks = Tasks::default();
            let made = http2::Builder::new(Spawn(Arc::downgrade(&tasks.0)))
                .timer(TokioTimer::new())
                .max_header_list_size(MAX_HEAD.into())
                .handshake(stream)
                .await;
            let (mut sender, connection) = made.map_err(|error| cause(&error))?;
            let exchange =
                async { answered(sender.send_request(request).await.map_err(|e| cause(&e))?).await };
            driven(connection, exchange).await
        }
    }
}

async fn driven<T>(
    connection: impl Future,
    exchange: impl Future<Output = Result<T, Cause>>,
) -> Result<T, Cause> {
    let (connection, mut exchange) = (pin!(connection), pin!(exchange));
    tokio::select! {
        biased;
        done = exchange.as_mut() => return done,
        _ = connection => {}
    }
    // All that ever came is there, or will not come.
    exchange.now_or_never().unwrap_or(Err(Cause::Closed))
}

async fn read(mut body: Incoming) -> Result<(), Cause> {
    let mut left = MAX_BODY;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| cause(&error))?;
        let size = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(size) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    Ok(())
}

/// Why there is no whole answer.
pub(super) fn cause(error: &hyper::Error) -> Cause {
    let by_http2 = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    if refused_us(error) {
        Cause::TlsFailed
    } else if error.is_parse() || error.is_user() || by_http2.is_some_and(h2::Error::is_library) {
        Cause::Malformed
    } else {
        Cause::Closed
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawn {
    fn execute(&self, task: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.lock().spawn(task);
        }
    }
}
