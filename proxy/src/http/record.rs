//! What is kept of one request until its answer has gone out: told to telemetry exactly once, however it ends.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use http::StatusCode;
use tidegate_policy::health::Transition;
use tidegate_policy::jwt::Claims;
use tidegate_policy::pipeline::Held;
use tidegate_policy::{Decisions, Reason};
use tokio::time::Instant;

use super::body::Upload;
use crate::limits::crowd::Room;
use crate::listener::Busy;
use crate::plugins;
use crate::telemetry::{Exchange, Finished};

/// Held by the handler, then by the response body. Dropped before [`Record::complete`], the client has gone away:
/// hyper drops the handler or the body when nobody listens any more.
///
/// In one piece behind a pointer, because it travels with the request through every future and body of the proxy.
#[derive(Debug)]
pub(crate) struct Record(Box<Kept>);

#[derive(Debug, Default)]
pub(crate) struct Kept {
    exchange: Option<Exchange>,
    pub(crate) decisions: Decisions,
    /// Of the token that was verified.
    pub(crate) claims: Option<Arc<Claims>>,
    /// What policies keep of the request until its answer is out.
    pub(crate) held: Vec<Box<dyn Held>>,
    /// That have seen the request.
    pub(crate) plugins: Option<Arc<plugins::Exchange>>,
    /// Among all requests of the proxy, where they are counted.
    pub(crate) room: Option<Room>,
    pub(crate) upload: Option<Arc<Upload>>,
    pub(crate) bytes_out: u64,
    pub(crate) grpc_status: Option<u8>,
    /// Of the head that was sent; `None` before.
    pub(crate) status: Option<StatusCode>,
    pub(crate) reason: Option<Reason>,
    /// Keeps the connection's place, and keeps it from resting.
    busy: Option<Busy>,
}

impl Record {
    pub(crate) fn new(exchange: Exchange, busy: Busy) -> Self {
        Self(Box::new(Kept { exchange: Some(exchange), busy: Some(busy), ..Kept::default() }))
    }

    /// For an attempt at the same time as others.
    pub(crate) fn beside(&self) -> Self {
        let exchange = self.0.exchange.as_ref().map(Exchange::beside);
        Self(Box::new(Kept { exchange, upload: self.0.upload.clone(), ..Kept::default() }))
    }

    /// The decisions of such an attempt; with it all, if it `won`.
    pub(crate) fn adopt(&mut self, mut other: Self, won: bool) {
        let kept = &mut *self.0;
        kept.decisions.append(&mut other.0.decisions);
        if won {
            kept.grpc_status = other.0.grpc_status;
            if let (Some(own), Some(exchange)) = (&mut kept.exchange, other.0.exchange.take()) {
                own.adopt(exchange);
            }
        }
    }

    /// One that tells nothing.
    pub(crate) fn spent() -> Self {
        Self(Box::default())
    }

    /// `None` only after [`Record::complete`].
    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        self.exchange.as_mut()
    }

    /// The end of an attempt may have made a breaker change its state.
    pub(crate) fn transition(&mut self, transition: Option<Transition>) {
        if let (Some(exchange), Some(transition)) = (&mut self.0.exchange, transition) {
            exchange.transition(&transition);
        }
    }

    /// The answer is out, or has failed for `self.reason`. Later calls do nothing.
    pub(crate) fn complete(&mut self) {
        self.complete_at(Instant::now());
    }

    /// The same, for whoever knows what time it is.
    pub(crate) fn complete_at(&mut self, now: Instant) {
        let kept = &mut *self.0;
        let Some(exchange) = &mut kept.exchange else { return };
        if let Some(busy) = &mut kept.busy {
            busy.over(now);
        }
        let fallback = kept.reason.unwrap_or(Reason::ClientGone).answer().status;
        // First, so that what they are told of the end counts too.
        let plugins = kept.plugins.take().map(|plugins| plugins.finish()).unwrap_or_default();
        let finished = Finished {
            plugins,
            status: kept.status.unwrap_or(fallback),
            grpc_status: kept.grpc_status,
            reason: kept.reason,
            decisions: std::mem::take(&mut kept.decisions),
            bytes_in: kept.upload.as_ref().map_or(0, |upload| upload.bytes()),
            bytes_out: kept.bytes_out,
        };
        exchange.finish_at(&finished, now);
        kept.exchange = None;
        kept.held.clear();
        kept.room = None;
    }
}

impl Deref for Record {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        &self.0
    }
}

impl DerefMut for Record {
    fn deref_mut(&mut self) -> &mut Kept {
        &mut self.0
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.exchange.is_some() {
            self.reason.get_or_insert(Reason::ClientGone);
            self.complete();
        }
    }
}
