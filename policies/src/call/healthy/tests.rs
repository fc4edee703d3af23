#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use serde_json::{Value, json};

use super::*;
use crate::balance::Wish;
use crate::call::admit;
use crate::health::check::{Cause, Finding};
use crate::model::fixture::*;
use crate::model::{Resource, RouteParent, TargetKind};
use crate::snapshot::{BindAddress, Local, Scope, Selected, Snapshot};
use crate::state::StateStore;

const GATEWAY: Scope = Scope::Gateway(BindAddress { ip: None, port: 8080 });

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A health check of `cart`, or of a Service of another name.
fn checks(text: &str, service: &str, mode: Mode, extra: Value) -> Resource {
    let check = json!({"name": "up", "tcp": {}, "unhealthyThreshold": 1, "healthyThreshold": 1});
    let mut spec = json!({"checks": [check]});
    if let (Some(spec), Some(extra)) = (spec.as_object_mut(), extra.as_object()) {
        spec.extend(extra.clone());
    }
    let mut policy =
        policy("HealthCheckPolicy", text, vec![target(TargetKind::Service, service, None)], spec);
    policy.mode = mode;
    Resource::Policy(policy)
}

fn breaker(mode: Mode) -> Resource {
    let spec =
        json!({"breakers": [{"name": "down", "scope": "Endpoint", "consecutiveFailures": 1, "open": "5s"}]});
    let targets = vec![target(TargetKind::Service, "cart", None)];
    Resource::Policy(crate::model::Policy { mode, ..policy("CircuitBreakerPolicy", "b", targets, spec) })
}

/// A gateway and a mesh route that lead to `cart` with three endpoints.
fn build(policies: impl IntoIterator<Item = Resource>) -> Snapshot {
    let rule = || vec![rule("r", &["/"], vec![to("cart", 1)])];
    let service_parent = RouteParent::Service { service: name("front"), port: None };
    let mut all = Vec::from(service("cart", 80, &[9001, 9002, 9003]));
    all.extend(service("front", 80, &[9004]));
    all.push(Resource::Listener(listener("gw", "http", "")));
    all.push(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], rule())));
    all.push(Resource::Route(route("inner", vec![service_parent], rule())));
    all.extend(policies);
    let local = Local {
        services: vec![name("cart")],
        app: Some(("127.0.0.1:3000".parse().unwrap(), crate::model::AppProtocol::Http1)),
        namespace: "shop".into(),
        ..Local::default()
    };
    let (snapshot, rejected) = Snapshot::build(&resources(all), &local, &StateStore::new([0, 0]));
    assert_eq!(rejected, []);
    snapshot
}

fn select(snapshot: &Snapshot, scope: Scope, host: &str) -> Selected {
    let head = http::Request::builder().uri("/").header("host", host).body(()).unwrap().into_parts().0;
    snapshot.route(scope, &head, &mut fastrand::Rng::with_seed(1)).unwrap()
}

/// What checks find of each endpoint, in their order.
fn find(target: &Target, passed: [bool; 3]) {
    let guard = target.health.as_ref().unwrap();
    for (place, passed) in guard.places().zip(passed) {
        let finding = if passed { Finding::Passed } else { Finding::Failed(Cause::ConnectFailed) };
        guard.report(place, finding, at(0), &mut fastrand::Rng::with_seed(1));
    }
}

/// Which endpoints a hundred calls go to, by number, and the words on the last of them; or the refusal.
fn calls(target: &Target, prefer: Option<usize>) -> (Result<Vec<usize>, Reason>, Vec<String>) {
    let backend = target.backend.as_ref().unwrap();
    let (mut seen, mut words) = (Vec::new(), Vec::new());
    let rng = &mut fastrand::Rng::with_seed(1);
    for _ in 0..100 {
        let mut decisions = Decisions::new();
        let wish = Wish { prefer: prefer.map(|i| &backend.endpoints[i]), ..Wish::default() };
        let admitted = admit(target, backend, wish, at(1), rng, &mut decisions);
        let word = |d: &Decision| {
            let detail = d.detail.map(|detail| detail.to_string()).unwrap_or_default();
            format!("{} {} {:?} {detail}", d.policy.name, d.rule.name, d.outcome)
        };
        words = decisions.iter().map(word).collect();
        let attempt = match admitted {
            Ok(attempt) => attempt,
            Err(reply) => return (Err(reply.reason), words),
        };
        seen.extend(backend.endpoints.iter().position(|one| Arc::ptr_eq(one, &attempt.endpoint)));
    }
    seen.sort_unstable();
    seen.dedup();
    (Ok(seen), words)
}

#[test]
fn an_unhealthy_endpoint_is_not_called_and_no_word_is_said_of_the_others() {
    let snapshot = build([checks("h", "cart", Mode::Enforce, json!({}))]);
    let selected = select(&snapshot, GATEWAY, "any");
    assert_eq!(calls(selected.target(), None), (Ok(vec![0, 1, 2]), vec![]));
    find(selected.target(), [true, false, true]);
    assert_eq!(calls(selected.target(), None), (Ok(vec![0, 2]), vec![]));
    assert_eq!(calls(selected.target(), Some(2)), (Ok(vec![2]), vec![]));
    assert_eq!(calls(selected.target(), Some(1)), (Ok(vec![0, 2]), vec![]), "not for a session either");
}

