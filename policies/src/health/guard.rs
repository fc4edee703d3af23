//! A compiled circuit breaker at work on one backend: its state found in the store.

mod bound;
mod shared;
mod status;

use std::sync::Arc;

use super::caps::{BoundCap, KeyedCap, KeyedCounters};
use super::ejection::{Ejections, Member};
use super::peers::Peers;
use super::{Breaker, BreakerRule, BreakerScope, CapScope, CircuitBreaker, Outliers, SharedEndpoint, Turns};
use crate::balance::EndpointState;
use crate::decision::RuleRef;
use crate::model::BackendName;
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;
use bound::OfEndpoint;
pub use bound::Transition;
pub(crate) use bound::{BoundBreaker, Reading};
pub use status::BreakerStatus;

/// One [`CircuitBreaker`] at work on one backend: its counters and its breakers' states.
#[derive(Debug)]
pub struct CircuitGuard {
    /// `kind/namespace/name|backend`: equal for equal guards across pushes; connection pools are kept apart by it.
    pub id: Arc<str>,
    pub circuit: Arc<CircuitBreaker>,
    /// The route rule whose calls these are, where there are caps for each; empty where there are none.
    pub rule: Arc<str>,
    caps: BoundCap,
    rule_caps: Option<BoundCap>,
    key_caps: Option<KeyedCap>,
    backend: Box<[Arc<BoundBreaker>]>,
    endpoints: Box<[GuardedEndpoint]>,
    ejections: Arc<Ejections>,
}

/// One endpoint with what guards it.
#[derive(Debug)]
pub(crate) struct GuardedEndpoint {
    endpoint: Arc<EndpointState>,
    pub(crate) breakers: Box<[Arc<BoundBreaker>]>,
    pub(crate) caps: Option<BoundCap>,
    /// What others say of it, and what they are told.
    pub(crate) shared: Option<Arc<SharedEndpoint>>,
}

/// Where a guard finds its state.
struct Places<'a> {
    owner: Arc<str>,
    id: Arc<str>,
    backend: &'a BackendName,
    state: &'a StateStore,
}

impl CircuitGuard {
    /// Joins `circuit` to its state for one backend. Counts of caps are found again whatever changed in the policy; a
    /// breaker's state as long as its name, scope and parameters are the same.
    ///
    /// `endpoints` must be the backend's own, in their order. `rule`: whose calls these are, for caps on each rule.
    pub fn bind(
        circuit: &Arc<CircuitBreaker>,
        (backend, rule): (&BackendName, &str),
        endpoints: &[Arc<EndpointState>],
        state: &StateStore,
    ) -> Arc<Self> {
        let owner: Arc<str> = format!("{}/{}", circuit.policy.kind, circuit.policy.name).into();
        let id: Arc<str> = format!("{owner}|{backend}").into();
        let places = Places { owner, id, backend, state };
        let ejections: Arc<Ejections> =
            state.get_or_insert(StateKey::new(places.id.clone(), "ejections"), Ejections::default);
        let of_backend = circuit.breakers.iter().filter(|rule| rule.scope == BreakerScope::Backend);
        let of_backend = of_backend.map(|rule| {
            let breaker = places.breaker(rule, "");
            Arc::new(BoundBreaker { rule: Arc::clone(rule), breaker, of_endpoint: None })
        });
        let guarded = places.endpoints(circuit, endpoints, &ejections);
        ejections.set(circuit.ejection, guarded.iter().map(GuardedEndpoint::member).collect());
        let rule: Arc<str> = if circuit.caps_rules() { rule.into() } else { Arc::default() };
        let of_rule = circuit.cap(CapScope::Rule);
        let this = Arc::new(Self {
            caps: places.cap(circuit.cap(CapScope::Backend), ""),
            key_caps: circuit.cap(CapScope::Key).and_then(|cap| places.key_cap(cap)),
            rule_caps: of_rule.map(|cap| places.cap(Some(cap), &format!("|rule {rule}"))),
            backend: of_backend.collect(),
            endpoints: guarded,
            ejections,
            rule,
            circuit: Arc::clone(circuit),
            id: places.id,
        });
        if circuit.sharing().is_some() {
            Outliers::of(state).adopt(&this);
        }
        this
    }

