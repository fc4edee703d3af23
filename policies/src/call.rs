//! What may be called next, and what a call's outcome means: caps, breakers and balancing in one admission.
//!
//! The shell asks [`admit`] before every attempt and holds the returned [`Attempt`] while the call lasts; every
//! count the attempt took is given back when it is dropped, so a cancelled call leaks nothing.

mod admission;
mod budget;
mod conditions;
mod deadline;
mod healthy;
mod hedge;
mod latency;
mod plan;
mod pushback;
mod retry;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, response};

use crate::balance::{Carried, Choice, InFlight, Sample, Wish};
use crate::decision::{CallOutcome, Decisions, add};
use crate::health::check::HealthGuard;
use crate::health::{CapKey, CircuitGuard, SharedEndpoint, Transition, Unhealthy, failures};
use crate::model::Mode;
use crate::pipeline::LocalReply;
use crate::reason::Reason;
use crate::snapshot::{BackendState, Target};
use crate::time::Timestamp;

use admission::{Asking, CapPermits, Given, HeldPermit, HeldPermits};
use healthy::Healthy;

pub use budget::{BudgetShare, MAX_INTERVAL, RetryBudget};
pub use conditions::{Condition, RetryOn};
pub use deadline::{DEFAULT_HEADER, DeadlineRule, parse_grpc_timeout};
pub use hedge::{Hedge, HedgeAfter, has_other};
pub use latency::Latency;
pub use plan::{
    Allowed, Backoff, CallPlan, DEFAULT_BODY_LIMIT, Limit, RetryRule, Said, Shadow, TimeLimits, TimeoutRule,
};
pub use pushback::Pushback;
pub use retry::{Ended, Next, Retries, Settled, is_idempotent};

/// Leave to call one endpoint once. Holds the endpoint's in-flight count, places under the caps on requests and the
/// breakers' permits; dropping it gives everything back, reported or not.
#[derive(Debug)]
pub struct Attempt {
    /// Counted there as long as this is held.
    pub endpoint: InFlight,
    guard: Option<Arc<CircuitGuard>>,
    /// What says how the other endpoints are, where that is asked for: before one is ejected.
    health: Option<Arc<HealthGuard>>,
    permits: HeldPermits,
    shared: Option<Arc<SharedEndpoint>>,
    /// The time constant with which its latency is averaged; none once that is done.
    decay: Option<Duration>,
    _requests: CapPermits,
    _carried: Option<Carried>,
}

/// A request that waits for a connection holds this; it counts against the cap on pending requests.
#[derive(Debug)]
#[must_use = "counts only while it is held"]
pub struct PendingPermit {
    _places: CapPermits,
}

/// An open connection holds this; it counts against the cap on connections.
#[derive(Debug)]
#[must_use = "counts only while it is held"]
pub struct ConnectionPermit {
    _places: CapPermits,
}

/// An attempt after a request's first holds this; it counts against the caps on retries.
#[derive(Debug)]
#[must_use = "counts only while it is held"]
pub struct RetryPermit {
    _places: CapPermits,
}

/// Decides whether and where the next attempt goes: backend breakers, request caps, then the balancer's choice among the
/// healthy endpoints whose own breakers and caps admit, with this `wish`. What the rules said is appended to `decisions`:
/// the refusing rule, or one word per guard, then the balancer's where somebody has written how to balance.
///
/// # Errors
/// The refusal, with its headers (`retry-after` while a circuit is open): [`Reason::Unhealthy`], [`Reason::CircuitOpen`],
/// [`Reason::RequestCap`], [`Reason::EndpointsOpen`], or [`Reason::NoEndpoint`] where there is none with a weight.
pub fn admit(
    target: &Target,
    backend: &BackendState,
    wish: Wish<'_>,
    now: Timestamp,
    rng: &mut fastrand::Rng,
    decisions: &mut Decisions,
) -> Result<Attempt, LocalReply> {
    let endpoints = &backend.endpoints;
    let balancer = target.balancer.as_ref().unwrap_or(&backend.balancer);
    let choice = Choice { balancer, endpoints, wish, now };
    let healthy = Healthy::consult(target, now, decisions)?;
    let mut given = Given::default();
    let index = match &target.guard {
        None => admission::unguarded(choice, healthy, rng).ok_or(Reason::NoEndpoint)?,
        Some(guard) => {
            let mut asking = Asking::new(guard, (choice, healthy), now, decisions);
            asking.backend_breakers(rng)?;
            asking.shared_caps()?;
            let index = asking.endpoint(endpoints, rng)?;
            asking.allow();
            given = asking.given;
            index
        }
    };
    add(decisions, choice.told(index, rng));
    Ok(Attempt {
        endpoint: endpoints[index].start(now),
        guard: target.guard.clone(),
        health: target
            .health
            .clone()
            .filter(|health| health.health.mode == Mode::Enforce && target.guard.is_some()),
        permits: given.permits,
        shared: given.shared,
        decay: Some(balancer.decay()),
        _requests: given.places,
        _carried: balancer.carry(index),
    })
}

