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
    build_with(policies, |_| {})
}

fn build_with(policies: impl IntoIterator<Item = Resource>, change: impl Fn(&mut Resource)) -> Snapshot {
    let rule = || vec![rule("r", &["/"], vec![to("cart", 1)])];
    let service_parent = RouteParent::Service { service: name("front"), port: None };
    let mut all = Vec::from(service("cart", 80, &[9001, 9002, 9003]));
    all.extend(service("front", 80, &[9004]));
    all.push(Resource::Listener(listener("gw", "http", "")));
    all.push(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], rule())));
    all.push(Resource::Route(route("inner", vec![service_parent], rule())));
    all.extend(policies);
    all.iter_mut().for_each(change);
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

/// The limits of ejection.
fn ejecting(ejection: Value) -> Resource {
    let spec = json!({
        "breakers": [{"name": "down", "scope": "Endpoint", "consecutiveFailures": 1, "open": "5s"}],
        "ejection": ejection,
    });
    Resource::Policy(policy(
        "CircuitBreakerPolicy",
        "b",
        vec![target(TargetKind::Service, "cart", None)],
        spec,
    ))
}

/// Calls an endpoint once, if it is called, and the call fails.
fn fail(target: &Target, index: usize) {
    let backend = target.backend.as_ref().unwrap();
    let wish = Wish { prefer: Some(&backend.endpoints[index]), ..Wish::default() };
    let rng = &mut fastrand::Rng::with_seed(1);
    if let Ok(mut attempt) = admit(target, backend, wish, at(1), rng, &mut Decisions::new()) {
        let result = crate::decision::CallResult::Status(500);
        attempt.record(crate::decision::CallOutcome { result, latency: std::time::Duration::ZERO }, at(1));
    }
}

#[test]
fn what_checks_find_unhealthy_takes_of_the_share_that_may_be_ejected() {
    let snapshot = build([
        checks("h", "cart", Mode::Enforce, json!({"panicPercent": 0})),
        ejecting(json!({"maxPercent": 67})),
    ]);
    let selected = select(&snapshot, GATEWAY, "any");
    let target = selected.target();
    find(target, [false, true, true]);
    fail(target, 1);
    assert_eq!(calls(target, None).0, Ok(vec![2]), "two of three are gone");
    fail(target, 2);
    assert_eq!(calls(target, None).0, Ok(vec![2]), "the last that is well is never ejected");
    find(target, [true, true, true]);
    assert_eq!(calls(target, None).0, Ok(vec![0, 2]));
    find(target, [false, false, true]);
    assert_eq!(calls(target, None).0, Ok(vec![2]), "one is both, and counts once");
    find(target, [true, false, true]);
    fail(target, 2);
    assert_eq!(calls(target, None).0, Ok(vec![0]), "so there is room for one more");
}

#[test]
fn a_check_that_is_only_tried_takes_nothing_of_the_share() {
    let tried = checks("h", "cart", Mode::Shadow, json!({"panicPercent": 0}));
    let snapshot = build([tried, ejecting(json!({"maxPercent": 34}))]);
    let selected = select(&snapshot, GATEWAY, "any");
    find(selected.target(), [false, true, true]);
    fail(selected.target(), 1);
    assert_eq!(calls(selected.target(), None).0, Ok(vec![0, 2]));
}

#[test]
fn neither_the_unhealthy_nor_the_ejected_are_left_over_for_a_panic() {
    let all = |panic: u8, health: u8| {
        let snapshot = build([
            checks("h", "cart", Mode::Enforce, json!({"panicPercent": health})),
            ejecting(json!({"maxPercent": 67, "panicPercent": panic})),
        ]);
        let selected = select(&snapshot, GATEWAY, "any");
        find(selected.target(), [false, true, true]);
        fail(selected.target(), 1);
        let (called, words) = calls(selected.target(), None);
        (called.unwrap(), words)
    };
    assert_eq!(all(0, 0).0, [2]);
    assert_eq!(all(33, 0).0, [2], "one of three is not less than 33 percent");
    let (called, words) = all(34, 0);
    assert_eq!(called, [1, 2], "breakers are ignored, checks are not");
    assert!(words.last().unwrap().contains("1/3"), "{words:?}");
    let (called, words) = all(0, 34);
    assert_eq!(called, [0, 2], "checks are ignored, breakers are not");
    assert_eq!(words[0], "shop/h panicPercent Allowed healthy=1/3");
}

