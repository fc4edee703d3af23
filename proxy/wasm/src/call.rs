//! Side calls: what a plugin wants asked, and what came of it. The host only keeps count; the shell does the asking.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;

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
    /// Any number of messages each way. Told of by [`Vm::grpc_initial`](crate::Vm::grpc_initial) and its like.
    GrpcStream {
        service: String,
        method: String,
        metadata: HeaderMap,
        messages: Arc<Outgoing>,
    },
}

/// A call that is not over.
#[derive(Clone, Debug)]
pub(crate) enum Open {
    Http,
    Grpc,
    Stream(Arc<Outgoing>),
}

/// Messages of a plugin in a stream, until whoever sends them has taken them. Of those that wait there are no more bytes than
/// the plugin's budget allows.
#[derive(Debug, Default)]
pub struct Outgoing(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    sender: Option<Waker>,
}

/// What each message counts for beside its bytes: so do empty ones.
const MESSAGE: usize = 64;

impl Outgoing {
    /// This one, and no more.
    pub fn of(message: Bytes) -> Self {
        let outgoing = Self::default();
        outgoing.push(message, usize::MAX);
        outgoing.end();
        outgoing
    }

    /// Whether there was room for it.
    pub(crate) fn push(&self, message: Bytes, most: usize) -> bool {
        let mut queue = self.0.lock();
        let bytes = queue.bytes + message.len() + MESSAGE;
        // One that is alone may be as large as what was read of the plugin's memory.
        if bytes > most && !queue.messages.is_empty() {
            return false;
        }
        queue.bytes = bytes;
        queue.messages.push_back(message);
        queue.wake();
        true
    }

    /// There will be no more.
    pub(crate) fn end(&self) {
        let mut queue = self.0.lock();
        queue.ended = true;
        queue.wake();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().ended
    }

    /// The next message, without its frame; `None` after the last.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut queue = self.0.lock();
        if let Some(message) = queue.messages.pop_front() {
            queue.bytes -= message.len() + MESSAGE;
            return Poll::Ready(Some(message));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.sender = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Queue {
    fn wake(&mut self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }
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
    /// `None` if none came.
    pub message: Option<Bytes>,
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
