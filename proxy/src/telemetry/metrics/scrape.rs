//! What is measured at the moment of a scrape, not counted on the way.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use tidegate_policy::health::{BreakerPhase, CircuitGuard, TransitionCounts};
use tidegate_policy::kinds::rate_limit::Standing;
use tidegate_policy::overload::Load;

use super::health::{self, HealthSample};
use super::labels::{
    BreakerLabels, EjectedLabels, PolicyLabel, ResultLabel, ServiceLabels, StandingLabel, TransitionLabels,
};
use crate::identity::IdentitySample;
use crate::limits::counts::Counted;
use crate::plugins::{CustomMetric, PluginStatus};

/// What only the rest of the proxy knows, asked for at each scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// `None` for a proxy without a control plane.
    pub xds_connected: Option<bool>,
    /// Since the configuration in force was applied; `None` while there is none.
    pub config_age: Option<Duration>,
    pub breakers: Vec<BreakerSample>,
    pub ejected: Vec<EjectedSample>,
    pub health: Vec<HealthSample>,
    /// What became of the questions to the store of exact limits; `None` for a proxy without one.
    pub exact: Option<Counted>,
    /// The same of each rate limit service that was asked.
    pub services: Vec<(Arc<str>, Counted)>,
    /// The buckets of limits that all proxies share.
    pub lent: Standing,
    /// The gates of services, by `namespace/name` of their policy.
    pub gates: Vec<(Arc<str>, Load)>,
    /// By policy.
    pub plugins: Vec<PluginStatus>,
    /// What plugins count themselves.
    pub plugin_metrics: Vec<CustomMetric>,
    /// The workload's certificate; `None` for a proxy without an identity.
    pub identity: Option<IdentitySample>,
}

/// State of one rule of a circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSample {
    /// `namespace/name` of the policy.
    pub policy: Arc<str>,
    pub backend: Arc<str>,
    /// `None` for a rule over the whole backend.
    pub endpoint: Option<Arc<str>>,
    pub rule: Arc<str>,
    /// 0 closed, 1 half-open, 2 open, 3 ramping.
    pub state: u8,
    /// Since the breaker was first written as it is now: a rule with other parameters counts from zero.
    pub transitions: TransitionCounts,
}

impl BreakerSample {
    /// Every breaker of `guard`, which guards `backend`.
    pub fn of(guard: &CircuitGuard, backend: &Arc<str>) -> impl Iterator<Item = Self> {
        let policy: Arc<str> = guard.circuit.policy.name.to_string().into();
        guard.status().map(move |status| Self {
            policy: policy.clone(),
            backend: backend.clone(),
            endpoint: status.endpoint,
            rule: status.rule.name.clone(),
            state: match status.phase {
                BreakerPhase::Closed => 0,
                BreakerPhase::HalfOpen => 1,
                BreakerPhase::Open => 2,
                BreakerPhase::Ramping => 3,
            },
            transitions: status.transitions,
        })
    }
}

/// How many endpoints of a backend are held back by breakers of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EjectedSample {
    /// `namespace/name` of the policy.
    pub policy: Arc<str>,
    pub backend: Arc<str>,
    pub ejected: u32,
}

impl EjectedSample {
    pub fn of(guard: &CircuitGuard, backend: &Arc<str>) -> Self {
        let policy = guard.circuit.policy.name.to_string().into();
        Self { policy, backend: backend.clone(), ejected: guard.ejected().0 }
    }
}

fn register_identity(registry: &mut Registry, identity: IdentitySample) {
    if let Some(expires) = identity.expires {
        let help = "When the workload's certificate runs out, since the Unix epoch";
        let gauge = ConstGauge::new(i64::try_from(expires).unwrap_or(i64::MAX));
        registry.register_with_unit("tidegate_certificate_expires", help, Unit::Seconds, gauge);
    }
    let roots = ConstGauge::new(i64::try_from(identity.roots).unwrap_or(i64::MAX));
    registry.register("tidegate_trusted_roots", "Roots that identities are verified with", roots);
    let asked = Family::<ResultLabel, Counter>::default();
    for (result, count) in [("renewed", identity.renewed), ("failed", identity.failed)] {
        asked.get_or_create(&ResultLabel { result }).inc_by(count);
    }
    registry.register("tidegate_certificate_requests", "Certificates asked for, by what came of it", asked);
}