#[test]
fn there_is_no_other_to_ask_where_only_one_is_well() {
    let snapshot = build([
        checks("h", "cart", Mode::Enforce, json!({"panicPercent": 0})),
        ejecting(json!({"maxPercent": 67})),
    ]);
    let selected = select(&snapshot, GATEWAY, "any");
    let target = selected.target();
    let endpoints = &target.backend.as_ref().unwrap().endpoints;
    let others = |tried: &[usize], now| {
        let tried: Vec<_> = tried.iter().map(|i| endpoints[*i].clone()).collect();
        crate::call::has_other(target, &tried, at(now))
    };
    assert!(others(&[0], 1) && others(&[0, 1], 1) && !others(&[0, 1, 2], 1));
    find(target, [true, false, true]);
    assert!(others(&[0], 1) && !others(&[0, 2], 1), "one is unhealthy");
    fail(target, 2);
    assert!(!others(&[0], 1), "one is unhealthy, one is ejected");
    assert!(others(&[0], 9000), "its breaker would probe it");
    endpoints[2].set_weight(0);
    assert!(!others(&[0], 9000));
}

#[test]
fn routes_with_and_without_checks_do_not_share_what_a_balancer_knows() {
    let near_and_far = |resource: &mut Resource| {
        if let Resource::Endpoints(endpoints) = resource {
            for (i, endpoint) in endpoints.endpoints.iter_mut().enumerate() {
                endpoint.placement.priority = u32::from(i > 0);
            }
        }
    };
    let mut checked = checks("h", "cart", Mode::Enforce, json!({"panicPercent": 0}));
    if let Resource::Policy(policy) = &mut checked {
        policy.targets = vec![target(TargetKind::HTTPRoute, "edge", None)];
    }
    let snapshot = build_with([checked], near_and_far);
    let (edge, inner) = (select(&snapshot, GATEWAY, "any"), select(&snapshot, Scope::Outbound, "front"));
    find(edge.target(), [false, true, true]);
    assert_eq!(calls(inner.target(), None).0, Ok(vec![0]), "nobody checks on this way");
    assert_eq!(calls(edge.target(), None).0, Ok(vec![1, 2]));
    assert_eq!(calls(inner.target(), None).0, Ok(vec![0]));
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

mod remembered {
    use super::*;
    use crate::health::check::Standing;
    use proptest::prelude::*;

    /// What may change how endpoints stand.
    #[derive(Clone, Debug)]
    enum Event {
        Checked([bool; 3]),
        CallFails(usize),
        CallSucceeds(usize),
        NoCallsForLong,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<[bool; 3]>().prop_map(Event::Checked),
            (0..3_usize).prop_map(Event::CallFails),
            (0..3_usize).prop_map(Event::CallSucceeds),
            Just(Event::NoCallsForLong),
        ]
    }

    fn happen(target: &Target, event: &Event, now: Timestamp) {
        let (status, index) = match event {
            Event::Checked(passed) => return find(target, *passed),
            Event::NoCallsForLong => {
                let checks = target.health.as_ref().unwrap();
                checks.note_call(now);
                assert!(checks.is_watched(now));
                assert!(!checks.is_watched(now + std::time::Duration::from_secs(3600)));
                return;
            }
            Event::CallFails(index) => (500, *index),
            Event::CallSucceeds(index) => (200, *index),
        };
        let backend = target.backend.as_ref().unwrap();
        let wish = Wish { prefer: Some(&backend.endpoints[index]), ..Wish::default() };
        let rng = &mut fastrand::Rng::with_seed(1);
        if let Ok(mut attempt) = admit(target, backend, wish, now, rng, &mut Decisions::new()) {
            let result = crate::decision::CallResult::Status(status);
            let latency = std::time::Duration::ZERO;
            attempt.record(crate::decision::CallOutcome { result, latency }, now);
        }
    }

    fn counted_anew(target: &Target) -> Standing {
        let (checks, breakers) = (target.health.as_ref().unwrap(), target.guard.as_ref().unwrap());
        checks.standing_beside(|index, endpoint| breakers.ejects(index, endpoint))
    }

    proptest! {
        #[test]
        fn how_endpoints_stand_is_remembered_no_longer_than_it_is_so(
            events in prop::collection::vec((event(), 0..4_u64), 1..40)
        ) {
            let ejection = json!({"maxPercent": 100, "panicPercent": 30});
            let checked = checks("h", "cart", Mode::Enforce, json!({"idleAfter": "60s"}));
            // Without a gateway that leads there, checks sleep while nobody calls.
            let snapshot = build_with([checked, ejecting(ejection)], |resource| match resource {
                Resource::Route(route) if route.meta.name.to_string().contains("edge") => route.parents.clear(),
                _ => {}
            });
            let selected = select(&snapshot, Scope::Outbound, "front.shop");
            let target = selected.target();
            let (checks, breakers) = (target.health.as_deref().unwrap(), target.guard.as_deref());
            let mut now = at(1000);
            for (event, seconds) in events {
                now = now + std::time::Duration::from_secs(seconds);
                happen(target, &event, now);
                prop_assert_eq!(target.together.standing(checks, breakers), counted_anew(target));
            }
        }
    }
}
