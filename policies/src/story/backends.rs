use std::time::Duration;

use http::{HeaderMap, request};

use crate::balance::EndpointState;
use crate::decision::CallResult;
use crate::snapshot::BackendState;
use crate::time::Timestamp;

/// Plays the backends: the only part of a story that is not the production code.
pub trait Backends {
    /// What the endpoint would answer to this attempt if it had all the time it wants. `headers` is empty: what it sends
    /// goes there.
    fn answer(&mut self, call: &Call<'_>, headers: &mut HeaderMap) -> Answer;
}

/// One attempt, as the endpoint sees it.
#[derive(Debug)]
pub struct Call<'a> {
    /// From 0.
    pub attempt: u32,
    pub backend: &'a BackendState,
    pub endpoint: &'a EndpointState,
    pub head: &'a request::Parts,
    pub grpc: bool,
    pub now: Timestamp,
}

/// How an attempt would end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub result: CallResult,
    /// From the attempt to its response head, or failure.
    pub latency: Duration,
}

impl<F: FnMut(&Call<'_>, &mut HeaderMap) -> Answer> Backends for F {
    fn answer(&mut self, call: &Call<'_>, headers: &mut HeaderMap) -> Answer {
        self(call, headers)
    }
}
