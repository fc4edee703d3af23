//! The backend: a small answer, so many bytes, or an empty gRPC message; whatever is sent is read to its end.
//!
//! An empty message with the status OK is also what a collector of traces answers, so this stands in for one.
//! `/consumed` tells how many bytes of bodies came in, for checks that they did; `/answered` how many other requests were
//! answered. `/delay/N` makes every later answer take N milliseconds: that is how a backend becomes slow while it is
//! watched.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;

use crate::body::{Body, full, grpc_ok};

/// The largest answer of `/bytes/N`.
const LARGEST: usize = 64 * 1024 * 1024;

#[derive(Args, Debug)]
pub(crate) struct EchoArgs {
    #[arg(long)]
    listen: SocketAddr,
    /// The small answer
    #[arg(long, default_value = "ok")]
    text: String,
}

struct Echo {
    text: Bytes,
    zeros: Bytes,
    consumed: AtomicU64,
    answered: AtomicU64,
    /// In milliseconds.
    delay: AtomicU64,
}

pub(crate) async fn run(args: EchoArgs) -> anyhow::Result<()> {
    serve(TcpListener::bind(args.listen).await?, &args.text).await
}

pub(crate) async fn serve(listener: TcpListener, text: &str) -> anyhow::Result<()> {
    let echo = Arc::new(Echo {
        text: format!("{text}\n").into(),
        zeros: vec![0; LARGEST].into(),
        consumed: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        delay: AtomicU64::new(0),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let echo = echo.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| echo.clone().answer(request));
            // A client that goes away in the middle is its own affair.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

impl Echo {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (head, mut body) = request.into_parts();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                self.consumed.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
        }
        if let Some(told) = self.told(head.uri.path()) {
            return Ok(told);
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        match self.delay.load(Ordering::Relaxed) {
            0 => {}
            delay => tokio::time::sleep(Duration::from_millis(delay)).await,
        }
        if head
            .headers
            .get("content-type")
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
        {
            let mut response = Response::new(grpc_ok());
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            return Ok(response);
        }
        Ok(match head.uri.path().strip_prefix("/bytes/") {
            None => Response::new(full(self.text.clone())),
            Some(count) => self.zeros(count),
        })
    }

    /// What is asked of the backend itself, at once however slow it is.
    fn told(&self, path: &str) -> Option<Response<Body>> {
        let number = match path {
            "/consumed" => self.consumed.load(Ordering::Relaxed),
            "/answered" => self.answered.load(Ordering::Relaxed),
            _ => {
                let delay = path.strip_prefix("/delay/")?.parse().ok()?;
                self.delay.store(delay, Ordering::Relaxed);
                delay
            }
        };
        Some(Response::new(full(format!("{number}\n").into())))
    }

    fn zeros(&self, count: &str) -> Response<Body> {
        let count = count.parse().ok().filter(|count: &usize| *count <= LARGEST);
        let mut response = Response::new(full(self.zeros.slice(..count.unwrap_or_default())));
        if count.is_none() {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    }
}
