//! Grants, classes and namespaces: who may refer to what.

use super::*;

fn grant(from: &str, to: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g, namespace: other}}
spec:
  from: [{from}]
  to: [{to}]
---
"
    )
}

const OTHER: &str = "
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: other}
spec: {ports: [{port: 80}]}
---
";

#[test]
fn a_gateway_route_crosses_namespaces_only_where_a_grant_names_both_ends() {
    let route = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
    let grpc = "{group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}";
    let elsewhere = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: elsewhere}";
    let services = "{group: '', kind: Service}";
    for (from, to, permitted) in [
        (route, services, true),
        (route, "{group: '', kind: Service, name: pay}", true),
        (&*format!("{elsewhere}, {route}"), &*format!("{{group: '', kind: Secret}}, {services}"), true),
        (route, "{group: '', kind: Service, name: cart}", false),
        (route, "{group: tidegate.io, kind: Backend}", false),
        (route, "{group: '', kind: Secret}", false),
        (grpc, services, false),
        (elsewhere, services, false),
        ("{group: '', kind: HTTPRoute, namespace: shop}", services, false),
    ] {
        let more = "  rules: [{backendRefs: [{name: pay, namespace: other, port: 80}]}]";
        let resolved =
            with_cart(&(http_route("shop", "{name: gw}", more) + "---" + OTHER + &grant(from, to)));
        let backend = &resolved.resources.routes[&(RouteKind::Http, name("r"))].rules[0].backends[0];
        let told = told(&resolved, "HTTPRoute shop/r");
        assert_eq!(told[0], "Accepted=Accepted");
        if permitted {
            assert_eq!(
                (&*told[1], backend.target.is_ok()),
                ("ResolvedRefs=ResolvedRefs", true),
                "{from} {to}"
            );
        } else {
            assert_eq!(told[1], "!ResolvedRefs=RefNotPermitted", "{from} {to}");
            assert_eq!(backend.target, Err(InvalidRef::RefNotPermitted));
        }
    }
}

#[test]
fn a_grant_of_another_namespace_than_the_targets_grants_nothing() {
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}";
    let own = grant(from, "{group: '', kind: Service}").replace("namespace: other}", "namespace: shop}");
    let more = "  rules: [{backendRefs: [{name: pay, namespace: other, port: 80}]}]";
    let resolved = with_cart(&(http_route("shop", "{name: gw}", more) + "---" + OTHER + &own));
    assert_eq!(told(&resolved, "HTTPRoute shop/r")[1], "!ResolvedRefs=RefNotPermitted");
    let message = message(&resolved, "HTTPRoute shop/r", "ResolvedRefs");
    assert!(message.contains("no ReferenceGrant in `other` allows it to HTTPRoutes of `shop`"), "{message}");
}

fn class(name: &str, controller: &str, more: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: {name}}}
spec: {{controllerName: {controller}{more}}}
---
"
    )
}

#[test]
fn a_gateway_is_ours_by_its_class_name_or_by_the_controller_of_its_class() {
    let of = |wanted: &str| gateway("a", "2026-01-01T00:00:00Z").replace("tidegate", wanted);
    let ours = class("edge", Controller::DEFAULT_NAME, "");
    let theirs = class("edge", "example.com/other", "");
    for (text, ours) in [
        (of("tidegate"), true),
        (of("edge") + &ours, true),
        (of("edge"), false),
        (of("edge") + &theirs, false),
    ] {
        let resolved = resolve(&objects(&text));
        assert_eq!(!resolved.resources.listeners.is_empty(), ours, "{text}");
        let expected = if ours { "Accepted=Accepted" } else { "Ignored=OtherGatewayClass" };
        assert_eq!(told(&resolved, "Gateway shop/a"), [expected], "{text}");
    }
    let controller = Controller { name: "example.com/other".into(), gateway_class: "x".into(), apart: false };
    let resolved = resolve_for(
        &controller,
        &objects(&(of("edge") + &theirs + &of("tidegate").replace("name: a", "name: b"))),
    );
    let listeners: Vec<_> = resolved.resources.listeners.keys().map(ListenerName::to_string).collect();
    assert_eq!(listeners, ["shop/a/http"]);
}

#[test]
fn a_class_of_ours_is_accepted_unless_it_has_parameters_and_one_of_others_is_passed_over() {
    let parameters = ", parametersRef: {group: x.io, kind: Settings, name: s}";
    for (text, expected) in [
        (class("edge", Controller::DEFAULT_NAME, ""), "Accepted=Accepted"),
        (class("edge", Controller::DEFAULT_NAME, parameters), "!Accepted=InvalidParameters"),
        (class("edge", "example.com/other", parameters), "Ignored=OtherController"),
        (class("tidegate", "example.com/other", ""), "Accepted=Accepted"),
    ] {
        let resolved = resolve(&objects(&text));
        let all: Vec<_> = resolved.conditions.keys().map(|key| told(&resolved, &key.to_string())).collect();
        assert_eq!(all, [[expected]], "{text}");
    }
}

#[test]
fn a_route_of_another_controllers_gateway_is_left_alone() {
    let text = gateway("a", "2026-01-01T00:00:00Z").replace("tidegate", "nginx")
        + &http_route("shop", "{name: a}", "");
    let resolved = resolve(&objects(&text));
    let told = told(&resolved, "HTTPRoute shop/r");
    assert_eq!(told, ["Ignored=OtherGatewayClass", "ResolvedRefs=ResolvedRefs"]);
    assert!(resolved.resources.routes.is_empty());
}

#[test]
fn a_listener_picks_namespaces_by_their_labels_and_their_name() {
    let gateway = |selector: &str| {
        gateway("a", "2026-01-01T00:00:00Z").replace(
            "protocol: HTTP}",
            &format!(
                "protocol: HTTP, allowedRoutes: {{namespaces: {{from: Selector, selector: {selector}}}}}}}"
            ),
        )
    };
    let namespace = "
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {team: red}}
---
";
    for (selector, allowed) in [
        ("{matchLabels: {team: red}}", true),
        ("{matchLabels: {team: blue}}", false),
        ("{matchLabels: {kubernetes.io/metadata.name: other}}", true),
        ("{matchExpressions: [{key: team, operator: In, values: [red, green]}]}", true),
        ("{matchExpressions: [{key: team, operator: DoesNotExist}]}", false),
        ("{}", true),
    ] {
        let text = gateway(selector) + namespace + &http_route("other", "{name: a, namespace: shop}", "");
        let expected = if allowed { "Accepted=Accepted" } else { "!Accepted=NotAllowedByListeners" };
        assert_eq!(told(&resolve(&objects(&text)), "HTTPRoute other/r")[0], expected, "{selector}");
    }
    let unlabelled =
        gateway("{matchLabels: {team: red}}") + &http_route("other", "{name: a, namespace: shop}", "");
    let resolved = resolve(&objects(&unlabelled));
    assert_eq!(told(&resolved, "HTTPRoute other/r")[0], "!Accepted=NotAllowedByListeners");
}
