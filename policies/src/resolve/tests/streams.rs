//! Routes of whole connections: which listeners take them, by which names, and what they are told.

use super::*;
use crate::model::{Accepts, StreamKind, TlsMode};

const PLACES: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: tidegate
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS, hostname: web.example.com, tls: {certificateRefs: [{name: cert}]}}
  - {name: through, port: 443, protocol: TLS, hostname: '*.example.com', tls: {mode: Passthrough}}
  - {name: ends, port: 443, protocol: TLS, hostname: ends.example.com, tls: {certificateRefs: [{name: cert}]}}
  - {name: db, port: 5432, protocol: TCP}
  - {name: all, port: 5433, protocol: TCP, allowedRoutes: {namespaces: {from: All}}}
  - {name: dns, port: 53, protocol: UDP}
---
";

fn route(kind: &str, id: &str, spec: &str) -> String {
    let (namespace, name) = id.split_once('/').unwrap();
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
---
"
    )
}

const TO_CART: &str = "rules: [{backendRefs: [{name: cart, port: 80}]}]";

/// Beside the Service `cart`, and a Secret with a certificate.
fn with_places(text: &str) -> Resolved {
    let secret = EDGE.split("---\napiVersion").next().unwrap();
    resolve(&objects(&format!("{CART}{secret}---{PLACES}{text}")))
}

fn parents(resolved: &Resolved, kind: StreamKind, id: &str) -> Vec<RouteParent> {
    resolved.resources.streams.get(&(kind, name(id))).map(|route| route.parents.clone()).unwrap_or_default()
}

fn attached(resolved: &Resolved) -> Vec<String> {
    let listeners = &resolved.listeners[&key("Gateway", &name("edge"))];
    let some = listeners.iter().filter(|listener| listener.attached_routes > 0);
    some.map(|listener| format!("{}={}", listener.name, listener.attached_routes)).collect()
}

#[test]
fn each_protocol_takes_its_own_kinds_and_one_that_is_not_served_leaves_the_others_working() {
    let resolved = with_places("");
    let kinds = |at: usize| {
        let kinds = resolved.listeners[&key("Gateway", &name("edge"))][at].supported_kinds.iter();
        kinds.map(|kind| kind.kind.clone()).collect::<Vec<_>>().join(",")
    };
    let all: Vec<_> = (0..7).map(kinds).collect();
    let http = "HTTPRoute,GRPCRoute";
    assert_eq!(all, [http, http, "TLSRoute", "TLSRoute", "TCPRoute", "TCPRoute", ""]);
    let listener = |section: &str| &resolved.resources.listeners[&listener_name("edge", section)].accepts;
    assert!(matches!(listener("through"), Accepts::Tls { mode: TlsMode::Passthrough, .. }));
    assert!(matches!(listener("ends"), Accepts::Tls { mode: TlsMode::Terminate(_), .. }));
    assert_eq!(listener("db"), &Accepts::Tcp);
    assert!(!resolved.resources.listeners.contains_key(&listener_name("edge", "dns")));
    assert_eq!(told(&resolved, "Gateway shop/edge"), ["Accepted=ListenersNotValid"]);
}

#[test]
fn a_kind_that_the_protocol_does_not_take_is_told_and_the_known_rest_works() {
    let kinds = "kinds: [{kind: TCPRoute}, {kind: TLSRoute}]";
    let own = format!(
        "{{name: tls, port: 443, protocol: TLS, tls: {{mode: Passthrough}}, allowedRoutes: {{{kinds}}}}}"
    );
    let gateway = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec: {{gatewayClassName: tidegate, listeners: [{own}]}}
"
    );
    let resolved = resolve(&objects(&gateway));
    let status = &resolved.listeners[&key("Gateway", &name("edge"))][0];
    assert_eq!(status.supported_kinds.iter().map(|k| &*k.kind).collect::<Vec<_>>(), ["TLSRoute"]);
    assert!(status.conditions.iter().any(|c| !c.holds && c.reason == "InvalidRouteKinds"));
}

