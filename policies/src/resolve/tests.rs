mod backend_tls;
mod extensions;
mod gateway_tls;
mod listener_sets;
mod listeners;
mod references;
mod services;
mod streams;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::document::parse;
use crate::model::{
    AppProtocol, InvalidRef, ListenerName, Retry, RouteKind, RouteParent, Timeouts, fixture::*,
};
use crate::objects::ListenerProtocol;

const CART: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: grpc, port: 81, appProtocol: kubernetes.io/h2c}
  - {name: odd, port: 82, appProtocol: mysql}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  gatewayClassName: tidegate
  addresses: [{value: 127.0.0.1}]
  listeners:
  - {name: http, port: 8080, protocol: HTTP, hostname: '*.example.com'}
  - {name: open, port: 8081, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}
---
";

fn objects(text: &str) -> Vec<Object> {
    let parsed = parse(&Arc::from("shop.yaml"), text);
    let errors: Vec<_> = parsed.diagnostics.iter().map(|d| format!("{d:?}")).collect();
    assert!(parsed.failed.is_empty(), "{}", errors.join("\n"));
    parsed.objects
}

fn with_cart(text: &str) -> Resolved {
    resolve(&objects(&format!("{CART}{text}")))
}

fn http_route(namespace: &str, parent: &str, more: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: {namespace}}}
spec:
  parentRefs: [{parent}]
{more}
---
"
    )
}

fn to_cart(more: &str) -> String {
    format!("  rules: [{{backendRefs: [{{name: cart, port: 80{more}}}]}}]")
}

/// `type=reason`, with `!` before what does not hold.
fn told(resolved: &Resolved, key: &str) -> Vec<String> {
    let found = resolved.conditions.iter().find(|(k, _)| k.to_string() == key);
    let word = |c: &Condition| format!("{}{}={}", if c.holds { "" } else { "!" }, c.kind, c.reason);
    found.map(|(_, conditions)| conditions.iter().map(word).collect()).unwrap_or_default()
}

fn message(resolved: &Resolved, key: &str, kind: &str) -> String {
    let (_, conditions) = resolved.conditions.iter().find(|(k, _)| k.to_string() == key).unwrap();
    conditions.iter().find(|c| c.kind == kind).unwrap().message.clone()
}

#[test]
fn a_route_on_a_gateway_gets_the_hostnames_it_has_in_common_with_each_listener() {
    let more = format!("  hostnames: [shop.example.com, other.org]\n{}", to_cart(""));
    let resolved = with_cart(&http_route("shop", "{name: gw}", &more));
    assert_eq!(told(&resolved, "HTTPRoute shop/r"), ["Accepted=Accepted", "ResolvedRefs=ResolvedRefs"]);
    assert_eq!(
        resolved.resources.routes[&(RouteKind::Http, name("r"))].parents,
        [
            on_listener("gw", "http", &["shop.example.com"]),
            on_listener("gw", "open", &["other.org", "shop.example.com"]),
        ]
    );
    let listener = &resolved.resources.listeners[&listener_name("gw", "http")];
    assert_eq!((listener.port, listener.addresses.len()), (8080, 1));
    assert_eq!(listener.source.to_string(), "shop.yaml:18");
}

#[test]
fn a_parent_that_does_not_take_a_route_says_why_in_the_specified_order() {
    for (namespace, parent, more, reason) in [
        ("shop", "{name: nobody}", "", "NoMatchingParent"),
        ("shop", "{name: gw, sectionName: nowhere}", "", "NoMatchingParent"),
        ("shop", "{name: gw, sectionName: http, port: 8081}", "", "NoMatchingParent"),
        ("shop", "{name: gw, kind: Mesh, group: x}", "", "NoMatchingParent"),
        ("shop", "{name: cart, kind: Service, group: '', port: 83}", "", "NoMatchingParent"),
        ("shop", "{name: cart, kind: Service, group: '', sectionName: nope}", "", "NoMatchingParent"),
        ("other", "{name: gw, namespace: shop, sectionName: http}", "", "NotAllowedByListeners"),
        ("shop", "{name: gw, sectionName: http}", "  hostnames: [a.org]", "NoMatchingListenerHostname"),
    ] {
        let resolved = with_cart(&http_route(namespace, parent, more));
        let key = format!("HTTPRoute {namespace}/r");
        assert_eq!(told(&resolved, &key)[0], format!("!Accepted={reason}"), "{parent}");
        assert!(message(&resolved, &key, "Accepted").starts_with("shop.yaml:"), "{parent}");
        assert!(resolved.resources.routes.is_empty(), "{parent}");
    }
}