/// A registry of this moment's values only. At most `cap` breakers are told.
pub(super) fn registry(scrape: &Scrape, cap: usize) -> Registry {
    let mut registry = Registry::default();
    if let Some(connected) = scrape.xds_connected {
        let gauge = ConstGauge::new(i64::from(connected));
        registry.register("tidegate_xds_connected", "1 while a stream to the control plane is open", gauge);
    }
    if let Some(age) = scrape.config_age {
        let gauge = ConstGauge::new(age.as_secs_f64());
        let help = "Time since the configuration in force was applied";
        registry.register_with_unit("tidegate_config_age", help, Unit::Seconds, gauge);
    }
    if let Some(identity) = scrape.identity {
        register_identity(&mut registry, identity);
    }
    if !scrape.breakers.is_empty() {
        register_breakers(&mut registry, &scrape.breakers[..scrape.breakers.len().min(cap)]);
    }
    if !scrape.ejected.is_empty() {
        let ejected = Family::<EjectedLabels, Gauge>::default();
        for EjectedSample { policy, backend, ejected: count } in scrape.ejected.iter().take(cap).cloned() {
            ejected.get_or_create(&EjectedLabels { policy, backend }).set(count.into());
        }
        registry.register("tidegate_ejected_endpoints", "Endpoints held back by their own breakers", ejected);
    }
    if !scrape.health.is_empty() {
        health::register(&mut registry, &scrape.health, cap);
    }
    if let Some(counted) = &scrape.exact {
        register_exact(&mut registry, counted);
    }
    if !scrape.services.is_empty() {
        register_services(&mut registry, &scrape.services[..scrape.services.len().min(cap)]);
    }
    if scrape.lent != Standing::default() {
        register_lent(&mut registry, scrape.lent);
    }
    if !scrape.gates.is_empty() {
        register_gates(&mut registry, &scrape.gates[..scrape.gates.len().min(cap)]);
    }
    if !scrape.plugins.is_empty() {
        let own = scrape.plugin_metrics.iter().take(cap).cloned().collect();
        super::plugins::register(&mut registry, &scrape.plugins[..scrape.plugins.len().min(cap)], own);
    }
    if let Some(bytes) = resident_memory() {
        let gauge = ConstGauge::new(bytes);
        registry.register_with_unit("process_resident_memory", "Resident memory", Unit::Bytes, gauge);
    }
    registry
}

fn register_breakers(registry: &mut Registry, breakers: &[BreakerSample]) {
    let states = Family::<BreakerLabels, Gauge>::default();
    let turns = Family::<TransitionLabels, Counter>::default();
    for breaker in breakers {
        let BreakerSample { policy, backend, endpoint, rule, state, transitions } = breaker.clone();
        let TransitionCounts { closed, opened, half_opened, ramped } = transitions;
        let labels = BreakerLabels { policy, backend, endpoint, rule };
        for (to, count) in [
            (BreakerPhase::Closed, closed),
            (BreakerPhase::Open, opened),
            (BreakerPhase::HalfOpen, half_opened),
            (BreakerPhase::Ramping, ramped),
        ] {
            turns.get_or_create(&TransitionLabels::new(&labels, to.as_str())).inc_by(count);
        }
        states.get_or_create(&labels).set(state.into());
    }
    registry.register("tidegate_breaker_state", "0 closed, 1 half-open, 2 open, 3 ramping", states);
    registry.register("tidegate_breaker_transitions", "How often a breaker entered each state", turns);
}

fn register_exact(registry: &mut Registry, counted: &Counted) {
    let results = Family::<ResultLabel, Counter>::default();
    for (result, count) in results_of(counted) {
        results.get_or_create(&ResultLabel { result }).inc_by(count);
    }
    let help = "Requests under an exact limit: what the store said, and how many were judged without it";
    registry.register("tidegate_exact_limit", help, results);
}