    /// The rule that a decision names where no particular one decided.
    pub(crate) fn lead_rule(&self) -> Option<&Arc<RuleRef>> {
        let breakers = self.circuit.breakers.first().map(|breaker| &breaker.rule);
        let caps = || self.circuit.caps.first().map(|cap| &cap.rule);
        breakers.or_else(caps).or_else(|| self.circuit.shared.as_ref().map(|shared| &shared.rule))
    }

    /// The caps that hold whichever endpoint is called.
    pub(crate) fn shared_caps(&self) -> impl Iterator<Item = &BoundCap> {
        std::iter::once(&self.caps).chain(&self.rule_caps)
    }

    /// What holds for each key.
    pub(crate) fn key_caps(&self) -> Option<&KeyedCap> {
        self.key_caps.as_ref()
    }

    /// The caps that hold for calls to this endpoint.
    pub(crate) fn caps_on(&self, endpoint: &Arc<EndpointState>) -> impl Iterator<Item = &BoundCap> {
        let guarded = self.endpoints.iter().filter(|_| self.caps_endpoints());
        let own = guarded.filter(|guarded| Arc::ptr_eq(&guarded.endpoint, endpoint));
        self.shared_caps().chain(own.filter_map(|guarded| guarded.caps.as_ref()))
    }

    pub(crate) fn caps_endpoints(&self) -> bool {
        self.endpoints.first().is_some_and(|guarded| guarded.caps.is_some())
    }

    pub(in crate::health) fn caps(&self) -> &BoundCap {
        &self.caps
    }

    pub(in crate::health) fn rule_caps(&self) -> Option<&BoundCap> {
        self.rule_caps.as_ref()
    }

    pub(in crate::health) fn endpoints(&self) -> &[GuardedEndpoint] {
        &self.endpoints
    }

    pub(crate) fn backend_breakers(&self) -> &[Arc<BoundBreaker>] {
        &self.backend
    }

    /// What guards the backend's endpoint number `index`.
    pub(crate) fn endpoint(&self, index: usize, endpoint: &Arc<EndpointState>) -> Option<&GuardedEndpoint> {
        let is_it = |e: &&GuardedEndpoint| Arc::ptr_eq(&e.endpoint, endpoint);
        let found = self.endpoints.get(index).filter(is_it);
        found.or_else(|| self.endpoints.iter().find(is_it))
    }

    /// How many of how many endpoints are left, where that is so few that all are to be used.
    pub(crate) fn panic(&self) -> Option<(u32, u32)> {
        self.ejections.panic(self.circuit.ejection)
    }

    /// An endpoint is no longer left alone for what others say of it.
    pub(crate) fn overruled(&self) {
        self.ejections.refresh();
    }

    /// How often somebody was ejected, or came back.
    pub(in crate::health) fn turns(&self) -> &Turns {
        &self.ejections.turns
    }

    /// Whether the backend's endpoint number `index` is ejected.
    pub(crate) fn ejects(&self, index: usize, endpoint: &Arc<EndpointState>) -> bool {
        let (ejected, _) = self.ejections.counts();
        ejected > 0 && self.endpoint(index, endpoint).is_some_and(GuardedEndpoint::is_ejected)
    }

    /// After a push there may be too many ejected among the endpoints that are left.
    pub(crate) fn settle(&self, now: Timestamp) {
        self.ejections.settle(now);
    }
}

