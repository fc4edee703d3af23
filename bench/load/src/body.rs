//! The one body type of everything here, so that a pool can hold any sender.

use std::convert::Infallible;
use std::future::ready;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};

/// A gRPC message without a field: not compressed, no bytes (gRPC over HTTP/2, "Length-Prefixed-Message").
pub(crate) const EMPTY_MESSAGE: &[u8] = &[0; 5];

pub(crate) type Body = BoxBody<Bytes, Infallible>;

pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

pub(crate) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}

/// An empty message and the status OK.
pub(crate) fn grpc_ok() -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    full(Bytes::from_static(EMPTY_MESSAGE)).with_trailers(ready(Some(Ok(trailers)))).boxed()
}