#[test]
fn a_session_does_not_lead_to_an_unhealthy_endpoint_that_takes_no_new_calls() {
    let snapshot = build([checks("h", "cart", Mode::Enforce, json!({}))]);
    let selected = select(&snapshot, GATEWAY, "any");
    selected.target().backend.as_ref().unwrap().endpoints[1].set_weight(0);
    assert_eq!(calls(selected.target(), Some(1)).0, Ok(vec![1]));
    find(selected.target(), [true, false, true]);
    assert_eq!(calls(selected.target(), Some(1)).0, Ok(vec![0, 2]));
}

#[test]
fn with_no_healthy_endpoint_calls_are_refused_in_the_name_of_the_check() {
    let snapshot = build([checks("h", "cart", Mode::Enforce, json!({"panicPercent": 0}))]);
    let selected = select(&snapshot, GATEWAY, "any");
    find(selected.target(), [false, false, false]);
    let word = String::from("shop/h up Refused(Unhealthy) healthy=0/3");
    assert_eq!(calls(selected.target(), None), (Err(Reason::Unhealthy), vec![word]));
}

#[test]
fn below_the_written_share_health_is_ignored_and_that_is_told() {
    let snapshot = build([checks("h", "cart", Mode::Enforce, json!({"panicPercent": 60}))]);
    let selected = select(&snapshot, GATEWAY, "any");
    find(selected.target(), [true, false, true]);
    assert_eq!(calls(selected.target(), None), (Ok(vec![0, 2]), vec![]));
    find(selected.target(), [true, false, false]);
    let word = String::from("shop/h panicPercent Allowed healthy=1/3");
    assert_eq!(calls(selected.target(), None), (Ok(vec![0, 1, 2]), vec![word]));
}

#[test]
fn in_shadow_no_call_goes_elsewhere_and_the_refusal_is_only_told() {
    let snapshot = build([checks("h", "cart", Mode::Shadow, json!({"panicPercent": 0}))]);
    let selected = select(&snapshot, GATEWAY, "any");
    find(selected.target(), [true, false, true]);
    assert_eq!(calls(selected.target(), None), (Ok(vec![0, 1, 2]), vec![]));
    find(selected.target(), [false, false, false]);
    let word = String::from("shop/h up WouldRefuse(Unhealthy) healthy=0/3");
    assert_eq!(calls(selected.target(), None), (Ok(vec![0, 1, 2]), vec![word]));
}

#[test]
fn before_the_first_check_calls_are_admitted_or_refused_as_written() {
    let snapshot = build([checks("h", "cart", Mode::Enforce, json!({"initial": "Unhealthy"}))]);
    let selected = select(&snapshot, GATEWAY, "any");
    assert_eq!(calls(selected.target(), None).0, Err(Reason::Unhealthy), "nothing has failed: no panic");
    find(selected.target(), [true, true, true]);
    assert_eq!(calls(selected.target(), None).0, Ok(vec![0, 1, 2]));
}

#[test]
fn breakers_and_health_hold_together() {
    for mode in [Mode::Enforce, Mode::Shadow] {
        let snapshot = build([checks("h", "cart", Mode::Enforce, json!({})), breaker(mode)]);
        let selected = select(&snapshot, GATEWAY, "any");
        find(selected.target(), [true, false, true]);
        assert_eq!(calls(selected.target(), None).0, Ok(vec![0, 2]), "{mode:?}");
        assert_eq!(calls(selected.target(), Some(1)).0, Ok(vec![0, 2]), "{mode:?}");
    }
}

#[test]
fn the_caller_checks_and_not_the_workload_that_is_called() {
    let snapshot = build([checks("h", "cart", Mode::Enforce, json!({}))]);
    let health = |scope, host| select(&snapshot, scope, host).target().health.clone();
    assert!(health(GATEWAY, "any").is_some_and(|guard| guard.is_watched(at(0))));
    assert!(health(Scope::Outbound, "front").is_some(), "through the route of another Service");
    assert!(health(Scope::Outbound, "cart").is_some());
    assert!(health(Scope::Inbound, "any").is_none());
    assert_eq!(snapshot.checks().len(), 1, "one for all ways there");
}

#[test]
fn a_sidecar_begins_to_check_with_its_first_call() {
    let snapshot = build([checks("h", "front", Mode::Enforce, json!({}))]);
    let direct = build([checks("h", "front", Mode::Enforce, json!({}))]);
    assert!(!direct.checks().iter().any(|guard| guard.is_watched(at(1))), "no gateway leads there");
    let selected = select(&snapshot, Scope::Outbound, "front");
    assert_eq!(calls(selected.target(), None).0, Ok(vec![0, 1, 2]));
    assert!(snapshot.checks().iter().all(|guard| guard.is_watched(at(1))));
}
