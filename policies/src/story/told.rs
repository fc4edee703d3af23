use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode, response};
use smallvec::SmallVec;

use crate::balance::EndpointState;
use crate::pipeline::LocalReply;
use crate::snapshot::{BackendState, Selected};
use crate::{Decisions, Reason};

/// What came of a request, as far as it has come.
#[derive(Debug)]
pub struct Told {
    /// The rule that routing found, and the target that was picked.
    pub selected: Option<Selected>,
    /// The filters let it pass, so that a backend was to be called.
    pub forwarded: bool,
    /// That was called last.
    pub endpoint: Option<Arc<EndpointState>>,
    pub attempts: u32,
    /// Why the mesh answers in the backend's place.
    pub reason: Option<Reason>,
    pub response: response::Parts,
    /// `grpc-status`.
    pub grpc: Option<u8>,
    /// Backends that get a copy.
    pub mirrors: SmallVec<[Arc<BackendState>; 1]>,
    pub decisions: Decisions,
}

impl Told {
    pub(super) fn new() -> Self {
        Self {
            selected: None,
            forwarded: false,
            endpoint: None,
            attempts: 0,
            reason: None,
            response: Response::new(()).into_parts().0,
            grpc: None,
            mirrors: SmallVec::new(),
            decisions: Decisions::new(),
        }
    }

    /// The backend that was to be called.
    pub fn backend(&self) -> Option<&Arc<BackendState>> {
        self.selected.as_ref().filter(|_| self.forwarded)?.target().backend.as_ref().ok()
    }

    pub(super) fn clear(&mut self) {
        (self.selected, self.forwarded, self.endpoint, self.attempts) = (None, false, None, 0);
        (self.reason, self.grpc) = (None, None);
        self.mirrors.clear();
        self.decisions.clear();
        self.unanswered();
    }

    pub(super) fn unanswered(&mut self) {
        self.response.status = StatusCode::OK;
        empty(&mut self.response.headers);
    }

    pub(super) fn refused(&mut self, reply: LocalReply, grpc: bool) {
        self.unanswered();
        self.reason = Some(reply.reason);
        self.grpc = grpc.then_some(reply.grpc());
        if !grpc {
            let written = reply.written.as_ref().and_then(|written| written.status);
            self.response.status = written.unwrap_or(reply.reason.answer().status);
        }
        self.response.headers.extend(reply.headers);
    }
}

/// Clears a map. One that is empty, as most are, is left alone: to clear it costs as much as its capacity.
pub(super) fn empty(headers: &mut HeaderMap) {
    if !headers.is_empty() {
        headers.clear();
    }
}
