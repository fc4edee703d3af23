//! What may be called next, and what a call's outcome means: caps, breakers and balancing in one admission.
//!
//! The shell asks [`admit`] before every attempt and holds the returned [`Attempt`] while the call lasts; every
//! count the attempt took is given back when it is dropped, so a cancelled call leaks nothing.

mod admission;
mod budget;
mod classify;
mod healthy;
mod retry;

use std::sync::Arc;

use crate::balance::p2c::Wish;
use crate::balance::{EndpointState, InFlight, p2c};
use crate::decision::{CallOutcome, Decisions};
use crate::health::{Cap, CapPermit, CircuitGuard, PhaseChange, Transition};
use crate::pipeline::LocalReply;
use crate::reason::Reason;
use crate::snapshot::{BackendState, Target};
use crate::time::Timestamp;

use admission::{Asking, HeldPermit, HeldPermits};
use healthy::Healthy;

pub use budget::RetryBudget;
pub use retry::{Ended, Next, Retries, Settled, is_idempotent};

/// Leave to call one endpoint once. Holds the endpoint's in-flight count, a place under the cap on requests and the
/// breakers' permits; dropping it gives everything back, reported or not.
#[derive(Debug)]
pub struct Attempt {
    pub endpoint: Arc<EndpointState>,
    guard: Option<Arc<CircuitGuard>>,
    permits: HeldPermits,
    _request: Option<CapPermit>,
    _in_flight: InFlight,
}

/// A request that waits for a connection holds this; it counts against the cap on pending requests.
#[derive(Debug)]
#[must_use = "counts only while it is held"]
pub struct PendingPermit {
    _place: Option<CapPermit>,
}

/// An open connection holds this; it counts against the cap on connections.
#[derive(Debug)]
#[must_use = "counts only while it is held"]
pub struct ConnectionPermit {
    _place: Option<CapPermit>,
}

/// Decides whether and where the next attempt goes: backend breaker, request cap, then P2C among the healthy endpoints
/// whose own breakers admit, with this `wish`. What the rules said is appended to `decisions`: the refusing rule, or one
/// word per circuit breaker.
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
    let healthy = Healthy::consult(target, now, decisions)?;
    let Some(guard) = &target.guard else {
        let index = p2c::pick_other(endpoints, wish, |i| healthy.admits(i, &endpoints[i]), rng)
            .ok_or(Reason::NoEndpoint)?;
        return Ok(Attempt::new(&endpoints[index], None, HeldPermits::new(), None));
    };
    let mut asking = Asking::new(guard, (wish, healthy), now, decisions);
    asking.backend_breakers()?;
    let request = asking.request_cap()?;
    let index = asking.endpoint(endpoints, rng)?;
    asking.allow();
    Ok(Attempt::new(&endpoints[index], Some(guard), asking.permits, request))
}

impl Attempt {
    fn new(
        endpoint: &Arc<EndpointState>,
        guard: Option<&Arc<CircuitGuard>>,
        permits: HeldPermits,
        request: Option<CapPermit>,
    ) -> Self {
        let endpoint = Arc::clone(endpoint);
        let in_flight = endpoint.start();
        Self { endpoint, guard: guard.cloned(), permits, _request: request, _in_flight: in_flight }
    }

    /// Leave to open one more connection, or `None` at the cap: wait for a pooled one, as pending.
    pub fn open_connection(&self) -> Option<ConnectionPermit> {
        match &self.guard {
            Some(guard) => Some(ConnectionPermit { _place: Some(guard.acquire(Cap::Connections)?) }),
            None => Some(ConnectionPermit { _place: None }),
        }
    }

    /// Leave to wait for a pooled connection.
    ///
    /// # Errors
    /// [`Reason::PendingCap`] at the cap.
    pub fn wait_pending(&self, decisions: &mut Decisions) -> Result<PendingPermit, LocalReply> {
        let place = match &self.guard {
            Some(guard) => admission::take_cap(guard, Cap::Pending, decisions)?,
            None => None,
        };
        Ok(PendingPermit { _place: place })
    }

    /// The reply for a request that waited for a connection under the cap and got none in time; the cap's rule goes
    /// to `decisions`.
    pub fn connection_cap_reached(&self, decisions: &mut Decisions) -> LocalReply {
        let guard = self.guard.as_ref();
        let written =
            guard.map_or(Ok(()), |guard| admission::cap_reached(guard, Cap::Connections, decisions));
        written.err().unwrap_or_else(|| Reason::ConnectionCap.into())
    }

    /// Tells the breakers how the call ended, once; what follows the first report is not counted. Returns the change
    /// of phase that this made (the backend's, where it changed the endpoint's too). The in-flight count is kept
    /// until the attempt is dropped (the response body may still stream).
    pub fn record(&mut self, outcome: CallOutcome, now: Timestamp) -> Option<Transition> {
        let permits = std::mem::take(&mut self.permits);
        let ok = classify::is_success(outcome.result)?;
        let mut first = None;
        for HeldPermit { rule, of_endpoint, permit } in permits {
            let Some(PhaseChange { from, to }) = permit.record(ok, now) else { continue };
            let endpoint = of_endpoint.then(|| Arc::clone(&self.endpoint.label));
            first = first.or(Some(Transition { rule, endpoint, from, to }));
        }
        first
    }
}

#[cfg(test)]
mod tests;
