//! Where cohorts hold, and what a change of weights or of validity does to users.

use std::time::Duration;

use http::{HeaderMap, request};
use serde_json::json;

use super::*;
use crate::decision::Decisions;
use crate::model::fixture::*;
use crate::model::{
    BackendRef, InvalidRef, Mode, Peer, Resource, RouteKind, RouteParent, TargetKind, TargetRef,
};
use crate::pick::PickContext;

const GATEWAY: Scope = Scope::Gateway(BindAddress { ip: None, port: 8080 });

fn cohort(text: &str, target: TargetRef, header: &str) -> Resource {
    let spec = json!({"key": [{"type": "Header", "name": header}]});
    Resource::Policy(policy("CohortPolicy", text, vec![target], spec))
}

fn on_route(name: &str, section: Option<&str>) -> TargetRef {
    target(TargetKind::HTTPRoute, name, section)
}

fn weighted(weights: &[(&str, u32)]) -> Vec<BackendRef> {
    weights.iter().map(|(name, weight)| to(name, *weight)).collect()
}

/// A gateway and a mesh route with these backends.
fn mesh(backends: &[BackendRef]) -> Resources {
    let rules = || vec![rule("r", &["/"], backends.to_vec())];
    let parent = RouteParent::Service { service: name("front"), port: None };
    let mut all = vec![Resource::Listener(listener("gw", "http", ""))];
    for (name, port) in [("v1", 9001), ("v2", 9002), ("front", 9003)] {
        all.extend(service(name, 80, &[port]));
    }
    all.push(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], rules())));
    all.push(Resource::Route(route("inner", vec![parent], rules())));
    resources(all)
}

fn build(resources: &Resources) -> Snapshot {
    let local = Local { namespace: "shop".into(), ..Local::default() };
    let (snapshot, rejected) = Snapshot::build(resources, &local, &StateStore::new([0, 0]));
    assert_eq!(rejected, []);
    snapshot
}

fn ask(snapshot: &Snapshot, scope: Scope, user: usize, seed: u64) -> (Selected, Decisions) {
    let head: request::Parts = http::Request::builder()
        .uri("/")
        .header("host", "front")
        .header("x-user", format!("user-{user}"))
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let mut decisions = Decisions::new();
    let mut cx = PickContext {
        head: &head,
        peer: &Peer { address: "127.0.0.1:5".parse().unwrap(), identity: None },
        secure: false,
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(seed),
        decisions: &mut decisions,
        response_headers: &mut HeaderMap::new(),
    };
    let selected = Selected::pick(snapshot.find(scope, &head).unwrap(), &mut cx).unwrap();
    (selected, decisions)
}

const USERS: usize = 2000;

/// Where each of the users goes: the backend, or why to none.
fn everybody(snapshot: &Snapshot, scope: Scope) -> Vec<Result<String, Reason>> {
    let backend = |user| {
        let (selected, _) = ask(snapshot, scope, user, user as u64);
        selected.target().backend.as_ref().map(|b| b.label.to_string()).map_err(|reason| *reason)
    };
    (0..USERS).map(backend).collect()
}

fn share(of: &[Result<String, Reason>], wanted: &Result<&str, Reason>) -> f64 {
    let count = of.iter().filter(|one| one.as_deref().map_err(|r| *r) == *wanted).count();
    count as f64 / USERS as f64
}

#[test]
fn a_canary_that_is_raised_moves_its_users_and_nobody_back() {
    let at = |stable, canary| {
        let mut resources = mesh(&weighted(&[("v1", stable), ("v2", canary)]));
        resources.insert(cohort("c", on_route("edge", None), "x-user"));
        everybody(&build(&resources), GATEWAY)
    };
    let (ten, twenty) = (at(90, 10), at(80, 20));
    assert!((share(&ten, &Ok("shop/v2:80")) - 0.1).abs() < 0.03);
    assert!((share(&twenty, &Ok("shop/v2:80")) - 0.2).abs() < 0.03);
    for (before, after) in ten.iter().zip(&twenty) {
        assert!(before == after || after.as_deref() == Ok("shop/v2:80"));
    }
    assert_eq!(twenty, at(8, 2), "weights are ratios");
    assert_eq!(share(&at(0, 100), &Ok("shop/v2:80")), 1.0);
}

