//! Side calls: what a plugin wants asked, and what came of it. The host only keeps count; the shell does the asking.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use crate::map::{RequestHead, ResponseHead};

/// To be sent. Answered by [`Vm::answered`](crate::Vm::answered) and its like, with the same `id`.
#[derive(Debug)]
pub struct CallOut {
    pub id: u32,
    /// As the plugin names it: one that its capabilities list.
    pub upstream: String,
    /// `None`: for as long as it takes.
    pub timeout: Option<Duration>,
    pub request: Asked,
}

/// By what protocol.
#[derive(Debug)]
pub enum Asked {
    Http {
        head: Box<RequestHead>,
        body: Bytes,
        trailers: HeaderMap,
    },
    /// One message, one answer.
    Grpc {
        service: String,
        method: String,
        metadata: HeaderMap,
        message: Bytes,
    },
}

/// What came of an HTTP call.
#[derive(Debug)]
pub struct Answer {
    pub head: ResponseHead,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

/// What came of a gRPC call.
#[derive(Debug)]
pub struct GrpcAnswer {
    pub metadata: HeaderMap,
    /// `None` if none came.
    pub message: Option<Bytes>,
    pub trailers: HeaderMap,
    pub status: u32,
    pub status_message: String,
}

/// What a plugin may look at while it is told of an answer.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) headers: Option<crate::map::Map>,
    pub(crate) trailers: Option<crate::map::Map>,
    pub(crate) body: Option<Bytes>,
    pub(crate) grpc: bool,
    pub(crate) status: (u32, String),
}
