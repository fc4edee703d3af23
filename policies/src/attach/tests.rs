use serde_json::json;

use super::*;
use crate::model::fixture::*;
use crate::model::{Policy, Resource, Resources, RouteParent, TargetKind};

fn on(text: &str, targets: Vec<TargetRef>) -> Policy {
    policy("P", text, targets, json!({}))
}

fn everywhere() -> Resources {
    let rule = rule("pay", &["/"], vec![to("cart", 1)]);
    let route = route("r", vec![on_listener("gw", "http", &[""])], vec![rule]);
    let mut all = Vec::from(service("cart", 80, &[9001]));
    all.push(Resource::Listener(listener("gw", "http", "")));
    all.push(Resource::Route(route));
    resources(all)
}

/// From the least to the most specific, as the design lists them.
fn gateway_ladder() -> Vec<Policy> {
    use TargetKind::{Gateway, HTTPRoute, Namespace, Service};
    let targets = [
        target(Namespace, "shop", None),
        target(Gateway, "gw", None),
        target(Gateway, "gw", Some("http")),
        target(HTTPRoute, "r", None),
        target(HTTPRoute, "r", Some("pay")),
        target(Service, "cart", None),
        target(Service, "cart", Some("http")),
    ];
    targets.into_iter().enumerate().map(|(i, target)| on(&format!("p{i}"), vec![target])).collect()
}

fn at_gateway(policies: &[Policy]) -> Vec<String> {
    let resources = everywhere();
    let route = &resources.routes[&(crate::model::RouteKind::Http, name("r"))];
    let place = Place {
        resources: &resources,
        rule: Some((route.kind.target(), &route.meta.name, route.rules[0].name.as_ref())),
    };
    let chain = place.gateway(&listener_name("gw", "http"), Some(&service_name("cart", 80)));
    let effective = Attachments::new(policies).effective(&chain);
    effective.iter().map(|policy| policy.meta.name.name.to_string()).collect()
}

#[test]
fn on_a_gateway_the_most_specific_target_wins() {
    let ladder = gateway_ladder();
    for most in 0..ladder.len() {
        assert_eq!(at_gateway(&ladder[..=most]), [format!("p{most}")]);
    }
}

#[test]
fn kinds_do_not_override_each_other() {
    let mut ladder = gateway_ladder();
    ladder[0].kind = "Q".into();
    assert_eq!(at_gateway(&ladder), ["p6", "p0"]);
}

#[test]
fn a_namespaces_default_yields_to_anything_explicit_and_the_services_namespace_is_the_nearest() {
    let namespace = |name: &str| on(name, vec![target(TargetKind::Namespace, name, None)]);
    let resources = resources(service("deep/cart", 80, &[]));
    let route = route("mid/r", Vec::new(), Vec::new());
    let place = Place { resources: &resources, rule: Some((route.kind.target(), &route.meta.name, None)) };
    let chain = place.gateway(&listener_name("edge/gw", "http"), Some(&service_name("deep/cart", 80)));
    let effective = |policies: &[Policy]| {
        let found = Attachments::new(policies).effective(&chain);
        found.iter().map(|policy| policy.meta.name.name.to_string()).collect::<Vec<_>>()
    };
    let all = [namespace("edge"), namespace("mid"), namespace("deep")];
    assert_eq!(effective(&all), ["deep"]);
    assert_eq!(effective(&all[..2]), ["mid"]);
    assert_eq!(effective(&all[..1]), ["edge"]);
    let explicit = on("explicit", vec![target(TargetKind::Gateway, "edge/gw", None)]);
    assert_eq!(effective(&[all[2].clone(), explicit]), ["explicit"]);
}

