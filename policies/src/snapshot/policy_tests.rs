//! Which policies a request meets, on which side, and that their counts outlive pushes.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, request};
use serde_json::json;

use super::*;
use crate::decision::Decisions;
use crate::model::fixture::*;
use crate::model::{HeaderModifier, Peer, Policy, Resource, RouteFilter, RouteParent, TargetKind, TargetRef};
use crate::pipeline::{Flow, Progress, RequestContext, Stop, on_request};
use crate::time::Timestamp;

const GATEWAY: Scope = Scope::Gateway(BindAddress { ip: None, port: 8080 });

fn once(text: &str, targets: Vec<TargetRef>) -> Resource {
    let spec = json!({"limits": [{"name": "all", "requests": 1, "per": "1h"}]});
    Resource::Policy(policy("RateLimitPolicy", text, targets, spec))
}

fn breaker(text: &str, targets: Vec<TargetRef>) -> Resource {
    let spec = json!({"caps": [{"scope": "Backend", "requests": 1}]});
    Resource::Policy(policy("CircuitBreakerPolicy", text, targets, spec))
}

fn local() -> Local {
    let app = Some(("127.0.0.1:3000".parse().unwrap(), AppProtocol::Http1));
    Local { services: vec![name("cart")], app, namespace: "shop".into(), ..Local::default() }
}

/// A gateway and a mesh route to `cart`.
fn mesh() -> Resources {
    let rule = || vec![rule("r", &["/"], vec![to("cart", 1)])];
    let service_parent = RouteParent::Service { service: name("front"), port: None };
    let mut all = Vec::from(service("cart", 80, &[9001]));
    all.extend(service("front", 80, &[9002]));
    all.push(Resource::Listener(listener("gw", "http", "")));
    all.push(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], rule())));
    all.push(Resource::Route(route("inner", vec![service_parent], rule())));
    resources(all)
}

fn build(resources: &Resources, state: &StateStore) -> Snapshot {
    let (snapshot, rejected) = Snapshot::build(resources, &local(), state);
    assert_eq!(rejected, []);
    snapshot
}

fn head(host: &str) -> request::Parts {
    http::Request::builder().uri("/").header("host", host).body(()).unwrap().into_parts().0
}

fn select(snapshot: &Snapshot, scope: Scope, host: &str) -> Selected {
    snapshot.route(scope, &head(host), &mut fastrand::Rng::with_seed(1)).unwrap()
}

/// Sends a request through the filters; its head afterwards, or why it was refused.
fn send(snapshot: &Snapshot, scope: Scope, host: &str) -> Result<request::Parts, Reason> {
    let selected = select(snapshot, scope, host);
    let mut head = head(host);
    let peer = Peer { address: "127.0.0.1:5".parse().unwrap(), identity: None };
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer,
        route: selected.rule.route.as_deref(),
        now: Timestamp::from_millis(1),
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut Decisions::new(),
        response_headers: &mut HeaderMap::new(),
        claims: &mut None,
        held: &mut Vec::new(),
    };
    match on_request(&selected.target().filters, &mut cx, &mut Progress::default()) {
        Err(Stop::Refused(reply)) => Err(reply.reason),
        Err(Stop::Answered(reply)) => panic!("{reply:?}"),
        Ok(Flow::Done) => Ok(head),
        Ok(Flow::Effect(effect)) => panic!("{effect:?}"),
    }
}

fn sends(snapshot: &Snapshot, scope: Scope, host: &str) -> Option<Reason> {
    send(snapshot, scope, host).err()
}

#[test]
fn a_services_filters_hold_in_its_own_sidecar_and_on_gateways_but_not_at_the_caller() {
    let mut resources = mesh();
    resources.insert(once("limit", vec![target(TargetKind::Service, "cart", None)]));
    let filters = |scope, host| {
        select(&build(&resources, &StateStore::new([0, 0])), scope, host).target().filters.len()
    };
    assert_eq!(filters(Scope::Inbound, "any"), 1);
    assert_eq!(filters(GATEWAY, "any"), 1);
    assert_eq!(filters(Scope::Outbound, "cart"), 0);
    assert_eq!(filters(Scope::Outbound, "front"), 0);
}