fn register_services(registry: &mut Registry, services: &[(Arc<str>, Counted)]) {
    let results = Family::<ServiceLabels, Counter>::default();
    for (service, counted) in services {
        for (result, count) in results_of(counted) {
            let service = Arc::clone(service);
            results.get_or_create(&ServiceLabels { service, result }).inc_by(count);
        }
    }
    let help = "Requests for which a rate limit service was to be asked: what it said, and how many were judged without it";
    registry.register("tidegate_limit_service", help, results);
}

fn results_of(counted: &Counted) -> [(&'static str, u64); 4] {
    [
        ("answered", counted.answered),
        ("timed_out", counted.timed_out),
        ("failed", counted.failed),
        ("fell_back", counted.fell_back),
    ]
}

fn register_gates(registry: &mut Registry, gates: &[(Arc<str>, Load)]) {
    let [limits, in_flight, queued] = [(); 3].map(|()| Family::<PolicyLabel, Gauge>::default());
    for (policy, load) in gates {
        let labels = PolicyLabel { policy: policy.clone() };
        limits.get_or_create(&labels).set(load.limit.into());
        in_flight.get_or_create(&labels).set(load.in_flight.into());
        queued.get_or_create(&labels).set(load.queued.into());
    }
    registry.register("tidegate_overload_limit", "Requests that may be in service at one time", limits);
    registry.register("tidegate_overload_in_flight", "Requests in service", in_flight);
    registry.register("tidegate_overload_queued", "Requests that wait for their turn", queued);
}

fn register_lent(registry: &mut Registry, lent: Standing) {
    let standings = Family::<StandingLabel, Gauge>::default();
    for (standing, count) in
        [("assigned", lent.assigned), ("reused", lent.reused), ("fallback", lent.fallback)]
    {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        standings.get_or_create(&StandingLabel { standing }).set(count);
    }
    let help = "Buckets of mesh-wide limits here: with a share, cut off with the last share, or without one";
    registry.register("tidegate_mesh_limit_buckets", help, standings);
}

/// Bytes, where the system tells (Linux).
pub(crate) fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidegate_policy::balance::EndpointState;
    use tidegate_policy::kind::Compiled;
    use tidegate_policy::model::{
        Address, BackendKind, BackendName, Meta, Mode, Policy, ResourceName, SourceMap, SourceRef,
    };
    use tidegate_policy::state::StateStore;

    fn guard() -> Arc<CircuitGuard> {
        let name = ResourceName::new("shop", "checkout-breaker");
        let source = SourceRef::Object { name: name.clone(), generation: 1 };
        let spec = json!({"breakers": [
            {"name": "down", "scope": "Backend", "consecutiveFailures": 5, "open": "5s", "probes": 1},
            {"name": "errors", "scope": "Endpoint", "consecutiveFailures": 3, "open": "5s", "probes": 1},
        ]});
        let policy = Policy {
            meta: Meta { name, source, created: None },
            kind: "CircuitBreakerPolicy".into(),
            targets: Vec::new(),
            mode: Mode::Enforce,
            spec,
            lines: SourceMap::default(),
        };
        let entry = tidegate_policy::kinds::find("CircuitBreakerPolicy").unwrap();
        let Compiled::CircuitBreaker(circuit) = entry.compile(&policy).unwrap() else {
            panic!("a circuit breaker")
        };
        let object = ResourceName::new("shop", "checkout");
        let backend = BackendName { kind: BackendKind::Service, object, port: 80 };
        let endpoint = Address::Socket(([10, 0, 0, 2], 8080).into());
        let endpoints = [Arc::new(EndpointState::new(endpoint))];
        CircuitGuard::bind(&circuit, (&backend, ""), &endpoints, &StateStore::new([0, 0]))
    }

    #[test]
    fn each_breaker_of_a_guard_is_a_sample() {
        let samples: Vec<_> = BreakerSample::of(&guard(), &Arc::from("shop/checkout:80")).collect();
        let told: Vec<_> =
            samples.iter().map(|s| (&*s.rule, s.endpoint.as_deref(), &*s.policy, s.state)).collect();
        let policy = "shop/checkout-breaker";
        assert_eq!(told, [("down", None, policy, 0), ("errors", Some("10.0.0.2:8080"), policy, 0)]);
    }
}