#[test]
fn a_route_from_another_namespace_attaches_only_where_it_is_allowed() {
    let resolved = with_cart(&http_route("other", "{name: gw, namespace: shop}", ""));
    let parents = &resolved.resources.routes[&(RouteKind::Http, name("other/r"))].parents;
    assert_eq!(parents, &[on_listener("shop/gw", "open", &[""])]);
}

#[test]
fn a_selector_allows_the_namespaces_that_it_names() {
    let selector = "{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: friends}}}";
    let cart = CART.replace("{from: All}", selector);
    let attached = |namespace: &str| {
        let route = http_route(namespace, "{name: gw, namespace: shop}", "");
        told(&resolve(&objects(&format!("{cart}{route}"))), &format!("HTTPRoute {namespace}/r"))[0].clone()
    };
    assert_eq!(attached("friends"), "Accepted=Accepted");
    assert_eq!(attached("strangers"), "!Accepted=NotAllowedByListeners");
}

#[test]
fn a_backend_goes_by_its_own_port_written_or_not() {
    let backend = "
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {name: db, namespace: shop}
spec: {port: 80, endpoints: [{address: 10.0.0.1, port: 8080}]}
---
";
    for (port, want) in
        [("", "ResolvedRefs"), (", port: 80", "ResolvedRefs"), (", port: 8080", "!ResolvedRefs")]
    {
        let rules =
            format!("  rules: [{{backendRefs: [{{name: db, kind: Backend, group: tidegate.io{port}}}]}}]");
        let resolved = with_cart(&format!("{backend}{}", http_route("shop", "{name: gw}", &rules)));
        let told = told(&resolved, "HTTPRoute shop/r");
        assert_eq!(told[1].split('=').next(), Some(want), "{port}");
    }
}

#[test]
fn of_two_matches_on_one_header_the_first_counts() {
    let rules = "  rules: [{matches: [{headers: [{name: X-A, value: '1'}, {name: x-a, value: '2'}]}]}]";
    let resolved = with_cart(&http_route("shop", "{name: gw}", rules));
    let headers = &resolved.resources.routes[&(RouteKind::Http, name("r"))].rules[0].matches[0].headers;
    assert_eq!(headers.len(), 1);
    assert!(headers[0].value.matches("1") && !headers[0].value.matches("2"));
}

#[test]
fn a_route_keeps_the_parents_that_take_it_and_tells_about_the_others() {
    let resolved = with_cart(&http_route("shop", "{name: gw}, {name: nobody}", &to_cart("")));
    let conditions = told(&resolved, "HTTPRoute shop/r");
    assert_eq!(conditions, ["!Accepted=NoMatchingParent", "Accepted=Accepted", "ResolvedRefs=ResolvedRefs"]);
    assert_eq!(resolved.resources.routes[&(RouteKind::Http, name("r"))].parents.len(), 2);
}

