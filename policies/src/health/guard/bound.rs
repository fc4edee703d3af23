//! A breaker with the rule that wants it and the place where it stands.

use std::sync::Arc;
use std::time::Duration;

use http::response;
use serde::Serialize;

use crate::balance::EndpointState;
use crate::decision::{CallOutcome, CallResult, RuleRef};
use crate::health::ejection::{Ejections, Unhealthy};
use crate::health::peers::Peers;
use crate::health::{
    Breaker, BreakerPhase, BreakerRule, Evidence, Permit, PhaseChange, Recorded, Report, Trip, told,
};
use crate::reason::Reason;
use crate::time::Timestamp;

/// See the module.
#[derive(Debug)]
pub(crate) struct BoundBreaker {
    pub(crate) rule: Arc<BreakerRule>,
    pub(crate) breaker: Arc<Breaker>,
    /// `None`: it guards the whole backend.
    pub(super) of_endpoint: Option<OfEndpoint>,
}

/// Where a breaker of an endpoint stands.
#[derive(Debug)]
pub(super) struct OfEndpoint {
    /// Among the endpoints of its guard.
    pub(super) index: usize,
    pub(super) endpoint: Arc<EndpointState>,
    /// `None`: it is not compared with others.
    pub(super) peers: Option<Arc<Peers>>,
    pub(super) ejections: Arc<Ejections>,
}

/// What a breaker has read in a response, before the call is at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    failed: bool,
    told: Option<Duration>,
}

/// A breaker changed its phase: for spans, logs and events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transition {
    pub rule: Arc<RuleRef>,
    /// The endpoint's label, where the breaker guards one endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Arc<str>>,
    pub from: BreakerPhase,
    pub to: BreakerPhase,
    /// On what it tripped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

impl BoundBreaker {
    /// Whether it wants to see responses.
    pub(crate) fn reads(&self) -> bool {
        self.rule.failures.expression.is_some() || self.rule.honor_retry_after.is_some()
    }

    /// Looks at the head of a response, or at trailers with what they say on top.
    pub(crate) fn read(&self, head: &response::Parts, unix: &dyn Fn() -> Duration, reading: &mut Reading) {
        reading.failed |= self.rule.failures.in_head(head);
        if let Some(most) = self.rule.honor_retry_after {
            let wait = || told::wait(head.status, &head.headers, unix).map(|wait| wait.min(most));
            reading.told = reading.told.or_else(wait);
        }
    }

    pub(crate) fn read_trailers(&self, trailers: &http::HeaderMap, reading: &mut Reading) {
        if let Some(most) = self.rule.honor_retry_after {
            reading.told = reading.told.or(told::pushback(trailers).map(|wait| wait.min(most)));
        }
    }

    /// Reports the end of a call. `unhealthy`: what health checks say of the backend's endpoints.
    pub(crate) fn record(
        &self,
        permit: Permit,
        (outcome, reading): (CallOutcome, Reading),
        unhealthy: Unhealthy<'_>,
        now: Timestamp,
    ) -> Option<Transition> {
        let ok = self.rule.failures.is_success(outcome.result, reading.failed);
        // Who left may have done so because it took so long. What the mesh refused took as long as the mesh wanted.
        if ok.is_none() && outcome.result != CallResult::Failed(Reason::ClientGone) {
            return None;
        }
        let report = Report { ok, latency: outcome.latency, told: reading.told };
        let change = match permit.record(report, now) {
            Recorded::Changed(change) => {
                self.of_endpoint.iter().for_each(|of| of.ejections.refresh());
                Some(change)
            }
            Recorded::Due(trip) => self.open(trip, unhealthy, now),
            Recorded::Quiet => self.compare(now).and_then(|trip| self.open(trip, unhealthy, now)),
        };
        change.map(|change| self.transition(change))
    }

    fn open(&self, trip: Trip, unhealthy: Unhealthy<'_>, now: Timestamp) -> Option<PhaseChange> {
        match &self.of_endpoint {
            Some(of) => of.ejections.eject(&of.endpoint, trip, unhealthy, now),
            None => trip.open(now),
        }
    }

    fn compare(&self, now: Timestamp) -> Option<Trip> {
        let of = self.of_endpoint.as_ref()?;
        let evidence = of.peers.as_ref()?.judge(of.index, now)?;
        self.breaker.trip(evidence)
    }

    fn transition(&self, PhaseChange { from, to }: PhaseChange) -> Transition {
        let endpoint = self.of_endpoint.as_ref().map(|of| Arc::clone(&of.endpoint.label));
        let evidence = self.breaker.view().evidence.filter(|_| to == BreakerPhase::Open);
        Transition { rule: Arc::clone(&self.rule.rule), endpoint, from, to, evidence }
    }
}
