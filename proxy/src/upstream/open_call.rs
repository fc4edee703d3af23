//! A call whose response has begun: what it holds until the response has ended.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, response};
use tidegate_policy::balance::EndpointState;
use tidegate_policy::call::{Attempt, Limit};
use tidegate_policy::decision::{CallOutcome, CallResult};
use tidegate_policy::health::Transition;
use tidegate_policy::{Reason, Timestamp};
use tokio::time::Instant;

use super::lease::Lease;
use crate::clock::{Clock, since_epoch};

/// Dropped before its end, the attempt's counts are given back and the connection is not used again.
#[derive(Debug)]
pub(crate) struct OpenCall {
    attempt: Attempt,
    lease: Lease,
    clock: Clock,
    /// Until the head of the response.
    latency: Duration,
    /// The breakers have not been told yet: the result of a gRPC call is in its trailers.
    awaits_trailers: bool,
    pub(crate) ends: Ends,
}

/// When a response is cut short, and who says so.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// When all of it must have come; `None` without such a limit.
    pub(crate) at: Option<Instant>,
    pub(crate) limit: Option<Limit>,
    /// The limit is for tunnels too.
    pub(crate) of_streams: bool,
    pub(crate) idle: Option<Limit>,
}

/// An attempt that has no response yet. Dropped as such, its client has left: breakers learn how long that one has waited.
#[derive(Debug)]
pub(super) struct Unheard {
    attempt: Option<Attempt>,
    clock: Clock,
    admitted: Timestamp,
}

/// Tells the breakers how a call without a response ended, or one whose response begins now, and the log if one of them changes
/// its phase for it.
pub(crate) fn report(
    attempt: &mut Attempt,
    result: CallResult,
    clock: Clock,
    admitted: Timestamp,
) -> Option<Transition> {
    let now = clock.now();
    tell(attempt, CallOutcome { result, latency: now.since(admitted) }, now)
}

fn tell(attempt: &mut Attempt, outcome: CallOutcome, now: Timestamp) -> Option<Transition> {
    let changed = attempt.record(outcome, now)?;
    let evidence = changed.evidence.map(|evidence| evidence.to_string());
    tracing::warn!(
        rule = %changed.rule.name,
        source = %changed.rule.source,
        endpoint = changed.endpoint.as_deref().unwrap_or("all"),
        from = changed.from.as_str(),
        to = changed.to.as_str(),
        evidence,
        "circuit breaker changed its state"
    );
    Some(changed)
}

impl Unheard {
    pub(super) fn new(attempt: Attempt, clock: Clock, admitted: Timestamp) -> Self {
        Self { attempt: Some(attempt), clock, admitted }
    }

    /// `None` only after [`Unheard::ended`], which takes all.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        self.attempt.as_ref()
    }

    pub(super) fn ended(mut self) -> Option<Attempt> {
        self.attempt.take()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        if let Some(attempt) = &mut self.attempt {
            report(attempt, CallResult::Failed(Reason::ClientGone), self.clock, self.admitted);
        }
    }
}

impl OpenCall {
    pub(super) fn new(attempt: Attempt, lease: Lease, clock: Clock, admitted: Timestamp) -> Self {
        let latency = clock.now().since(admitted);
        Self { attempt, lease, clock, latency, awaits_trailers: true, ends: Ends::default() }
    }

    /// Shows the breakers the head of the response.
    pub(super) fn read(&mut self, head: &response::Parts) {
        self.attempt.read(head, &since_epoch);
    }

    /// Whose answer it is.
    pub(crate) fn endpoint(&self) -> &Arc<EndpointState> {
        &self.attempt.endpoint
    }

    /// Tells the breakers, once.
    pub(super) fn record(&mut self, result: CallResult) -> Option<Transition> {
        let outcome = CallOutcome { result, latency: self.latency };
        std::mem::take(&mut self.awaits_trailers)
            .then(|| tell(&mut self.attempt, outcome, self.clock.now()))
            .flatten()
    }

    /// The response's trailers hold this `grpc-status`.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap, grpc_status: u8) -> Option<Transition> {
        if self.awaits_trailers {
            self.attempt.read_trailers(trailers);
        }
        self.record(CallResult::Grpc(grpc_status))
    }

    /// The whole response has passed, by `now`.
    pub(crate) fn complete(mut self, now: Instant) {
        // A gRPC response without a status breaks its protocol.
        self.record(CallResult::Failed(Reason::UpstreamProtocol));
        self.lease.release(now);
    }

    /// The response broke off.
    pub(crate) fn fail(mut self, reason: Reason) {
        self.record(CallResult::Failed(reason));
    }
}
