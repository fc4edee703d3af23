//! GRPCRoutes, sentence by sentence of the Gateway API.

use std::sync::Arc;

use super::*;
use crate::document::parse;
use crate::model::{InvalidRef, PathMatch, Route, RouteKind, RouteParent, fixture::name};

const CART: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports: [{name: grpc, port: 80}, {name: other, port: 81}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: http, port: 8080, protocol: HTTP}
  - {name: only-http, port: 8081, protocol: HTTP, allowedRoutes: {kinds: [{kind: HTTPRoute}]}}
---
";

/// `{kind} {name}`, written at second `created`, with `spec` in flow style.
fn route(kind: &str, name: &str, created: u32, spec: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: shop, creationTimestamp: '2024-01-01T00:00:0{created}Z'}}
spec: {{{spec}}}
---
"
    )
}

fn with_cart(text: &str) -> Resolved {
    let parsed = parse(&Arc::from("shop.yaml"), &format!("{CART}{text}"));
    assert!(parsed.failed.is_empty(), "{:?}", parsed.diagnostics);
    resolve(&parsed.objects)
}

fn grpc<'a>(resolved: &'a Resolved, of: &str) -> &'a Route {
    &resolved.resources.routes[&(RouteKind::Grpc, name(of))]
}

/// The Accepted condition: its reason, with `!` before what does not hold.
fn accepted(resolved: &Resolved, key: &str) -> String {
    let conditions = resolved.conditions.iter().find(|(k, _)| k.to_string() == key).unwrap().1;
    let accepted = conditions.iter().find(|c| c.kind == "Accepted").unwrap();
    format!("{}{}", if accepted.holds { "" } else { "!" }, accepted.reason)
}

#[test]
fn a_method_match_is_a_match_of_the_path() {
    for (method, want) in [
        ("{service: a.B, method: C}", PathMatch::Exact("/a.B/C".into())),
        ("{service: a.B}", PathMatch::Prefix("/a.B".into())),
        ("{method: C}", PathMatch::AnyService("C".into())),
        ("{type: Exact, service: '', method: C}", PathMatch::AnyService("C".into())),
    ] {
        let resolved = with_cart(&route(
            "GRPCRoute",
            "r",
            1,
            &format!("parentRefs: [{{name: gw}}], rules: [{{matches: [{{method: {method}}}]}}]"),
        ));
        assert_eq!(grpc(&resolved, "r").rules[0].matches[0].path, want, "{method}");
    }
    let all = with_cart(&route("GRPCRoute", "r", 1, "parentRefs: [{name: gw}], rules: [{}]"));
    assert_eq!(grpc(&all, "r").rules[0].matches[0].path, PathMatch::Prefix("".into()));
}

#[test]
fn expressions_hold_for_a_whole_service_and_a_whole_method() {
    for (method, path, want) in [
        ("{type: RegularExpression, service: 'a|b', method: 'C'}", "/a/C", true),
        ("{type: RegularExpression, service: 'a|b', method: 'C'}", "/b/C", true),
        ("{type: RegularExpression, service: 'a|b', method: 'C'}", "/ab/C", false),
        ("{type: RegularExpression, service: 'a|b', method: 'C'}", "/a/Cx", false),
        ("{type: RegularExpression, service: 'a.*'}", "/a.v1/Any", true),
        ("{type: RegularExpression, method: 'G.*'}", "/any.Service/Get", true),
        ("{type: RegularExpression, method: 'G.*'}", "/any.Service/Put", false),
    ] {
        let resolved = with_cart(&route(
            "GRPCRoute",
            "r",
            1,
            &format!("parentRefs: [{{name: gw}}], rules: [{{matches: [{{method: {method}}}]}}]"),
        ));
        let wanted = &grpc(&resolved, "r").rules[0].matches[0].path;
        assert_eq!(crate::matching::path_matches(wanted, path), want, "{method} {path}");
    }
}

#[test]
fn backends_and_filters_are_those_of_every_route() {
    let resolved = with_cart(&route(
        "GRPCRoute",
        "r",
        1,
        "parentRefs: [{name: gw}], rules: [{matches: [{headers: [{name: x, value: y}]}], \
         filters: [{type: RequestHeaderModifier, requestHeaderModifier: {remove: [a]}}], \
         backendRefs: [{name: cart, port: 80, weight: 3}, {name: none, port: 80}]}]",
    ));
    let rule = &grpc(&resolved, "r").rules[0];
    assert_eq!((rule.filters.len(), rule.matches[0].headers.len(), rule.backends[0].weight), (1, 1, 3));
    assert_eq!(rule.backends[1].target, Err(InvalidRef::BackendNotFound));
}

#[test]
fn a_listener_may_take_one_kind_only() {
    let refused = |parent: &str| {
        let spec = format!("parentRefs: [{parent}], rules: [{{}}]");
        accepted(&with_cart(&route("GRPCRoute", "r", 1, &spec)), "GRPCRoute shop/r")
    };
    assert_eq!(refused("{name: gw, sectionName: only-http}"), "!NotAllowedByListeners");
    assert_eq!(refused("{name: gw, sectionName: http}"), "Accepted");
}