#[test]
fn a_backend_that_cannot_be_used_keeps_its_place_and_the_route_its_acceptance() {
    for (backend, reason, why) in [
        ("{name: gone, port: 80}", "BackendNotFound", InvalidRef::BackendNotFound),
        ("{name: cart, port: 9}", "BackendNotFound", InvalidRef::BackendNotFound),
        ("{name: gone, kind: Backend, group: tidegate.io}", "BackendNotFound", InvalidRef::BackendNotFound),
        ("{name: cart, kind: Bucket, group: x.io}", "InvalidKind", InvalidRef::InvalidKind),
        ("{name: cart, port: 80, namespace: other}", "RefNotPermitted", InvalidRef::RefNotPermitted),
        ("{name: cart, port: 82}", "UnsupportedProtocol", InvalidRef::UnsupportedProtocol),
    ] {
        let more = format!("  rules:\n  - backendRefs:\n    - {{name: cart, port: 80}}\n    - {backend}");
        let resolved = with_cart(&http_route("shop", "{name: gw}", &more));
        let conditions = told(&resolved, "HTTPRoute shop/r");
        assert_eq!(
            conditions,
            ["Accepted=Accepted".to_owned(), format!("!ResolvedRefs={reason}")],
            "{backend}"
        );
        let message = message(&resolved, "HTTPRoute shop/r", "ResolvedRefs");
        assert!(message.starts_with("shop.yaml:30: "), "{message}");
        let backends = &resolved.resources.routes[&(RouteKind::Http, name("r"))].rules[0].backends;
        assert_eq!(backends[0].target, Ok(service_name("cart", 80)));
        assert_eq!((&backends[1].target, backends[1].weight), (&Err(why), 1));
    }
}

#[test]
fn timeouts_and_retries_become_what_the_rule_says_and_zero_switches_a_timeout_off() {
    let rule = |more: &str| {
        let rules = format!("  rules: [{{backendRefs: [{{name: cart, port: 80}}]{more}}}]");
        let resolved = with_cart(&http_route("shop", "name: gw", &rules));
        resolved.resources.routes.values().next().unwrap().rules[0].clone()
    };
    let written = rule(
        ", timeouts: {request: 0s, backendRequest: 2s}, retry: {codes: [503, 500, 503], backoff: 100ms}",
    );
    assert_eq!(written.timeouts, Timeouts { request: None, backend_request: Some(Duration::from_secs(2)) });
    let backoff = Some(Duration::from_millis(100));
    assert_eq!(written.retry, Some(Retry { codes: [500, 503].into(), attempts: 1, backoff }));
    assert_eq!(rule("").retry, None);
    let empty = Retry { codes: Box::default(), attempts: 1, backoff: None };
    assert_eq!(rule(", retry: {}").retry, Some(empty));
}

const EDGE: &str = "
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: shop}
type: kubernetes.io/tls
stringData:
  tls.crt: |
    -----BEGIN CERTIFICATE-----
    AAAA
    -----END CERTIFICATE-----
data:
  tls.key: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCkFBQUEKLS0tLS1FTkQgUFJJVkFURSBLRVktLS0tLQo=
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: plain, port: 80, protocol: HTTP}
  - {name: tls, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}
---
";

#[test]
fn an_https_listener_gets_its_certificate_from_a_secret() {
    let resolved = resolve(&objects(EDGE));
    let listener = resolved.resources.listeners.values().find(|l| l.port == 443).unwrap();
    let certificates = listener.certificates().unwrap();
    assert_eq!(certificates[0].secret.to_string(), "shop/cert");
    assert!(certificates[0].chain.starts_with(b"-----BEGIN CERTIFICATE-----\nAAAA"));
    assert_eq!(
        certificates[0].key.expose(),
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    );
    assert_eq!(told(&resolved, "Gateway shop/edge"), ["Accepted=Accepted"]);
    let shown = format!("{:?} {resolved:?}", objects(EDGE));
    assert!(!shown.contains("PRIVATE KEY") && !shown.contains("LS0tLS1CRUdJTiBQ"), "{shown}");
}