#[test]
fn a_gateway_and_a_sidecar_pick_alike_only_where_they_share_a_seed() {
    let pair = |seed: Option<&str>| {
        let mut resources = mesh(&weighted(&[("v1", 50), ("v2", 50)]));
        let targets = vec![on_route("edge", None), on_route("inner", None)];
        let mut spec = json!({"key": [{"type": "Header", "name": "x-user"}]});
        if let Some(seed) = seed {
            spec["seed"] = json!(seed);
        }
        resources.insert(Resource::Policy(policy("CohortPolicy", "c", targets, spec)));
        let snapshot = build(&resources);
        let (edge, inner) = (everybody(&snapshot, GATEWAY), everybody(&snapshot, Scope::Outbound));
        edge.iter().zip(&inner).filter(|(a, b)| a == b).count()
    };
    assert_eq!(pair(Some("2026")), USERS);
    assert!((USERS * 2 / 5..USERS * 3 / 5).contains(&pair(None)));
}

#[test]
fn the_most_specific_of_gateway_listener_route_and_rule_wins() {
    let mut resources = mesh(&weighted(&[("v1", 1), ("v2", 1)]));
    let of = |resources: &Resources, scope| {
        let (_, decisions) = ask(&build(resources), scope, 1, 1);
        decisions.first().map(|d| d.policy.name.name.to_string())
    };
    assert_eq!(of(&resources, GATEWAY), None);
    let steps = [
        ("a", target(TargetKind::Gateway, "gw", None)),
        ("b", target(TargetKind::Gateway, "gw", Some("http"))),
        ("c", on_route("edge", None)),
        ("d", on_route("edge", Some("r"))),
    ];
    for (name, target) in steps {
        resources.insert(cohort(name, target, "x-user"));
        assert_eq!(of(&resources, GATEWAY).as_deref(), Some(name));
        assert_eq!(of(&resources, Scope::Outbound), None, "none of these is for the mesh route");
    }
    resources.insert(cohort("e", on_route("inner", Some("r")), "x-user"));
    assert_eq!(of(&resources, Scope::Outbound).as_deref(), Some("e"));
}

#[test]
fn an_invalid_backend_fails_its_users_and_keeps_them_when_it_comes_to_be() {
    let mut broken = weighted(&[("v1", 70), ("v2", 30)]);
    let mut with = |target| {
        broken[1].target = target;
        let mut resources = mesh(&broken);
        resources.insert(cohort("c", on_route("edge", None), "x-user"));
        everybody(&build(&resources), GATEWAY)
    };
    let (before, after) = (with(Err(InvalidRef::BackendNotFound)), with(Ok(service_name("v2", 80))));
    assert!((share(&before, &Err(Reason::InvalidBackend)) - 0.3).abs() < 0.04);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before.is_err(), after.as_deref() == Ok("shop/v2:80"));
    }
}

#[test]
fn a_rule_whose_weights_are_all_zero_has_no_backend_for_anybody() {
    for with_policy in [false, true] {
        let mut resources = mesh(&weighted(&[("v1", 0), ("v2", 0)]));
        if with_policy {
            resources.insert(cohort("c", on_route("edge", None), "x-user"));
        }
        let all = everybody(&build(&resources), GATEWAY);
        assert_eq!(share(&all, &Err(Reason::NoBackend)), 1.0);
    }
}

#[test]
fn in_shadow_users_go_where_chance_sends_them() {
    let mut resources = mesh(&weighted(&[("v1", 1), ("v2", 1)]));
    let Resource::Policy(mut shadow) = cohort("c", on_route("edge", None), "x-user") else { unreachable!() };
    shadow.mode = Mode::Shadow;
    resources.insert(Resource::Policy(shadow));
    let snapshot = build(&resources);
    let label =
        |seed| ask(&snapshot, GATEWAY, 1, seed).0.target().backend.as_ref().unwrap().label.to_string();
    assert!((0..50).any(|seed| label(seed) != label(seed + 1)));
    let would = |seed| ask(&snapshot, GATEWAY, 1, seed).1[0].rule.name.to_string();
    assert!((0..50).all(|seed| would(seed) == would(0)));
}

#[test]
fn a_grpc_route_has_cohorts_too_and_the_policy_is_shown_with_its_targets() {
    let mut resources = mesh(&[]);
    let grpc = route(
        "calls",
        vec![on_listener("gw", "http", &[""])],
        vec![rule("r", &["/"], weighted(&[("v1", 1), ("v2", 1)]))],
    );
    resources.routes.clear();
    resources.insert(Resource::Route(crate::model::Route { kind: RouteKind::Grpc, ..grpc }));
    resources.insert(cohort("c", target(TargetKind::GRPCRoute, "calls", None), "x-user"));
    let snapshot = build(&resources);
    assert_eq!(ask(&snapshot, GATEWAY, 1, 1).1.len(), 1);
    let described = serde_json::to_value(snapshot.describe()).unwrap();
    let targets = described["listeners"][0]["hosts"]["*"][0]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2);
    assert!(targets.iter().all(|target| target["policies"] == json!(["CohortPolicy shop/c"])));
}