impl Places<'_> {
    fn breaker(&self, rule: &BreakerRule, place: &str) -> Arc<Breaker> {
        let BreakerRule { params, failures, honor_retry_after, .. } = rule;
        let part = format!("{place}|{}|{params:?}{failures:?}{honor_retry_after:?}", rule.rule.name);
        let key = StateKey::new(Arc::clone(&self.id), part);
        let seed = self.seed(&key);
        self.state.get_or_insert(key, || Breaker::new(rule.params, seed))
    }

    /// Differs between breakers and between proxies, so that not all of them come back at the same moment.
    fn seed(&self, key: &StateKey) -> u64 {
        let [a, b] = self.state.hash_seed();
        let bytes = key.owner.bytes().chain(key.part.bytes());
        // FNV-1a.
        bytes
            .fold(a ^ b.rotate_left(32), |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    fn cap(&self, rule: Option<&super::CapRule>, place: &str) -> BoundCap {
        let key = StateKey::new(Arc::clone(&self.owner), format!("{}|caps{place}", self.backend));
        BoundCap::new(rule.cloned(), self.state.get_or_insert(key, Default::default))
    }

    /// Other limits find the same counters, other keys do not.
    fn key_cap(&self, rule: &super::CapRule) -> Option<KeyedCap> {
        let by = Arc::clone(rule.key.as_ref()?);
        let part = format!("{}|caps|key{}", self.backend, by.describe());
        let counters =
            self.state.get_or_insert(StateKey::new(Arc::clone(&self.owner), part), KeyedCounters::default);
        Some(KeyedCap::new(rule.clone(), by, self.state.hash_seed(), counters))
    }

    fn endpoints(
        &self,
        circuit: &CircuitBreaker,
        endpoints: &[Arc<EndpointState>],
        ejections: &Arc<Ejections>,
    ) -> Box<[GuardedEndpoint]> {
        let capped = circuit.cap(CapScope::Endpoint);
        let guarded = endpoints.iter().map(|endpoint| {
            let caps = capped.map(|cap| self.cap(Some(cap), &format!("|endpoint {}", endpoint.label)));
            (Arc::clone(endpoint), Vec::new(), caps)
        });
        let mut guarded: Vec<_> = guarded.collect();
        for rule in circuit.breakers.iter().filter(|rule| rule.scope == BreakerScope::Endpoint) {
            let all: Box<[_]> = endpoints.iter().map(|e| self.breaker(rule, &e.label)).collect();
            let peers = Peers::new(rule.params, all.clone()).map(Arc::new);
            for ((index, breaker), (endpoint, breakers, _)) in all.into_iter().enumerate().zip(&mut guarded) {
                let of = OfEndpoint {
                    index,
                    endpoint: Arc::clone(endpoint),
                    peers: peers.clone(),
                    ejections: Arc::clone(ejections),
                };
                let rule = Arc::clone(rule);
                breakers.push(Arc::new(BoundBreaker { rule, breaker, of_endpoint: Some(of) }));
            }
        }
        let shared = |endpoint: &EndpointState| {
            let key = StateKey::new(Arc::clone(&self.id), format!("shared|{}", endpoint.label));
            circuit.sharing().map(|_| self.state.get_or_insert(key, SharedEndpoint::default))
        };
        let whole = |(endpoint, breakers, caps): (Arc<EndpointState>, Vec<_>, _)| GuardedEndpoint {
            shared: shared(&endpoint),
            endpoint,
            breakers: breakers.into(),
            caps,
        };
        guarded.into_iter().map(whole).collect()
    }
}

impl GuardedEndpoint {
    pub(in crate::health) fn label(&self) -> &str {
        &self.endpoint.label
    }

    fn member(&self) -> Member {
        let breakers = self.breakers.iter().map(|bound| Arc::clone(&bound.breaker)).collect();
        Member { endpoint: Arc::clone(&self.endpoint), breakers, shared: self.shared.clone() }
    }

    fn is_ejected(&self) -> bool {
        self.breakers.iter().any(|bound| bound.breaker.phase().holds_back())
            || self.shared.as_ref().is_some_and(|shared| shared.is_avoided())
    }

    /// Whether its breakers, and what others say of it, would let a call through.
    pub(crate) fn would_admit(&self, now: Timestamp) -> bool {
        self.breakers.iter().all(|bound| bound.breaker.would_admit(now))
            && self.shared.as_ref().is_none_or(|shared| shared.would_admit(now))
    }
}