#[test]
fn a_certificate_that_cannot_be_used_takes_down_its_listener_alone_and_says_why() {
    let cases = [
        (
            "certificateRefs: [{name: cert}]",
            "certificateRefs: [{name: none}]",
            "there is no Secret shop/none",
        ),
        ("[{name: cert}]", "[{name: cert, kind: ConfigMap}]", "a ConfigMap cannot hold a certificate"),
        ("type: kubernetes.io/tls", "type: Opaque", "Secret shop/cert is of type Opaque"),
        ("  tls.key:", "  other:", "has no `tls.key`"),
        ("END CERTIFICATE", "END NOTHING", "a `tls.crt` that has a PEM block without its other end"),
        ("CERTIFICATE-----", "PUBLIC KEY-----", "is not a chain of PEM certificates"),
        ("LS0tLS1CRUdJTiBQUklWQVRF", "LS0tLS1CRUdJTiBQUklWQVRE", "PEM block without its other end"),
    ];
    for (good, bad, why) in cases {
        let resolved = resolve(&objects(&EDGE.replace(good, bad)));
        let ports: Vec<_> = resolved.resources.listeners.values().map(|l| l.port).collect();
        assert_eq!(ports, [80], "{bad}");
        let key = "Gateway shop/edge";
        assert_eq!(
            told(&resolved, key),
            ["Accepted=ListenersNotValid", "!ResolvedRefs=ListenersNotResolved"],
            "{bad}"
        );
        let message = message(&resolved, key, "ResolvedRefs");
        assert!(message.contains("listener `tls`: ") && message.contains(why), "{message}");
    }
    let elsewhere = EDGE.replace("[{name: cert}]", "[{name: cert, namespace: other}]");
    let refused = told(&resolve(&objects(&elsewhere)), "Gateway shop/edge");
    assert_eq!(refused, ["Accepted=ListenersNotValid", "!ResolvedRefs=ListenersNotResolved"]);
    let granted = elsewhere.replace("name: cert, namespace: shop}", "name: cert, namespace: other}")
        + "apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: shop}]
  to: [{group: '', kind: Secret, name: cert}]
";
    assert_eq!(told(&resolve(&objects(&granted)), "Gateway shop/edge"), ["Accepted=Accepted"]);
}

#[test]
fn a_port_is_for_http_or_for_https_and_not_for_both() {
    let resolved = resolve(&objects(&EDGE.replace("port: 80", "port: 443, hostname: a.example.com")));
    assert!(resolved.resources.listeners.is_empty());
    let key = "Gateway shop/edge";
    let both = ["!Accepted=ListenersNotValid", "Conflicted=ProtocolConflict", "Conflicted=ProtocolConflict"];
    assert_eq!(told(&resolved, key), both);

    let other = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: younger, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners: [{name: plain, port: 443, protocol: HTTP, hostname: a.example.com}]
";
    let resolved = resolve(&objects(&format!("{EDGE}{other}")));
    assert_eq!(resolved.resources.listeners.len(), 2);
    let told = told(&resolved, "Gateway shop/younger");
    assert_eq!(told, ["!Accepted=ListenersNotValid", "Conflicted=ProtocolConflict"]);
}

#[test]
fn a_mesh_route_may_call_any_namespace() {
    let parent = "{name: cart, namespace: shop, kind: Service, group: '', sectionName: http}";
    let resolved = with_cart(&http_route("other", parent, &to_cart(", namespace: shop")));
    assert_eq!(told(&resolved, "HTTPRoute other/r"), ["Accepted=Accepted", "ResolvedRefs=ResolvedRefs"]);
    let route = &resolved.resources.routes[&(RouteKind::Http, name("other/r"))];
    assert_eq!(route.parents, [RouteParent::Service { service: name("cart"), port: Some(80) }]);
}

fn slice(name: &str, port: &str, endpoints: &str) -> String {
    format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: cart}}}}
addressType: IPv4
ports: [{{name: {port}, port: 8080}}]
endpoints: [{endpoints}]
---
"
    )
}

