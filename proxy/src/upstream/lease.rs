//! The use of one connection for one request.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::http1;
use super::http2::Stream;
use super::pool::EndpointPool;
use crate::http::RequestBody;

/// Held from checkout to the end of the response body. Dropped without [`Lease::release`], an HTTP/1.1 connection is
/// closed, for there is no telling what is still on its way; an HTTP/2 stream is reset and the connection lives on.
#[derive(Debug)]
pub(crate) struct Lease {
    kind: Kind,
    /// Whether the connection has carried a request before: it may have died since.
    pub(crate) reused: bool,
}

#[derive(Debug)]
enum Kind {
    Http1 { sender: http1::Sender, pool: Arc<EndpointPool> },
    Http2(Stream),
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    /// The request itself, if no byte of it was sent.
    pub(super) unsent: Option<Request<RequestBody>>,
    /// `None`: the connection had ended before it was asked.
    pub(super) error: Option<hyper::Error>,
}

impl Lease {
    pub(super) fn http1(sender: http1::Sender, pool: Arc<EndpointPool>, reused: bool) -> Self {
        Self { kind: Kind::Http1 { sender, pool }, reused }
    }

    pub(super) fn http2(stream: Stream, reused: bool) -> Self {
        Self { kind: Kind::Http2(stream), reused }
    }

    /// Takes the request, if a connection is there to send it.
    pub(super) async fn send(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        match &mut self.kind {
            Kind::Http1 { sender, .. } => sender.send(request).await,
            Kind::Http2(stream) => stream.send(request).await,
        }
    }

    /// Whether a WebSocket can be opened over the connection.
    pub(super) async fn carries_tunnels(&self) -> bool {
        match &self.kind {
            Kind::Http1 { .. } => true,
            Kind::Http2(stream) => stream.carries_tunnels().await,
        }
    }

    /// The response has been read to its end: the connection is free.
    pub(super) fn release(self, now: Instant) {
        match self.kind {
            Kind::Http1 { sender, pool } => http1::give_back(sender, pool, now),
            Kind::Http2(stream) => drop(stream),
        }
    }
}

impl Unanswered {
    pub(super) fn never_sent(unsent: Option<Request<RequestBody>>) -> Self {
        Self { unsent, error: None }
    }
}

impl From<TrySendError<Request<RequestBody>>> for Unanswered {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        Self { unsent: error.take_message(), error: Some(error.into_error()) }
    }
}
