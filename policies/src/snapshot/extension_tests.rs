//! What a route names in its filters: where it holds, and against what is attached.

use std::time::Duration;

use http::HeaderMap;
use serde_json::json;

use super::*;
use crate::decision::Decisions;
use crate::model::fixture::*;
use crate::model::{Peer, PolicyKey, Redirect, Resource, RouteFilter, TargetKind};
use crate::pipeline::{Flow, Progress, RequestContext, Stop, on_request};
use crate::time::Timestamp;

const GATEWAY: Scope = Scope::Gateway(BindAddress { ip: None, port: 8080 });

fn extension(kind: &str, text: &str) -> RouteFilter {
    RouteFilter::Extension(PolicyKey { kind: kind.into(), name: name(text) })
}

fn limit(text: &str) -> Resource {
    let spec = json!({"limits": [{"name": text, "requests": 1, "per": "1h"}]});
    Resource::Policy(policy("RateLimitPolicy", text, Vec::new(), spec))
}

fn breaker(text: &str) -> Resource {
    let spec = json!({"caps": [{"scope": "Backend", "requests": 1}]});
    Resource::Policy(policy("CircuitBreakerPolicy", text, Vec::new(), spec))
}

fn attached(resource: Resource, kind: TargetKind, object: &str) -> Resource {
    let Resource::Policy(mut policy) = resource else { unreachable!() };
    policy.targets = vec![target(kind, object, None)];
    Resource::Policy(policy)
}

/// A route to `v1` and `v2`: filters of the rule, and of `v2`.
fn mesh(of_rule: Vec<RouteFilter>, of_backend: Vec<RouteFilter>) -> Resources {
    let mut rule = rule("r", &["/"], vec![to("v1", 1), to("v2", 1)]);
    rule.filters = of_rule;
    rule.backends[1].filters = of_backend;
    let mut all = vec![Resource::Listener(listener("gw", "http", ""))];
    all.extend(service("v1", 80, &[9001]));
    all.extend(service("v2", 80, &[9002]));
    all.push(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], vec![rule])));
    resources(all)
}

/// The rule as it is built; each of its targets with the names of the policies that hold.
fn rule_of(resources: &Resources) -> (Arc<Rule>, Vec<Vec<String>>) {
    let (snapshot, _) = Snapshot::build(resources, &Local::default(), &StateStore::new([0, 0]));
    let head = http::Request::builder().uri("/").header("host", "a").body(()).unwrap().into_parts().0;
    let rule = snapshot.find(GATEWAY, &head).unwrap().clone();
    let names = |applied: &[Arc<PolicyRef>]| applied.iter().map(|p| p.name.name.to_string()).collect();
    let names = rule.applied.iter().map(|applied| names(applied)).collect();
    (rule, names)
}

fn outcome(target: &Target) -> Option<Reason> {
    let mut head = http::Request::builder().uri("/").header("host", "a").body(()).unwrap().into_parts().0;
    let mut cx = RequestContext {
        head: &mut head,
        peer: &Peer { address: "127.0.0.1:5".parse().unwrap(), identity: None },
        route: None,
        now: Timestamp::from_millis(1),
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut Decisions::new(),
        response_headers: &mut HeaderMap::new(),
        claims: &mut None,
        held: &mut Vec::new(),
    };
    match on_request(&target.filters, &mut cx, &mut Progress::default()) {
        Err(Stop::Refused(reply)) => Some(reply.reason),
        Err(Stop::Answered(reply)) => panic!("{reply:?}"),
        Ok(Flow::Done) => None,
        Ok(Flow::Effect(effect)) => panic!("{effect:?}"),
    }
}

#[test]
fn a_policy_without_targets_holds_exactly_where_it_is_named() {
    let mut resources = mesh(Vec::new(), vec![extension("RateLimitPolicy", "a")]);
    resources.insert(limit("a"));
    resources.insert(limit("b"));
    let (rule, names) = rule_of(&resources);
    assert_eq!(names, [vec![], vec!["a".to_owned()]]);
    assert_eq!((outcome(&rule.targets[0]), outcome(&rule.targets[0])), (None, None));
    assert_eq!((outcome(&rule.targets[1]), outcome(&rule.targets[1])), (None, Some(Reason::RateLimited)));
}