#[test]
fn a_mesh_routes_filters_hold_at_the_caller_only() {
    let mut resources = mesh();
    resources.insert(once("limit", vec![target(TargetKind::HTTPRoute, "inner", None)]));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    assert_eq!(select(&snapshot, Scope::Outbound, "front").target().filters.len(), 1);
    assert_eq!(select(&snapshot, Scope::Inbound, "any").target().filters.len(), 0);
    assert_eq!(select(&snapshot, GATEWAY, "any").target().filters.len(), 0);
}

#[test]
fn a_namespaces_default_holds_for_its_services_until_something_explicit_does() {
    let state = StateStore::new([0, 0]);
    let mut resources = mesh();
    resources.insert(once("default", vec![target(TargetKind::Namespace, "shop", None)]));
    let snapshot = build(&resources, &state);
    assert_eq!(sends(&snapshot, Scope::Inbound, "any"), None);
    assert_eq!(sends(&snapshot, Scope::Inbound, "any"), Some(Reason::RateLimited));
    assert_eq!(sends(&snapshot, GATEWAY, "any"), Some(Reason::RateLimited));
    resources.insert(once("own", vec![target(TargetKind::Service, "cart", None)]));
    let snapshot = build(&resources, &state);
    assert_eq!(sends(&snapshot, Scope::Inbound, "any"), None, "a budget of its own, and only that");
}

#[test]
fn a_policy_for_one_port_by_name_holds_at_its_service() {
    let mut resources = mesh();
    resources.insert(once("limit", vec![target(TargetKind::Service, "cart", Some("http"))]));
    resources.insert(once("other", vec![target(TargetKind::Service, "front", Some("grpc"))]));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    assert_eq!(select(&snapshot, Scope::Inbound, "any").target().filters.len(), 1);
    assert_eq!(select(&snapshot, GATEWAY, "any").target().filters.len(), 1);
}

#[test]
fn one_policy_is_one_budget_wherever_it_holds() {
    let mut resources = mesh();
    let targets =
        vec![target(TargetKind::HTTPRoute, "edge", None), target(TargetKind::HTTPRoute, "inner", None)];
    resources.insert(once("limit", targets));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    assert_eq!(sends(&snapshot, GATEWAY, "any"), None);
    assert_eq!(sends(&snapshot, Scope::Outbound, "front"), Some(Reason::RateLimited));
}

#[test]
fn a_push_that_changes_another_route_forgets_no_count() {
    let state = StateStore::new([0, 0]);
    let mut resources = mesh();
    resources.insert(once("limit", vec![target(TargetKind::Service, "cart", None)]));
    assert_eq!(sends(&build(&resources, &state), Scope::Inbound, "any"), None);
    resources.insert(Resource::Route(route("edge", vec![on_listener("gw", "http", &["a.org"])], Vec::new())));
    assert_eq!(sends(&build(&resources, &state), Scope::Inbound, "any"), Some(Reason::RateLimited));
    assert_eq!(sends(&build(&resources, &StateStore::new([0, 0])), Scope::Inbound, "any"), None);
}

#[test]
fn a_breaker_on_a_service_guards_every_call_to_it_with_one_guard() {
    let state = StateStore::new([0, 0]);
    let mut resources = mesh();
    resources.insert(breaker("cap", vec![target(TargetKind::Service, "cart", None)]));
    let snapshot = build(&resources, &state);
    let guard = |snapshot: &Snapshot, scope, host| select(snapshot, scope, host).target().guard.clone();
    let direct = guard(&snapshot, Scope::Outbound, "cart").unwrap();
    assert!(Arc::ptr_eq(&direct, &guard(&snapshot, Scope::Outbound, "front").unwrap()));
    assert!(Arc::ptr_eq(&direct, &guard(&snapshot, GATEWAY, "any").unwrap()));
    assert!(guard(&snapshot, Scope::Inbound, "any").is_none());
    assert_eq!(direct.id, guard(&build(&resources, &state), GATEWAY, "any").unwrap().id);
}