#[test]
fn endpoints_come_from_all_slices_by_port_name_once_each_and_only_if_ready() {
    let slices = [
        slice("a", "http", "{addresses: [10.0.0.2]}, {addresses: [10.0.0.1], conditions: {ready: true}}"),
        slice("b", "http", "{addresses: [10.0.0.1]}, {addresses: [10.0.0.3], conditions: {ready: false}}"),
        slice("c", "grpc", "{addresses: [10.0.0.9]}"),
    ];
    let resolved = with_cart(&slices.concat());
    let of = |port| {
        let endpoints = &resolved.resources.endpoints[&service_name("cart", port)].endpoints;
        endpoints.iter().map(|e| e.address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(80), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(of(81), ["10.0.0.9:8080"]);
    assert!(of(82).is_empty());
    assert_eq!(told(&resolved, "Service shop/cart"), ["!ResolvedRefs=EndpointsNotFound"]);
    let grpc = &resolved.resources.backends[&service_name("cart", 81)];
    assert_eq!((grpc.protocol, grpc.port_name.as_deref()), (AppProtocol::H2c, Some("grpc")));
}

#[test]
fn both_families_and_names_are_endpoints_and_the_target_port_is_not_read() {
    let of = |kind: &str, name: &str, addresses: &str| {
        slice(name, "http", &format!("{{addresses: [{addresses}]}}")).replace("IPv4", kind)
    };
    let slices =
        [of("IPv4", "a", "10.0.0.1, 10.0.0.7"), of("IPv6", "b", "'fd00::1'"), of("FQDN", "c", "Db.Example")];
    let text = format!("{CART}{}", slices.concat());
    let endpoints = |text: &str| {
        let resolved = resolve(&objects(text));
        let of_cart = &resolved.resources.endpoints[&service_name("cart", 80)].endpoints;
        of_cart.iter().map(|e| e.address.to_string()).collect::<Vec<_>>()
    };
    // Of several addresses of one endpoint, the first is taken.
    assert_eq!(endpoints(&text), ["10.0.0.1:8080", "[fd00::1]:8080", "db.example:8080"]);
    assert_eq!(endpoints(&text.replace("targetPort: 8080", "targetPort: 9")), endpoints(&text));
}

#[test]
fn a_service_without_ports_cannot_be_called_and_says_so() {
    let bare = "{apiVersion: v1, kind: Service, metadata: {name: bare, namespace: shop}, spec: {clusterIP: None}}\n---\n";
    let rules = "  rules: [{backendRefs: [{name: bare, port: 80}]}]";
    let resolved = with_cart(&format!("{bare}{}", http_route("shop", "{name: gw}", rules)));
    assert_eq!(told(&resolved, "HTTPRoute shop/r"), ["Accepted=Accepted", "!ResolvedRefs=BackendNotFound"]);
    assert!(
        message(&resolved, "HTTPRoute shop/r", "ResolvedRefs").ends_with("shop/bare has no TCP ports at all")
    );
}

#[test]
fn the_order_of_objects_changes_nothing() {
    let text = format!(
        "{CART}{}{}{}",
        slice("a", "http", "{addresses: [10.0.0.2]}"),
        slice("b", "http", "{addresses: [10.0.0.1]}"),
        http_route("shop", "{name: gw}", &to_cart(""))
    );
    let mut all = objects(&text);
    let forward = resolve(&all);
    all.reverse();
    assert_eq!(resolve(&all), forward);
}

fn gateway(name: &str, created: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}
spec:
  gatewayClassName: tidegate
  listeners: [{{name: http, port: 80, protocol: HTTP}}]
---
"
    )
}

#[test]
fn of_two_gateways_on_one_socket_the_older_wins() {
    let text = gateway("a", "2026-02-01T00:00:00Z") + &gateway("b", "2026-01-01T00:00:00Z");
    let resolved = resolve(&objects(&text));
    let listeners: Vec<_> = resolved.resources.listeners.keys().map(ListenerName::to_string).collect();
    assert_eq!(listeners, ["shop/b/http"]);
    assert_eq!(
        told(&resolved, "Gateway shop/a"),
        ["!Accepted=ListenersNotValid", "Conflicted=HostnameConflict"]
    );
    assert!(message(&resolved, "Gateway shop/a", "Conflicted").contains("shop/b/http (shop.yaml:"));
    assert_eq!(told(&resolved, "Gateway shop/b"), ["Accepted=Accepted"]);
}