#[test]
fn what_is_named_takes_the_place_of_what_is_attached_and_all_that_is_named_holds() {
    let named = vec![extension("RateLimitPolicy", "a"), extension("RateLimitPolicy", "b")];
    let mut resources = mesh(named, vec![extension("RateLimitPolicy", "c")]);
    for name in ["a", "b", "c"] {
        resources.insert(limit(name));
    }
    resources.insert(attached(limit("route"), TargetKind::HTTPRoute, "edge"));
    resources.insert(attached(limit("service"), TargetKind::Service, "v2"));
    resources.insert(attached(breaker("other-kind"), TargetKind::Service, "v1"));
    let (_, names) = rule_of(&resources);
    assert_eq!(names, [vec!["a", "b", "other-kind"], vec!["a", "b", "c"]]);
    let known = crate::attach::Known::of(&resources);
    let standings = crate::attach::standings(&resources, &known);
    let by = &standings[&("RateLimitPolicy".to_owned(), name("route"))].overridden_by;
    assert!(by.contains(&name("a")), "{by:?}");
    assert!(standings[&("RateLimitPolicy".to_owned(), name("a"))].overridden_by.is_empty());
}

#[test]
fn of_breakers_the_backends_own_guards_it() {
    let mut resources = mesh(
        vec![extension("CircuitBreakerPolicy", "rule")],
        vec![extension("CircuitBreakerPolicy", "backend")],
    );
    resources.insert(breaker("rule"));
    resources.insert(breaker("backend"));
    let (_, names) = rule_of(&resources);
    assert_eq!(names, [["rule"], ["backend"]]);
}

#[test]
fn a_cohort_policy_that_a_rule_names_picks_for_it() {
    let mut resources = mesh(vec![extension("CohortPolicy", "users")], Vec::new());
    let spec = json!({"key": [{"type": "ClientAddress"}]});
    resources.insert(Resource::Policy(policy("CohortPolicy", "users", Vec::new(), spec)));
    let (rule, names) = rule_of(&resources);
    assert!(rule.cohort.is_some());
    assert_eq!(names, [["users"], ["users"]]);
}

#[test]
fn what_is_named_and_not_there_fails_every_request_before_anything_can_answer() {
    let redirect =
        Redirect { scheme: None, hostname: None, path: None, port: None, status: http::StatusCode::FOUND };
    for broken in [RouteFilter::Invalid, extension("RateLimitPolicy", "gone"), extension("Nonsense", "a")] {
        let (rule, _) =
            rule_of(&mesh(vec![RouteFilter::Redirect(redirect.clone()), broken.clone()], Vec::new()));
        assert!(rule.targets.iter().all(|target| outcome(target) == Some(Reason::InvalidFilter)));
        let (rule, _) = rule_of(&mesh(Vec::new(), vec![broken]));
        let outcomes: Vec<_> = rule.targets.iter().map(outcome).collect();
        assert_eq!(outcomes, [None, Some(Reason::InvalidFilter)], "its share of the requests");
    }
}

#[test]
fn a_preflight_is_answered_by_the_rule_that_would_take_the_request_if_that_knows_cors() {
    let cors = || RouteFilter::Cors(crate::model::Cors::default());
    let with = |name: &str, matches: &str, filters: Vec<RouteFilter>| crate::model::RouteRule {
        filters,
        ..rule(name, &[matches], vec![to("v1", 1)])
    };
    let found = |rules: Vec<crate::model::RouteRule>, method: &str| {
        let mut resources = mesh(Vec::new(), Vec::new());
        resources.insert(Resource::Route(route("edge", vec![on_listener("gw", "http", &[""])], rules)));
        let (snapshot, _) = Snapshot::build(&resources, &Local::default(), &StateStore::new([0, 0]));
        let head = http::Request::options("/a").header("host", "a").header("origin", "https://b");
        let head = head.header("access-control-request-method", method).body(()).unwrap().into_parts().0;
        snapshot.find(GATEWAY, &head).map(|rule| rule.name.to_string())
    };
    let only_put = || vec![with("put", "/a PUT", vec![cors()])];
    assert_eq!(found(only_put(), "PUT").as_deref(), Ok("put"));
    assert_eq!(found(only_put(), "DELETE"), Err(Reason::NoRoute));
    let beside_all = vec![with("put", "/a PUT", vec![cors()]), with("all", "/", vec![cors()])];
    assert_eq!(
        found(beside_all.clone(), "PUT").as_deref(),
        Ok("put"),
        "and not the one that takes OPTIONS too"
    );
    assert_eq!(found(beside_all, "DELETE").as_deref(), Ok("all"));
    let own = vec![with("put", "/a PUT", Vec::new()), with("options", "/a OPTIONS", Vec::new())];
    assert_eq!(found(own, "PUT").as_deref(), Ok("options"), "a backend that answers preflights itself");
}

#[test]
fn a_policy_that_does_not_compile_is_as_one_that_is_not_there() {
    let mut resources = mesh(vec![extension("RateLimitPolicy", "bad")], Vec::new());
    resources.insert(Resource::Policy(policy("RateLimitPolicy", "bad", Vec::new(), json!({"limits": []}))));
    let (rule, _) = rule_of(&resources);
    assert_eq!(outcome(&rule.targets[0]), Some(Reason::InvalidFilter));
}
