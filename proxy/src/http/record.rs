//! What is kept of one request until its answer has gone out: told to telemetry exactly once, however it ends.

use std::sync::Arc;

use http::StatusCode;
use tidegate_policy::{Decisions, Reason};
use tokio::time::Instant;

use super::body::Upload;
use crate::listener::Busy;
use crate::telemetry::{Exchange, Finished};

/// Held by the handler, then by the response body. Dropped before [`Record::complete`], the client has gone away:
/// hyper drops the handler or the body when nobody listens any more.
#[derive(Debug)]
pub(crate) struct Record {
    exchange: Option<Exchange>,
    pub(crate) decisions: Decisions,
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
        let mut record = Self::spent();
        (record.exchange, record.busy) = (Some(exchange), Some(busy));
        record
    }

    /// One that tells nothing.
    pub(crate) fn spent() -> Self {
        Self {
            exchange: None,
            decisions: Decisions::new(),
            upload: None,
            bytes_out: 0,
            grpc_status: None,
            status: None,
            reason: None,
            busy: None,
        }
    }

    /// `None` only after [`Record::complete`].
    pub(crate) fn exchange(&mut self) -> Option<&mut Exchange> {
        self.exchange.as_mut()
    }

    /// The answer is out, or has failed for `self.reason`. Later calls do nothing.
    pub(crate) fn complete(&mut self) {
        self.complete_at(Instant::now());
    }

    /// The same, for whoever knows what time it is.
    pub(crate) fn complete_at(&mut self, now: Instant) {
        let Some(exchange) = self.exchange.take() else { return };
        if let Some(busy) = &mut self.busy {
            busy.over(now);
        }
        let fallback = self.reason.unwrap_or(Reason::ClientGone).answer().status;
        let finished = Finished {
            status: self.status.unwrap_or(fallback),
            grpc_status: self.grpc_status,
            reason: self.reason,
            decisions: std::mem::take(&mut self.decisions),
            bytes_in: self.upload.as_ref().map_or(0, |upload| upload.bytes()),
            bytes_out: self.bytes_out,
        };
        exchange.finish_at(&finished, now);
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