#[test]
fn one_address_and_all_addresses_of_a_port_do_not_go_together() {
    let one = |name: &str, created, host: &str| {
        let listener = format!("  addresses: [{{value: 127.0.0.1}}]\n  listeners: [{{hostname: {host}, ");
        gateway(name, created).replace("  listeners: [{", &listener)
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    for (older, newer) in
        [(gateway("a", old), one("b", new, "b.example")), (one("a", old, "a.example"), gateway("b", new))]
    {
        let resolved = resolve(&objects(&(older + &newer)));
        assert_eq!(told(&resolved, "Gateway shop/a"), ["Accepted=Accepted"]);
        let conflicted = ["!Accepted=ListenersNotValid", "Conflicted=PortUnavailable"];
        assert_eq!(told(&resolved, "Gateway shop/b"), conflicted);
    }
    let apart = resolve(&objects(&(one("a", old, "a.example") + &one("b", new, "b.example"))));
    assert_eq!(told(&apart, "Gateway shop/b"), ["Accepted=Accepted"]);
}

fn limit(name: &str, targets: &str) -> String {
    format!(
        "
apiVersion: tidegate.io/v1alpha1
kind: RateLimitPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  targetRefs: [{targets}]
  limits: [{{name: all, requests: 1, per: 1s}}]
---
"
    )
}

#[test]
fn a_policy_on_nothing_is_not_accepted_and_names_the_line() {
    for target in [
        "{kind: HTTPRoute, name: gone}",
        "{kind: Service, name: cart, sectionName: nope}",
        "{kind: Gateway, name: gw, sectionName: nope}",
    ] {
        let resolved = with_cart(&limit("l", target));
        assert_eq!(told(&resolved, "RateLimitPolicy shop/l"), ["!Accepted=TargetNotFound"], "{target}");
        let message = message(&resolved, "RateLimitPolicy shop/l", "Accepted");
        assert!(message.starts_with("shop.yaml:"), "{message}");
        assert_eq!(resolved.resources.policies.len(), 1);
    }
    let resolved = with_cart(&limit("l", "{kind: Service, name: cart, sectionName: http}"));
    assert_eq!(told(&resolved, "RateLimitPolicy shop/l"), ["Accepted=Accepted"]);
}

#[test]
fn two_policies_of_one_kind_on_one_target_both_say_so_and_the_winner_is_certain() {
    let target = "{kind: Service, name: cart}";
    let resolved = with_cart(&(limit("b", target) + &limit("a", target)));
    assert_eq!(told(&resolved, "RateLimitPolicy shop/a"), ["Accepted=Accepted", "Conflicted=TargetConflict"]);
    assert_eq!(
        told(&resolved, "RateLimitPolicy shop/b"),
        ["!Accepted=Conflicted", "Conflicted=TargetConflict"]
    );
    assert!(message(&resolved, "RateLimitPolicy shop/b", "Conflicted").contains("shop/a"));
}

#[test]
fn a_default_that_every_object_overrides_says_by_whom() {
    let default = limit("default", "{kind: Namespace, name: shop}");
    let resolved = with_cart(&(default.clone() + &limit("own", "{kind: Service, name: cart}")));
    let conditions = told(&resolved, "RateLimitPolicy shop/default");
    assert_eq!(conditions, ["Accepted=Accepted", "Overridden=Overridden"]);
    assert!(message(&resolved, "RateLimitPolicy shop/default", "Overridden").contains("shop/own"));
    let resolved = with_cart(&default);
    assert_eq!(told(&resolved, "RateLimitPolicy shop/default"), ["Accepted=Accepted"]);
}
