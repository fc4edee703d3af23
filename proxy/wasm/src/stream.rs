//! One request and its answer, or one connection that is carried as a whole, as one plugin sees it.
//!
//! What a plugin may change now is what lies in the slots: a map that has been given back to the proxy cannot be reached.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::buffer::Buffer;
use crate::map::{Map, RequestHead, ResponseHead};
use crate::outside::Exchange;

/// Which way: of a connection, [`Direction::Request`] is what its client sends ("downstream"), and
/// [`Direction::Response`] what its backend does ("upstream").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Request,
    Response,
}

/// Who has ended a side of a connection, with the numbers of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    Unknown = 0,
    /// The proxy, for whatever reason.
    Local = 1,
    /// Whoever is at its other end.
    Remote = 2,
}

/// What a plugin wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// On with it.
    Go,
    /// It is waited for: the waker that was given is woken when there is more to say.
    Pause,
    /// It has answered itself: [`Vm::local_response`](crate::Vm::local_response).
    Respond,
    /// The stream is to be reset.
    Close,
    /// It holds back more of a body, or of a connection's bytes, than its budget allows.
    TooLarge,
}

/// A plugin's own answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalResponse {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    /// For gRPC clients.
    pub grpc_status: Option<u32>,
    /// What it was answered for, for logs.
    pub details: String,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) kind: Kind,
    pub(crate) sides: [Side; 2],
    pub(crate) local: Option<LocalResponse>,
    /// The local response was taken, or the answer's head has gone: there is no other.
    pub(crate) answered: bool,
    pub(crate) closed: bool,
    pub(crate) waker: Option<Waker>,
    /// For the log phase.
    pub(crate) logged: Logged,
    pub(crate) spent: Spent,
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exchange,
    Connection,
}

/// What a stream has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub callbacks: u32,
    /// In all of them, by the clock.
    pub time: Duration,
    /// CPU time of the same, where it is [measured](Exchange::measured).
    pub cpu: Option<Duration>,
    /// It has answered itself, or has had the stream closed.
    pub answered: bool,
    /// Its VM came to an end.
    pub failed: bool,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub(crate) headers: Option<Map>,
    pub(crate) body: Buffer,
    /// Its body may be changed.
    pub(crate) in_body: bool,
    pub(crate) trailers: Option<Map>,
    pub(crate) paused: bool,
}

/// The heads of an exchange that is over.
#[derive(Clone, Debug, Default)]
pub struct Logged {
    pub request: Option<Arc<RequestHead>>,
    pub response: Option<Arc<ResponseHead>>,
}

impl Direction {
    /// Of what there is one of for each direction.
    pub fn index(self) -> usize {
        match self {
            Self::Request => 0,
            Self::Response => 1,
        }
    }
}

impl Stream {
    pub(crate) fn new(exchange: Arc<Exchange>, kind: Kind) -> Self {
        Self {
            exchange,
            kind,
            sides: Default::default(),
            local: None,
            answered: false,
            closed: false,
            waker: None,
            logged: Logged::default(),
            spent: Spent::default(),
        }
    }

    pub(crate) fn side(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction.index()]
    }

    /// Goes on, if it was paused.
    pub(crate) fn resume(&mut self, direction: Direction) {
        self.side(direction).paused = false;
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What is to be done now in `direction`.
    pub(crate) fn step(&self, direction: Direction) -> Step {
        if self.closed {
            Step::Close
        } else if self.local.is_some() {
            Step::Respond
        } else if self.sides[direction.index()].paused {
            Step::Pause
        } else {
            Step::Go
        }
    }
}