#[test]
fn of_two_kinds_with_a_common_hostname_on_a_listener_exactly_one_is_accepted() {
    let on =
        |hostname: &str| format!("parentRefs: [{{name: gw, sectionName: http}}], hostnames: [{hostname}]");
    // (HTTPRoute: name, second, hostname), (GRPCRoute: …), the winner; none: both
    for (http, grpc, winner) in [
        (("r", 1, "a.com"), ("r", 2, "a.com"), Some("HTTPRoute")),
        (("r", 2, "a.com"), ("r", 1, "a.com"), Some("GRPCRoute")),
        (("b", 1, "a.com"), ("a", 1, "a.com"), Some("GRPCRoute")),
        (("a", 1, "a.com"), ("b", 1, "a.com"), Some("HTTPRoute")),
        (("r", 1, "'*.a.com'"), ("r", 2, "x.a.com"), Some("HTTPRoute")),
        (("r", 2, ""), ("r", 1, "x.a.com"), Some("GRPCRoute")),
        (("r", 1, "a.com"), ("r", 2, "b.com"), None),
    ] {
        let resolved = with_cart(&format!(
            "{}{}",
            route("HTTPRoute", http.0, http.1, &on(http.2)),
            route("GRPCRoute", grpc.0, grpc.1, &on(grpc.2)),
        ));
        for (kind, name) in [("HTTPRoute", http.0), ("GRPCRoute", grpc.0)] {
            let want = if winner.is_none_or(|w| w == kind) { "Accepted" } else { "!Conflicted" };
            assert_eq!(accepted(&resolved, &format!("{kind} shop/{name}")), want, "{http:?} {grpc:?}");
        }
        let held = if winner.is_some() { 1 } else { 2 };
        assert_eq!(resolved.resources.routes.len(), held, "{http:?} {grpc:?}");
    }
}

#[test]
fn a_route_that_loses_one_listener_keeps_its_others() {
    let resolved = with_cart(&format!(
        "{}{}",
        route("GRPCRoute", "g", 1, "parentRefs: [{name: gw, sectionName: http}], rules: [{}]"),
        route("HTTPRoute", "h", 2, "parentRefs: [{name: gw}]"),
    ));
    assert_eq!(accepted(&resolved, "HTTPRoute shop/h"), "Accepted");
    match &resolved.resources.routes[&(RouteKind::Http, name("h"))].parents[..] {
        [RouteParent::Listener { listener, .. }] => assert_eq!(&*listener.section, "only-http"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn on_a_services_port_grpc_goes_first_whatever_its_age() {
    let on = |port: &str| format!("parentRefs: [{{group: '', kind: Service, name: cart{port}}}]");
    for (http, grpc, http_is) in [
        (", port: 80", ", port: 80", "!Conflicted"),
        (", port: 80", "", "!Conflicted"),
        ("", "", "!Conflicted"),
        (", port: 81", ", port: 80", "Accepted"),
        // On the other port it still holds.
        ("", ", port: 80", "Accepted"),
    ] {
        let resolved = with_cart(&format!(
            "{}{}",
            route("HTTPRoute", "h", 1, &on(http)),
            route("GRPCRoute", "g", 2, &format!("{}, rules: [{{}}]", on(grpc))),
        ));
        assert_eq!(accepted(&resolved, "HTTPRoute shop/h"), http_is, "{http} {grpc}");
        assert_eq!(accepted(&resolved, "GRPCRoute shop/g"), "Accepted", "{http} {grpc}");
    }
}

#[test]
fn what_a_grpc_route_cannot_say_is_refused_with_its_place() {
    for (rule, want) in [
        ("{matches: [{method: {}}]}", "matches[0].method: needs a `service`, a `method`, or both"),
        (
            "{matches: [{method: {service: a/b}}]}",
            "matches[0].method.service: `a/b` cannot be the name of a gRPC service",
        ),
        (
            "{matches: [{method: {method: a.b}}]}",
            "matches[0].method.method: `a.b` cannot be the name of a gRPC method",
        ),
        ("{filters: [{type: CORS, cors: {}}]}", "filters[0].type: a GRPCRoute has no filter CORS"),
        (
            "{backendRefs: [{name: cart, port: 80, filters: [{type: URLRewrite, urlRewrite: {}}]}]}",
            "backendRefs[0].filters[0].type: a GRPCRoute has no filter URLRewrite",
        ),
    ] {
        let text = route("GRPCRoute", "r", 1, &format!("parentRefs: [{{name: gw}}], rules: [{rule}]"));
        let parsed = parse(&Arc::from("a.yaml"), &text);
        let errors: Vec<_> =
            parsed.diagnostics.iter().map(|d| format!("{}: {}", d.field, d.message)).collect();
        assert_eq!(errors, [format!("spec.rules[0].{want}")], "{rule}");
    }
}