#[test]
fn a_tcp_route_goes_to_every_tcp_listener_that_its_parent_ref_means() {
    for (parent, listeners) in [
        ("{name: edge}", &["all", "db"][..]),
        ("{name: edge, sectionName: db}", &["db"]),
        ("{name: edge, port: 5433}", &["all"]),
        ("{name: edge, sectionName: db, port: 5432}", &["db"]),
    ] {
        let resolved =
            with_places(&route("TCPRoute", "shop/r", &format!("parentRefs: [{parent}], {TO_CART}")));
        let mut sections = Vec::new();
        for parent in parents(&resolved, StreamKind::Tcp, "r") {
            let RouteParent::Listener { listener, hostnames } = parent else { panic!("{parent:?}") };
            assert_eq!(hostnames, [crate::model::HostPattern::Any]);
            sections.push(listener.section.to_string());
        }
        sections.sort();
        assert_eq!(sections, listeners, "{parent}");
        let fine = ["Accepted=Accepted", "ResolvedRefs=ResolvedRefs"];
        assert_eq!(told(&resolved, "TCPRoute shop/r"), fine);
        assert_eq!(attached(&resolved).len(), listeners.len());
    }
}

#[test]
fn a_tls_route_gets_the_names_it_has_in_common_with_each_listener() {
    let spec =
        format!("parentRefs: [{{name: edge}}], hostnames: ['*.com', other.org, a.example.com], {TO_CART}");
    let resolved = with_places(&route("TLSRoute", "shop/r", &spec));
    let mut found = parents(&resolved, StreamKind::Tls, "r");
    found.sort_by_key(|parent| format!("{parent:?}"));
    let expected = [
        on_listener("edge", "ends", &["ends.example.com"]),
        on_listener("edge", "through", &["*.example.com", "a.example.com"]),
    ];
    assert_eq!(found, expected);
    assert_eq!(attached(&resolved), ["through=1", "ends=1"]);
}

#[test]
fn a_route_of_connections_that_no_listener_takes_says_why() {
    let tls = format!("hostnames: [a.example.com], {TO_CART}");
    for (kind, id, parent, rest, reason) in [
        ("TCPRoute", "shop/r", "{name: edge, sectionName: http}", TO_CART, "NotAllowedByListeners"),
        ("TCPRoute", "shop/r", "{name: edge, sectionName: through}", TO_CART, "NotAllowedByListeners"),
        ("TCPRoute", "shop/r", "{name: edge, sectionName: nowhere}", TO_CART, "NoMatchingParent"),
        ("TCPRoute", "shop/r", "{name: edge, port: 5434}", TO_CART, "NoMatchingParent"),
        ("TCPRoute", "shop/r", "{name: other}", TO_CART, "NoMatchingParent"),
        (
            "TCPRoute",
            "pay/r",
            "{name: edge, namespace: shop, sectionName: db}",
            TO_CART,
            "NotAllowedByListeners",
        ),
        ("TCPRoute", "shop/r", "{kind: Service, group: '', name: cart}", TO_CART, "UnsupportedValue"),
        ("TLSRoute", "shop/r", "{name: edge, sectionName: https}", &tls, "NotAllowedByListeners"),
        ("TLSRoute", "shop/r", "{name: edge, sectionName: db}", &tls, "NotAllowedByListeners"),
        ("TLSRoute", "shop/r", "{name: edge, sectionName: ends}", &tls, "NoMatchingListenerHostname"),
        ("UDPRoute", "shop/r", "{name: edge}", TO_CART, "NotAllowedByListeners"),
        ("UDPRoute", "shop/r", "{name: edge, sectionName: dns}", TO_CART, "NotAllowedByListeners"),
        ("HTTPRoute", "shop/r", "{name: edge, sectionName: through}", TO_CART, "NotAllowedByListeners"),
    ] {
        let resolved = with_places(&route(kind, id, &format!("parentRefs: [{parent}], {rest}")));
        let key = format!("{kind} {id}");
        assert_eq!(told(&resolved, &key)[0], format!("!Accepted={reason}"), "{kind} {parent}");
        assert!(message(&resolved, &key, "Accepted").starts_with("shop.yaml:"));
        assert!(resolved.resources.streams.is_empty() && attached(&resolved).is_empty(), "{kind} {parent}");
    }
}

