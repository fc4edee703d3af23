//! A compiled circuit breaker at work on one backend: its state found in the store, and what status shows of it.

use std::fmt::Write;
use std::sync::Arc;

use serde::Serialize;

use super::{
    Breaker, BreakerParams, BreakerPhase, BreakerRule, BreakerScope, Cap, CapCounters, CapPermit, CapUsage,
    CircuitBreaker, TransitionCounts,
};
use crate::balance::EndpointState;
use crate::decision::RuleRef;
use crate::model::BackendName;
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;

/// One [`CircuitBreaker`] at work on one backend: its counters and its breakers' states.
#[derive(Debug)]
pub struct CircuitGuard {
    /// `kind/namespace/name|backend`: equal for equal guards across pushes; connection pools are kept apart by it.
    pub id: Arc<str>,
    pub circuit: Arc<CircuitBreaker>,
    caps: Arc<CapCounters>,
    backend: Box<[BoundBreaker]>,
    endpoints: Box<[EndpointBreakers]>,
}

/// A breaker with the rule that wants it.
#[derive(Debug)]
pub(crate) struct BoundBreaker {
    pub(crate) rule: Arc<RuleRef>,
    pub(crate) breaker: Arc<Breaker>,
}

#[derive(Debug)]
struct EndpointBreakers {
    endpoint: Arc<EndpointState>,
    breakers: Box<[BoundBreaker]>,
}

/// One breaker, for metrics and status; as of the last call that it judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerStatus {
    pub rule: Arc<RuleRef>,
    pub scope: BreakerScope,
    /// The endpoint's label, where the scope is Endpoint.
    pub endpoint: Option<Arc<str>>,
    pub phase: BreakerPhase,
    pub since: Timestamp,
    /// Open: when it starts to probe.
    pub until: Option<Timestamp>,
    /// Within the window; what tripped it, while it is not closed.
    pub failures: u32,
    pub calls: u32,
    pub transitions: TransitionCounts,
}

/// A breaker changed its phase: for spans, logs and events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Transition {
    pub rule: Arc<RuleRef>,
    /// The endpoint's label, where the breaker guards one endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Arc<str>>,
    pub from: BreakerPhase,
    pub to: BreakerPhase,
}

impl CircuitGuard {
    /// Joins `circuit` to its state for one backend. Counts of caps are found again whatever changed in the policy; a
    /// breaker's state as long as its name, scope and parameters are the same.
    ///
    /// `endpoints` must be the backend's own, in their order.
    pub fn bind(
        circuit: &Arc<CircuitBreaker>,
        backend: &BackendName,
        endpoints: &[Arc<EndpointState>],
        state: &StateStore,
    ) -> Arc<Self> {
        let owner: Arc<str> = format!("{}/{}", circuit.policy.kind, circuit.policy.name).into();
        let id: Arc<str> = format!("{owner}|{backend}").into();
        let caps = state.get_or_insert(StateKey::new(owner, format!("{backend}|caps")), CapCounters::default);
        let bound = |scope, place: &str| {
            let rules = circuit.breakers.iter().filter(|rule| rule.scope == scope);
            rules.map(|rule| BoundBreaker::bind(&id, rule, place, state)).collect()
        };
        let of_endpoint = |endpoint: &Arc<EndpointState>| EndpointBreakers {
            endpoint: Arc::clone(endpoint),
            breakers: bound(BreakerScope::Endpoint, &endpoint.label),
        };
        let of_backend = bound(BreakerScope::Backend, "");
        let of_endpoints = endpoints.iter().map(of_endpoint).collect();
        let circuit = Arc::clone(circuit);
        Arc::new(Self { circuit, caps, backend: of_backend, endpoints: of_endpoints, id })
    }

    /// Every breaker's state, those of the backend first.
    pub fn status(&self) -> impl Iterator<Item = BreakerStatus> + '_ {
        let of_endpoints = self.endpoints.iter().flat_map(|e| {
            e.breakers.iter().map(|b| b.status(BreakerScope::Endpoint, Some(&e.endpoint.label)))
        });
        self.backend.iter().map(|b| b.status(BreakerScope::Backend, None)).chain(of_endpoints)
    }

    /// What is taken of each cap, limited or not.
    pub fn usage(&self) -> [CapUsage; 3] {
        [Cap::Connections, Cap::Pending, Cap::Requests].map(|cap| CapUsage {
            cap,
            used: self.caps.used(cap),
            limit: self.limit(cap),
        })
    }

    /// The rule that a decision names where no particular one decided.
    pub(crate) fn lead_rule(&self) -> Option<&Arc<RuleRef>> {
        let breakers = self.circuit.breakers.first().map(|breaker| &breaker.rule);
        breakers.or_else(|| self.circuit.caps.as_ref().map(|caps| &caps.rule))
    }

    pub(crate) fn acquire(&self, cap: Cap) -> Option<CapPermit> {
        self.caps.acquire(cap, self.limit(cap), self.circuit.mode)
    }

    /// Counts one that Shadow let through although another rule would have refused it.
    pub(crate) fn count_excess(&self, cap: Cap) -> CapPermit {
        self.caps.count_excess(cap)
    }

    pub(crate) fn limit(&self, cap: Cap) -> Option<u32> {
        self.circuit.caps.as_ref().and_then(|caps| caps.limits.of(cap))
    }

    pub(crate) fn backend_breakers(&self) -> &[BoundBreaker] {
        &self.backend
    }

    /// The breakers of the backend's endpoint number `index`.
    pub(crate) fn endpoint_breakers(&self, index: usize, endpoint: &Arc<EndpointState>) -> &[BoundBreaker] {
        let is_it = |e: &&EndpointBreakers| Arc::ptr_eq(&e.endpoint, endpoint);
        let found = self.endpoints.get(index).filter(is_it);
        found.or_else(|| self.endpoints.iter().find(is_it)).map_or(&[], |e| &e.breakers)
    }

    pub(crate) fn endpoint_admits(
        &self,
        index: usize,
        endpoint: &Arc<EndpointState>,
        now: Timestamp,
    ) -> bool {
        self.endpoint_breakers(index, endpoint).iter().all(|bound| bound.breaker.would_admit(now))
    }
}

impl BoundBreaker {
    fn bind(id: &Arc<str>, rule: &BreakerRule, place: &str, state: &StateStore) -> Self {
        let part = format!("{place}|{}|{}", rule.rule.name, fingerprint(&rule.params));
        let breaker = state.get_or_insert(StateKey::new(Arc::clone(id), part), || Breaker::new(rule.params));
        Self { rule: Arc::clone(&rule.rule), breaker }
    }

    fn status(&self, scope: BreakerScope, endpoint: Option<&Arc<str>>) -> BreakerStatus {
        let view = self.breaker.view();
        BreakerStatus {
            rule: Arc::clone(&self.rule),
            scope,
            endpoint: endpoint.cloned(),
            phase: view.phase,
            since: view.since,
            until: view.until,
            failures: view.counts.failures,
            calls: view.counts.calls,
            transitions: view.transitions,
        }
    }
}

/// What must be equal for a breaker's state to carry over.
fn fingerprint(params: &BreakerParams) -> String {
    let mut text = format!("open={}ns probes={}", params.open.as_nanos(), params.probes);
    if let Some(rate) = params.failure_rate {
        let (percent, calls, window) = (rate.percent, rate.minimum_calls, rate.window.as_nanos());
        // Writing to a String cannot fail.
        let _ = write!(text, " rate={percent}%/{calls}/{window}ns");
    }
    if let Some(limit) = params.consecutive_failures {
        let _ = write!(text, " consecutive={limit}");
    }
    text
}
