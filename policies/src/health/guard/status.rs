//! What a guard tells of itself: to metrics, to the admin page and to people.

use std::sync::Arc;

use super::{BoundBreaker, CircuitGuard};
use crate::decision::RuleRef;
use crate::health::{BreakerPhase, BreakerScope, Cap, CapUsage, Evidence, TransitionCounts};
use crate::time::Timestamp;

/// One breaker, for metrics and status; as of the last call that it judged.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerStatus {
    pub rule: Arc<RuleRef>,
    pub scope: BreakerScope,
    /// The endpoint's label, where the scope is Endpoint.
    pub endpoint: Option<Arc<str>>,
    pub phase: BreakerPhase,
    pub since: Timestamp,
    /// Open: when it starts to probe. Ramping: when it lets all calls through.
    pub until: Option<Timestamp>,
    /// Within the window; what tripped it, while it is open or half-open.
    pub failures: u32,
    pub calls: u32,
    /// What it tripped on, while it is not closed.
    pub evidence: Option<Evidence>,
    /// Why the endpoint would be ejected, if not too many were already.
    pub spared: Option<Evidence>,
    /// Probes that failed since it tripped.
    pub failed_probes: u32,
    pub transitions: TransitionCounts,
}

impl CircuitGuard {
    /// Every breaker's state, those of the backend first.
    pub fn status(&self) -> impl Iterator<Item = BreakerStatus> + '_ {
        let of_endpoints = self.endpoints.iter().flat_map(|e| e.breakers.iter());
        self.backend.iter().chain(of_endpoints).map(|bound| bound.status())
    }

    /// What is taken of each cap on the whole backend, limited or not.
    pub fn usage(&self) -> [CapUsage; 3] {
        [Cap::Connections, Cap::Pending, Cap::Requests].map(|cap| self.caps.usage(cap))
    }

    /// How many endpoints are ejected, and of how many that take calls.
    pub fn ejected(&self) -> (u32, u32) {
        self.ejections.counts()
    }
}

impl BoundBreaker {
    fn status(&self) -> BreakerStatus {
        let view = self.breaker.view();
        BreakerStatus {
            rule: Arc::clone(&self.rule.rule),
            scope: self.rule.scope,
            endpoint: self.of_endpoint.as_ref().map(|of| Arc::clone(&of.endpoint.label)),
            phase: view.phase,
            since: view.since,
            until: view.until,
            failures: view.counts.failures,
            calls: view.counts.calls,
            evidence: view.evidence,
            spared: view.spared,
            failed_probes: view.failed_probes,
            transitions: view.transitions,
        }
    }
}
