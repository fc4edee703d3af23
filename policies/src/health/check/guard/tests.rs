use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::balance::Balancer;
use crate::health::check::{Cause, Finding, HealthCheck};
use crate::kind::Compiled;
use crate::kinds::find;
use crate::model::fixture::{policy, service_name};
use crate::model::{Address, AppProtocol};

const DOWN: Finding = Finding::Failed(Cause::ConnectFailed);

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn health(spec: Value) -> Arc<HealthCheck> {
    let entry = find("HealthCheckPolicy").unwrap();
    match entry.compile(&policy("HealthCheckPolicy", "h", Vec::new(), spec)).unwrap() {
        Compiled::HealthCheck(health) => health,
        _ => panic!("not a health check"),
    }
}

fn backend(ports: &[u16], state: &StateStore) -> Arc<BackendState> {
    let endpoint = |port: &u16| {
        let address = Address::Socket(([127, 0, 0, 1], *port).into());
        state.get_or_insert(StateKey::new("e", port.to_string()), || EndpointState::new(address))
    };
    let endpoints: Box<[_]> = ports.iter().map(endpoint).collect();
    Arc::new(BackendState {
        mtls: None,
        name: service_name("cart", 80),
        label: "shop/cart:80".into(),
        protocol: AppProtocol::Http1,
        connect_timeout: None,
        tls: None,
        proxy_protocol: None,
        balancer: Balancer::plain(&endpoints).into(),
        endpoints,
        placements: Box::default(),
        _roster: Arc::default(),
        retry_budget: Arc::default(),
    })
}

fn bind(spec: Value, ports: &[u16], always: bool, state: &StateStore) -> Arc<HealthGuard> {
    HealthGuard::bind(&health(spec), &backend(ports, state), None, always, state)
}

fn report(guard: &HealthGuard, (endpoint, check): (usize, usize), finding: Finding) -> Option<HealthChange> {
    let rng = &mut fastrand::Rng::with_seed(1);
    guard.report(CheckPlace { endpoint, check }, finding, at(100), rng)
}

fn admitted(guard: &HealthGuard) -> Vec<bool> {
    let endpoints = guard.backend.endpoints.iter().enumerate();
    endpoints.map(|(i, endpoint)| guard.admits(i, endpoint)).collect()
}

fn once() -> Value {
    json!({"checks": [{"name": "a", "tcp": {}, "unhealthyThreshold": 1, "healthyThreshold": 1}]})
}

#[test]
fn an_endpoint_is_healthy_if_all_checks_find_it_so() {
    let state = StateStore::new([0, 0]);
    let one = json!({"name": "a", "tcp": {}, "unhealthyThreshold": 1, "healthyThreshold": 1});
    let mut other = one.clone();
    other["name"] = json!("b");
    let guard = bind(json!({"checks": [one, other]}), &[1, 2], true, &state);
    let change = report(&guard, (0, 1), DOWN).expect("a turn");
    assert_eq!((&*change.rule.name, &*change.endpoint, change.healthy), ("b", "127.0.0.1:1", false));
    assert_eq!(admitted(&guard), [false, true]);
    report(&guard, (0, 0), DOWN);
    let change = report(&guard, (0, 1), Finding::Passed).expect("a turn");
    assert!(change.turn.healthy && !change.healthy, "the other still fails");
    assert_eq!(admitted(&guard), [false, true]);
    report(&guard, (0, 0), Finding::Passed);
    assert_eq!(admitted(&guard), [true, true]);
    assert_eq!(guard.counts().collect::<Vec<_>>(), [("passed", 2), ("connect_failed", 2)]);
}

#[test]
fn a_push_keeps_what_is_known_of_endpoints_even_under_other_thresholds_and_paths() {
    let state = StateStore::new([0, 0]);
    let guard = bind(once(), &[1, 2], true, &state);
    report(&guard, (1, 0), DOWN);
    let spec =
        json!({"initial": "Unhealthy", "checks": [{"name": "a", "http": {"path": "/"}, "interval": "9s"}]});
    let next = bind(spec, &[3, 2], true, &state);
    assert_eq!(admitted(&next), [false, false], "the new one begins as written now");
    report(&next, (0, 0), Finding::Passed);
    assert_eq!(admitted(&next), [true, false]);
    assert_eq!(admitted(&guard), [true, false], "calls under the snapshot before see the same");
}

#[test]
fn standing_leaves_out_what_takes_no_calls_and_knows_what_was_never_checked() {
    let state = StateStore::new([0, 0]);
    let mut spec = once();
    spec["initial"] = json!("Unhealthy");
    let guard = bind(spec, &[1, 2, 3, 4], true, &state);
    guard.backend.endpoints[3].set_weight(0);
    assert_eq!(guard.standing(), Standing { healthy: 0, available: 0, all: 3, waiting: 3 });
    report(&guard, (0, 0), Finding::Passed);
    report(&guard, (1, 0), DOWN);
    assert_eq!(guard.standing(), Standing { healthy: 1, available: 1, all: 3, waiting: 1 });
}

#[test]
fn a_sidecar_checks_what_was_called_lately_and_forgets_the_rest() {
    let state = StateStore::new([0, 0]);
    let mut spec = once();
    spec["idleAfter"] = json!("60s");
    let guard = bind(spec, &[1], false, &state);
    assert!(!guard.is_watched(at(0)), "nobody has called it");
    guard.note_call(at(10));
    assert!(guard.is_watched(at(10)) && guard.is_watched(at(69)));
    report(&guard, (0, 0), DOWN);
    guard.note_call(at(50));
    assert!(guard.is_watched(at(109)));
    assert_eq!(admitted(&guard), [false]);
    assert!(!guard.is_watched(at(110)));
    assert_eq!(admitted(&guard), [true], "that it failed was long ago");
    guard.note_call(at(500));
    assert!(guard.is_watched(at(500)));
}

#[test]
fn a_gateway_checks_always() {
    let guard = bind(once(), &[1], true, &StateStore::new([0, 0]));
    assert!(guard.is_watched(at(0)) && guard.is_watched(at(1_000_000)));
}

#[test]
fn checks_come_due_one_at_a_time_for_each_endpoint() {
    let state = StateStore::new([0, 0]);
    let guard = bind(once(), &[1, 2], true, &state);
    let rng = &mut fastrand::Rng::with_seed(1);
    let later = at(0) + Duration::from_secs(5);
    for place in guard.places() {
        assert!(guard.due(place, at(0), rng) <= later);
        assert!(guard.begin(place, later, rng));
        assert!(!guard.begin(place, later, rng));
    }
    assert_eq!(guard.places().count(), 2);
}