#[test]
fn a_callers_sidecar_runs_the_routes_filters_and_the_breakers_down_to_the_backend() {
    use TargetKind::{HTTPRoute, Namespace, Service};
    let mut resources = resources(service("cart", 80, &[]));
    service("other/pay", 80, &[]).into_iter().for_each(|r| resources.insert(r));
    let parents = vec![RouteParent::Service { service: name("cart"), port: None }];
    let route = route("r", parents, vec![rule("pay", &["/"], vec![to("other/pay", 1)])]);
    let place = Place {
        resources: &resources,
        rule: Some((route.kind.target(), &route.meta.name, route.rules[0].name.as_ref())),
    };
    let policies = [
        on("namespace", vec![target(Namespace, "shop", None)]),
        on("backends-namespace", vec![target(Namespace, "other", None)]),
        on("parent", vec![target(Service, "cart", None)]),
        on("route", vec![target(HTTPRoute, "r", None)]),
        on("backend", vec![target(Service, "other/pay", None)]),
    ];
    let names = |chain: &Chain, policies: &[Policy]| {
        let found = Attachments::new(policies).effective(chain);
        found.iter().map(|policy| policy.meta.name.name.to_string()).collect::<Vec<_>>()
    };
    let (parent, backend) = (service_name("cart", 80), service_name("other/pay", 80));
    let breakers = place.outbound_breakers(&parent, Some(&backend));
    for most in 0..policies.len() {
        assert_eq!(names(&breakers, &policies[..=most]), [&*policies[most].meta.name.name]);
    }
    assert_eq!(names(&place.outbound_filters(), &policies), ["route"]);
    let without_route = [&policies[..3], &policies[4..]].concat();
    assert!(names(&place.outbound_filters(), &without_route).is_empty());
}

#[test]
fn rivals_of_equal_rank_are_told_of_each_other_and_the_older_wins() {
    let mut resources = everywhere();
    let service = || vec![target(TargetKind::Service, "cart", None)];
    let mut young = on("a", service());
    young.meta.created = Some(20);
    let mut old = on("b", service());
    old.meta.created = Some(10);
    resources.insert(Resource::Policy(young));
    resources.insert(Resource::Policy(old));
    let standings = standings(&resources, &Known::of(&resources));
    let of = |text: &str| &standings[&("P".to_owned(), name(text))];
    assert_eq!(
        of("a").conflicts,
        [Conflict { target: service().remove(0), others: vec![name("b")], wins: false }]
    );
    assert!(of("b").conflicts[0].wins);
    assert!(of("a").overridden_by.is_empty(), "a conflict is not an override");
}

#[test]
fn a_policy_is_overridden_only_if_it_holds_nowhere() {
    let mut resources = everywhere();
    let default = on("default", vec![target(TargetKind::Namespace, "shop", None)]);
    let own = on("own", vec![target(TargetKind::Service, "cart", None)]);
    resources.insert(Resource::Policy(default));
    resources.insert(Resource::Policy(own));
    let overridden = |resources: &Resources| {
        let standings = standings(resources, &Known::of(resources));
        standings[&("P".to_owned(), name("default"))].overridden_by.clone()
    };
    assert_eq!(overridden(&resources), [name("own")].into());
    service("pay", 80, &[]).into_iter().for_each(|r| resources.insert(r));
    assert!(overridden(&resources).is_empty());
}

#[test]
fn a_missing_target_is_told_and_the_others_hold() {
    let mut resources = everywhere();
    let gone = target(TargetKind::HTTPRoute, "gone", None);
    let policy = on("p", vec![gone.clone(), target(TargetKind::Service, "cart", None)]);
    resources.insert(Resource::Policy(policy));
    let standings = standings(&resources, &Known::of(&resources));
    assert_eq!(standings[&("P".to_owned(), name("p"))].missing, [gone]);
    let chain = Chain::inbound(&name("cart"), &resources).remove(0);
    assert_eq!(Attachments::new(resources.policies.values()).effective(&chain).len(), 1);
}

#[test]
fn of_a_kind_that_adds_up_all_hold_and_none_is_in_conflict_or_overridden() {
    let mut ladder = gateway_ladder();
    let twin = on("twin", vec![target(TargetKind::HTTPRoute, "r", None)]);
    ladder.push(twin);
    for policy in &mut ladder {
        policy.kind = "AuthorizationPolicy".into();
    }
    let mut found = at_gateway(&ladder);
    found.sort();
    assert_eq!(found, ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "twin"]);
    let mut resources = everywhere();
    ladder.into_iter().for_each(|policy| resources.insert(Resource::Policy(policy)));
    for (name, standing) in standings(&resources, &Known::of(&resources)) {
        assert_eq!(standing, Standing::default(), "{name:?}");
    }
}