/// Leave to try a request once more; asked before what the last attempt gave is thrown away, for that is the answer where
/// there is no leave. `counted`: as the wish of its attempts.
///
/// # Errors
/// [`Reason::RetryCap`] at the cap, whose rule goes to `decisions`.
pub fn retry(target: &Target, counted: CapKey, decisions: &mut Decisions) -> Result<RetryPermit, LocalReply> {
    let places = match &target.guard {
        Some(guard) => admission::retry(guard, counted, decisions)?,
        None => CapPermits::new(),
    };
    Ok(RetryPermit { _places: places })
}

impl Attempt {
    /// Leave to open one more connection, or `None` at the cap: wait for a pooled one, as pending.
    pub fn open_connection(&self) -> Option<ConnectionPermit> {
        let places = match &self.guard {
            Some(guard) => admission::connection(guard, &self.endpoint)?,
            None => CapPermits::new(),
        };
        Some(ConnectionPermit { _places: places })
    }

    /// Leave to wait for a pooled connection.
    ///
    /// # Errors
    /// [`Reason::PendingCap`] at the cap.
    pub fn wait_pending(&self, decisions: &mut Decisions) -> Result<PendingPermit, LocalReply> {
        let places = match &self.guard {
            Some(guard) => admission::pending(guard, &self.endpoint, decisions)?,
            None => CapPermits::new(),
        };
        Ok(PendingPermit { _places: places })
    }

    /// The reply for a request that waited for a connection under the cap and got none in time; the cap's rule goes
    /// to `decisions`.
    pub fn connection_cap_reached(&self, decisions: &mut Decisions) -> LocalReply {
        let reached = |guard| admission::connection_cap_reached(guard, &self.endpoint, decisions);
        let written = self.guard.as_deref().map_or(Ok(()), reached);
        written.err().unwrap_or_else(|| Reason::ConnectionCap.into())
    }

    /// Shows the breakers the head of the response: some look for failures in it, or for when to come back. To be called
    /// before [`Attempt::record`]; costs nothing where no breaker looks. `unix`: the time since the Unix epoch, asked for only
    /// where the response names a date.
    pub fn read(&mut self, head: &response::Parts, unix: &dyn Fn() -> Duration) {
        for HeldPermit { bound, reading, .. } in self.permits.iter_mut().filter(|held| held.bound.reads()) {
            bound.read(head, unix, reading);
        }
    }

    /// The same for the trailers of a gRPC response.
    pub fn read_trailers(&mut self, trailers: &HeaderMap) {
        for HeldPermit { bound, reading, .. } in &mut self.permits {
            bound.read_trailers(trailers, reading);
        }
    }

    /// Tells the breakers, other proxies and the endpoint's average how the call ended, once; what follows the first report
    /// is not counted. Returns the change of phase that this made (the backend's, where it changed the endpoint's too). The
    /// in-flight count is kept until the attempt is dropped (the response body may still stream).
    pub fn record(&mut self, outcome: CallOutcome, now: Timestamp) -> Option<Transition> {
        if let (Some(decay), Some(ok)) = (self.decay.take(), failures::usual(outcome.result)) {
            self.endpoint.latency.record(Sample { latency: outcome.latency, ok }, decay, now);
        }
        if let (Some(shared), Some(guard)) = (self.shared.take(), &self.guard)
            && let Some(ok) = guard.sharing().and_then(|rule| rule.failures.is_success(outcome.result, false))
            && shared.record(ok, now)
        {
            guard.overruled();
        }
        let (mut first, health) = (None, self.health.take());
        let unhealthy: Unhealthy<'_> =
            &|index, endpoint| health.as_ref().is_some_and(|health| !health.admits(index, endpoint));
        for HeldPermit { bound, permit, reading } in std::mem::take(&mut self.permits) {
            let transition = bound.record(permit, (outcome, reading), unhealthy, now);
            first = first.or(transition);
        }
        first
    }
}

#[cfg(test)]
mod tests;