#[test]
fn a_breaker_on_the_parent_guards_the_calls_its_routes_make_elsewhere() {
    let mut resources = mesh();
    resources.insert(breaker("cap", vec![target(TargetKind::Service, "front", None)]));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    let selected = select(&snapshot, Scope::Outbound, "front");
    assert_eq!(&*selected.target().guard.clone().unwrap().id, "CircuitBreakerPolicy/shop/cap|shop/cart:80");
    assert!(select(&snapshot, Scope::Outbound, "cart").target().guard.is_none());
}

#[test]
fn a_policy_that_does_not_compile_is_rejected_with_its_place_and_has_no_effect() {
    let mut resources = mesh();
    let targets = vec![target(TargetKind::Service, "cart", None)];
    let bad: Policy = policy("RateLimitPolicy", "bad", targets.clone(), json!({"limits": []}));
    resources.insert(Resource::Policy(bad));
    resources.insert(once("good", targets));
    let (snapshot, rejected) = Snapshot::build(&resources, &local(), &StateStore::new([0, 0]));
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].name, "RateLimitPolicy/shop/bad");
    assert!(rejected[0].reason.starts_with("test.yaml:1: "), "{}", rejected[0].reason);
    assert_eq!(select(&snapshot, Scope::Inbound, "any").target().filters.len(), 1);
}

#[test]
fn a_routes_own_filters_run_after_every_policy_the_rules_before_the_backends() {
    let add = |value: &'static str| {
        let field = ("x-seen".parse().unwrap(), http::HeaderValue::from_static(value));
        RouteFilter::RequestHeaders(HeaderModifier { add: vec![field], ..HeaderModifier::default() })
    };
    let mut rule = rule("r", &["/"], vec![to("cart", 1)]);
    rule.filters = vec![add("rule")];
    rule.backends[0].filters = vec![add("backend")];
    let mut resources = mesh();
    resources.insert(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], vec![rule])));
    resources.insert(once("limit", vec![target(TargetKind::HTTPRoute, "edge", None)]));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    let selected = select(&snapshot, GATEWAY, "any");
    let phases: Vec<_> = selected.target().filters.iter().map(|filter| filter.phase()).collect();
    use crate::pipeline::Phase::{RateLimit, Transform};
    assert_eq!(phases, [RateLimit, Transform, Transform]);
    let head = send(&snapshot, GATEWAY, "any").unwrap();
    let seen: Vec<_> = head.headers.get_all("x-seen").iter().collect();
    assert_eq!(seen, ["rule", "backend"]);
}

#[test]
fn what_is_in_force_can_be_read() {
    let mut resources = mesh();
    resources.insert(once("limit", vec![target(TargetKind::Service, "cart", None)]));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    let described = serde_json::to_value(snapshot.describe()).unwrap();
    assert_eq!(
        described["listeners"][0],
        json!({
            "name": "shop/gw/http", "source": "test.yaml:1", "bind": "*:8080",
            "hosts": {"*": [{
                "match": "/*", "route": "shop/edge", "rule": "r", "source": "test.yaml:1",
                "targets": [{
                    "backend": "shop/cart:80", "weight": 1, "policies": ["RateLimitPolicy shop/limit"],
                }],
            }]},
        })
    );
    assert_eq!(described["backends"]["shop/cart:80"]["endpoints"], json!(["127.0.0.1:9001"]));
    assert_eq!(described["policies"][0]["targets"], json!(["Service shop/cart"]));
    assert_eq!(described["inbound"]["targets"][0]["policies"], json!(["RateLimitPolicy shop/limit"]));
    assert_eq!(described["outbound"]["shop/front:80"][0]["route"], json!("shop/inner"));
}