const PAY: &str = "
apiVersion: v1
kind: Service
metadata: {name: card, namespace: pay}
spec:
  ports: [{name: tcp, port: 70}, {name: dns, port: 53, protocol: UDP}]
---
";

fn grant(kind: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {{name: g, namespace: pay}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: shop}}]
  to: [{{group: '', kind: Service}}]
---
"
    )
}

#[test]
fn a_backend_that_cannot_be_used_keeps_its_weight_and_the_rest_of_the_route_works() {
    use InvalidRef::{BackendNotFound, InvalidKind, RefNotPermitted, UnsupportedProtocol};
    let card = "namespace: pay, name: card, port: 70";
    for (backend, more, expected) in [
        ("name: nothing, port: 80", "", Err(BackendNotFound)),
        ("name: cart, port: 99", "", Err(BackendNotFound)),
        ("kind: Carrot, group: example.com, name: cart, port: 80", "", Err(InvalidKind)),
        (card, "", Err(RefNotPermitted)),
        (card, "HTTPRoute", Err(RefNotPermitted)),
        (card, "TCPRoute", Ok(())),
        ("namespace: pay, name: card, port: 53", "TCPRoute", Err(UnsupportedProtocol)),
        // What is spoken inside a connection is nobody's business here.
        ("name: cart, port: 82", "", Ok(())),
    ] {
        let rules = format!("rules: [{{backendRefs: [{{{backend}, weight: 3}}, {{name: cart, port: 80}}]}}]");
        let spec = format!("parentRefs: [{{name: edge, sectionName: db}}], {rules}");
        let grant = if more.is_empty() { String::new() } else { grant(more) };
        let resolved = with_places(&format!("{PAY}{grant}{}", route("TCPRoute", "shop/r", &spec)));
        let found = &resolved.resources.streams[&(StreamKind::Tcp, name("r"))].rule.backends;
        assert_eq!(found[0].target.as_ref().map(|_| ()).map_err(|why| *why), expected, "{backend}");
        assert_eq!((found[0].weight, found[1].weight, found[1].target.is_ok()), (3, 1, true));
        let refs = match expected {
            Ok(()) => String::from("ResolvedRefs=ResolvedRefs"),
            Err(why) => format!("!ResolvedRefs={why:?}"),
        };
        assert_eq!(told(&resolved, "TCPRoute shop/r"), ["Accepted=Accepted".to_owned(), refs], "{backend}");
    }
}

#[test]
fn of_routes_for_the_same_connections_all_are_accepted_and_the_younger_is_told_whose_they_are() {
    let aged = |kind: &str, id: &str, second: u8, spec: &str| {
        let created = format!("creationTimestamp: '2026-01-01T00:00:0{second}Z', namespace");
        route(kind, id, spec).replace("namespace", &created)
    };
    let tcp = format!("parentRefs: [{{name: edge, sectionName: db}}], {TO_CART}");
    let tls = |hosts: &str| {
        format!("parentRefs: [{{name: edge, sectionName: through}}], hostnames: [{hosts}], {TO_CART}")
    };
    let text = aged("TCPRoute", "shop/a", 2, &tcp)
        + &aged("TCPRoute", "shop/b", 1, &tcp)
        + &aged("TLSRoute", "shop/a", 2, &tls("x.example.com"))
        + &aged("TLSRoute", "shop/b", 1, &tls("x.example.com"))
        + &aged("TLSRoute", "shop/c", 3, &tls("x.example.com, y.example.com"));
    let resolved = with_places(&text);
    assert_eq!(attached(&resolved), ["through=3", "db=2"]);
    for (key, holder) in [
        ("TCPRoute shop/a", "TCPRoute shop/b has them"),
        ("TCPRoute shop/b", ""),
        ("TLSRoute shop/a", "TLSRoute shop/b has them"),
        ("TLSRoute shop/b", ""),
        ("TLSRoute shop/c", ""),
    ] {
        assert_eq!(told(&resolved, key)[0], "Accepted=Accepted");
        let message = message(&resolved, key, "Accepted");
        assert!(message.contains(holder) && message.is_empty() == holder.is_empty(), "{key}: {message}");
    }
}
