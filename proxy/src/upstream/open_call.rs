//! A call whose response has begun: what it holds until the response has ended.

use std::sync::Arc;

use tidegate_policy::balance::EndpointState;
use tidegate_policy::call::{Attempt, Limit};
use tidegate_policy::decision::{CallOutcome, CallResult};
use tidegate_policy::{Reason, Timestamp};
use tokio::time::Instant;

use super::lease::Lease;
use crate::clock::Clock;

/// Dropped before its end, the attempt's counts are given back and the connection is not used again.
#[derive(Debug)]
pub(crate) struct OpenCall {
    attempt: Attempt,
    lease: Lease,
    clock: Clock,
    admitted: Timestamp,
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

/// Tells the breakers how a call ended, and the log if one of them changes its phase for it.
pub(crate) fn report(attempt: &mut Attempt, result: CallResult, clock: Clock, admitted: Timestamp) {
    let now = clock.now();
    let outcome = CallOutcome { result, latency: now.since(admitted) };
    let Some(changed) = attempt.record(outcome, now) else { return };
    tracing::warn!(
        rule = %changed.rule.name,
        source = %changed.rule.source,
        endpoint = changed.endpoint.as_deref().unwrap_or("all"),
        from = changed.from.as_str(),
        to = changed.to.as_str(),
        "circuit breaker changed its state"
    );
}

impl OpenCall {
    pub(super) fn new(attempt: Attempt, lease: Lease, clock: Clock, admitted: Timestamp) -> Self {
        Self { attempt, lease, clock, admitted, awaits_trailers: true, ends: Ends::default() }
    }

    /// Whose answer it is.
    pub(crate) fn endpoint(&self) -> &Arc<EndpointState> {
        &self.attempt.endpoint
    }

    /// Tells the breakers, once.
    pub(super) fn record(&mut self, result: CallResult) {
        if std::mem::take(&mut self.awaits_trailers) {
            report(&mut self.attempt, result, self.clock, self.admitted);
        }
    }

    /// The response's trailers hold this `grpc-status`.
    pub(crate) fn trailers(&mut self, grpc_status: u8) {
        self.record(CallResult::Grpc(grpc_status));
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