fn authorization(text: &str, targets: Vec<TargetRef>, rules: &serde_json::Value) -> Resource {
    Resource::Policy(policy("AuthorizationPolicy", text, targets, json!({ "rules": rules })))
}

#[test]
fn policies_that_say_who_may_do_what_add_up_along_the_way() {
    let (allow, deny) =
        (json!([{"name": "yes", "action": "Allow"}]), json!([{"name": "no", "action": "Deny"}]));
    for (kind, name, section) in [
        (TargetKind::Namespace, "shop", None),
        (TargetKind::Gateway, "gw", None),
        (TargetKind::Gateway, "gw", Some("http")),
        (TargetKind::HTTPRoute, "edge", None),
        (TargetKind::HTTPRoute, "edge", Some("r")),
        (TargetKind::Service, "cart", None),
        (TargetKind::Service, "cart", Some("http")),
    ] {
        let mut resources = mesh();
        let all = [
            target(TargetKind::Namespace, "shop", None),
            target(TargetKind::HTTPRoute, "edge", Some("r")),
            target(TargetKind::Service, "cart", None),
        ];
        resources.insert(authorization("everybody", all.to_vec(), &allow));
        assert_eq!(sends(&build(&resources, &StateStore::new([0, 0])), GATEWAY, "any"), None);
        resources.insert(authorization("nobody", vec![target(kind, name, section)], &deny));
        let snapshot = build(&resources, &StateStore::new([0, 0]));
        assert_eq!(sends(&snapshot, GATEWAY, "any"), Some(Reason::AccessDenied), "{kind:?} {section:?}");
        let served = matches!(kind, TargetKind::Namespace | TargetKind::Service);
        assert_eq!(sends(&snapshot, Scope::Inbound, "any").is_some(), served, "{kind:?}");
        assert_eq!(sends(&snapshot, Scope::Outbound, "front"), None, "the caller asks nobody");
    }
}

#[test]
fn each_target_on_the_way_must_allow_and_those_of_one_target_allow_together() {
    let by = |name: &str, at: TargetRef, path: &str| {
        authorization(
            name,
            vec![at],
            &json!([{"name": "r", "action": "Allow", "to": [{"paths": [{"exact": path}]}]}]),
        )
    };
    let (gateway, edge) =
        (|| target(TargetKind::Gateway, "gw", None), || target(TargetKind::HTTPRoute, "edge", None));
    let mut resources = mesh();
    resources.insert(by("a", gateway(), "/"));
    resources.insert(by("b", gateway(), "/other"));
    assert_eq!(sends(&build(&resources, &StateStore::new([0, 0])), GATEWAY, "any"), None);
    resources.insert(by("c", edge(), "/other"));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    assert_eq!(sends(&snapshot, GATEWAY, "any"), Some(Reason::AccessDenied));
    resources.insert(by("d", edge(), "/"));
    assert_eq!(sends(&build(&resources, &StateStore::new([0, 0])), GATEWAY, "any"), None);
}

#[test]
fn a_policy_that_a_route_names_is_one_more_that_must_let_pass() {
    let allow = json!([{"name": "yes", "action": "Allow"}]);
    let deny = json!([{"name": "no", "action": "Deny"}]);
    let mut resources = mesh();
    resources.insert(authorization("edge", vec![target(TargetKind::HTTPRoute, "edge", None)], &deny));
    let Resource::Policy(named) = authorization("named", Vec::new(), &allow) else { panic!() };
    let mut with = rule("r", &["/"], vec![to("cart", 1)]);
    with.filters = vec![RouteFilter::Extension(named.key())];
    resources.insert(Resource::Policy(named));
    resources.insert(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], vec![with])));
    let snapshot = build(&resources, &StateStore::new([0, 0]));
    assert_eq!(sends(&snapshot, GATEWAY, "any"), Some(Reason::AccessDenied));
    assert_eq!(select(&snapshot, GATEWAY, "any").target().filters.len(), 2);
}
