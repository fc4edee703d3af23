//! Listeners of Gateways: which can be served beside each other, and what their status says.

use super::*;

fn edge(name: &str, created: &str, addresses: &str, listeners: &str) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: shop, creationTimestamp: '2026-01-0{created}T00:00:00Z'}}
spec:
  gatewayClassName: tidegate
  addresses: [{addresses}]
  listeners: [{listeners}]
---
"
    )
}

fn served(resolved: &Resolved) -> Vec<String> {
    resolved.resources.listeners.keys().map(ListenerName::to_string).collect()
}

/// `listener: type=reason …`, with `!` before what does not hold.
fn listeners(resolved: &Resolved, gateway: &str) -> Vec<String> {
    let word = |c: &Condition| format!(" {}{}={}", if c.holds { "" } else { "!" }, c.kind, c.reason);
    let line =
        |l: &ListenerStatus| format!("{}:{}", l.name, l.conditions.iter().map(word).collect::<String>());
    resolved.listeners[&key("Gateway", &name(gateway))].iter().map(line).collect()
}

const FINE: &str = " Accepted=Accepted !Conflicted=NoConflicts ResolvedRefs=ResolvedRefs";

#[test]
fn gateways_share_a_port_unless_address_and_hostname_are_the_same() {
    let (any, one, two) = ("", "{value: 127.0.0.1}", "{value: 127.0.0.2}");
    let both = "{value: 127.0.0.1}, {value: 127.0.0.2}";
    let http = |host: &str| format!("{{name: l, port: 80, protocol: HTTP{host}}}");
    for (first, second, rivals) in [
        ((any, ""), (any, ""), true),
        ((any, ""), (any, ", hostname: a.org"), false),
        ((any, ", hostname: a.org"), (any, ", hostname: a.org"), true),
        ((any, ", hostname: '*.a.org'"), (any, ", hostname: b.a.org"), false),
        ((one, ""), (two, ""), false),
        ((one, ""), (one, ""), true),
        ((both, ""), (two, ""), true),
    ] {
        let text = edge("young", "2", first.0, &http(first.1)) + &edge("old", "1", second.0, &http(second.1));
        let resolved = resolve(&objects(&text));
        let expected = if rivals { vec!["shop/old/l"] } else { vec!["shop/old/l", "shop/young/l"] };
        assert_eq!(served(&resolved), expected, "{first:?} {second:?}");
        let young = if rivals {
            "l: !Accepted=HostnameConflict Conflicted=HostnameConflict ResolvedRefs=ResolvedRefs".to_owned()
        } else {
            format!("l:{FINE}")
        };
        assert_eq!(listeners(&resolved, "young"), [young], "{first:?} {second:?}");
        assert_eq!(listeners(&resolved, "old"), [format!("l:{FINE}")]);
    }
}

#[test]
fn other_ports_are_other_places() {
    let text = edge("a", "1", "", "{name: l, port: 80, protocol: HTTP}, {name: m, port: 81, protocol: HTTP}");
    assert_eq!(served(&resolve(&objects(&text))), ["shop/a/l", "shop/a/m"]);
}

/// What the check of documents sees by itself still reaches `resolve` from elsewhere.
fn with(text: &str, changes: &[(ListenerProtocol, &str)]) -> Vec<Object> {
    let mut objects = objects(text);
    if let Some(Object::Gateway(gateway)) = objects.first_mut() {
        for (listener, (protocol, host)) in gateway.spec.listeners.iter_mut().zip(changes) {
            listener.protocol = protocol.clone();
            listener.hostname = (*host).to_owned();
        }
    }
    objects
}

#[test]
fn indistinct_listeners_of_one_gateway_are_all_dropped_and_the_others_served() {
    use ListenerProtocol::{Http, Https, Tcp, Tls, Udp};
    for (protocols, hosts, reason) in [
        ([Http, Http], ["a.org", "A.org"], Some("HostnameConflict")),
        ([Http, Https], ["a.org", "b.org"], Some("ProtocolConflict")),
        ([Http, Tls], ["a.org", "b.org"], Some("ProtocolConflict")),
        ([Http, Tcp], ["a.org", "b.org"], Some("ProtocolConflict")),
        ([Https, Tls], ["a.org", "a.org"], Some("HostnameConflict")),
        ([Https, Tls], ["a.org", "b.org"], None),
        ([Tcp, Tls], ["", "b.org"], Some("ProtocolConflict")),
        ([Tcp, Tcp], ["", ""], Some("PortUnavailable")),
        ([Http, Udp], ["a.org", "a.org"], None),
        ([Tcp, Udp], ["", ""], None),
    ] {
        let listener = |at: usize| format!("{{name: l{at}, port: 80, protocol: HTTP, hostname: h{at}.org}}");
        let own = format!("{}, {}, {{name: other, port: 81, protocol: HTTP}}", listener(0), listener(1));
        let changes: Vec<_> = protocols.clone().into_iter().zip(hosts).collect();
        let objects = with(&edge("a", "1", "", &own), &changes);
        let resolved = resolve(&objects);
        let told = listeners(&resolved, "a");
        for line in &told[..2] {
            let expected = reason.map_or("!Conflicted=NoConflicts".into(), |r| format!(" Conflicted={r}"));
            assert!(line.contains(&expected), "{protocols:?} {line}");
        }
        assert_eq!(told[2], format!("other:{FINE}"));
        assert!(served(&resolved).contains(&String::from("shop/a/other")));
        assert_eq!(super::told(&resolved, "Gateway shop/a")[0], "Accepted=ListenersNotValid");
    }
}

#[test]
fn a_listener_of_a_protocol_that_is_not_spoken_says_so() {
    let text = edge("a", "1", "", "{name: l, port: 80, protocol: HTTP}");
    for protocol in [ListenerProtocol::Udp, ListenerProtocol::from(String::from("example.com/bar"))] {
        let resolved = resolve(&with(&text, &[(protocol, "")]));
        let expected = "l: !Accepted=UnsupportedProtocol !Conflicted=NoConflicts ResolvedRefs=ResolvedRefs";
        assert_eq!(listeners(&resolved, "a"), [expected]);
        assert_eq!(told(&resolved, "Gateway shop/a"), ["!Accepted=ListenersNotValid"]);
        assert!(resolved.listeners[&key("Gateway", &name("a"))][0].supported_kinds.is_empty());
    }
}

#[test]
fn unknown_route_kinds_are_told_and_the_known_rest_works() {
    let group = "gateway.networking.k8s.io";
    let none: &[&str] = &[];
    for (kinds, supported, complaint, attached) in [
        ("", &["HTTPRoute", "GRPCRoute"][..], false, 1),
        ("{kind: HTTPRoute}", &["HTTPRoute"], false, 1),
        ("{kind: GRPCRoute}", &["GRPCRoute"], false, 0),
        ("{kind: HTTPRoute}, {kind: CarrotRoute}", &["HTTPRoute"], true, 1),
        ("{kind: CarrotRoute}", none, true, 0),
        ("{kind: HTTPRoute, group: example.com}", none, true, 0),
    ] {
        let own = format!("{{name: l, port: 80, protocol: HTTP, allowedRoutes: {{kinds: [{kinds}]}}}}");
        let text = edge("a", "1", "", &own) + &http_route("shop", "{name: a}", "");
        let resolved = resolve(&objects(&text));
        let status = &resolved.listeners[&key("Gateway", &name("a"))][0];
        let told_kinds: Vec<_> = status.supported_kinds.iter().map(|kind| kind.kind.as_str()).collect();
        assert_eq!((&told_kinds[..], status.attached_routes), (supported, attached), "{kinds}");
        assert!(status.supported_kinds.iter().all(|kind| kind.group == group));
        let expected =
            if complaint { " !ResolvedRefs=InvalidRouteKinds" } else { " ResolvedRefs=ResolvedRefs" };
        assert!(listeners(&resolved, "a")[0].ends_with(expected), "{kinds}");
        let expected = if attached == 1 { "Accepted=Accepted" } else { "!Accepted=NotAllowedByListeners" };
        assert_eq!(told(&resolved, "HTTPRoute shop/r")[0], expected, "{kinds}");
    }
}

#[test]
fn attached_routes_are_counted_once_each_even_where_the_listener_cannot_be_used() {
    let listener =
        "{name: l, port: 80, protocol: HTTP, hostname: '*.a.org'}, {name: m, port: 81, protocol: HTTP}";
    let route = |route: &str, parents: &str, host: &str| {
        http_route("shop", parents, &format!("  hostnames: [{host}]"))
            .replace("name: r,", &format!("name: {route},"))
    };
    let text = edge("a", "2", "", listener)
        + &edge("b", "1", "", "{name: l, port: 80, protocol: HTTP, hostname: '*.a.org'}")
        + &route("both", "{name: a}", "x.a.org")
        + &route("twice", "{name: a, sectionName: l}, {name: a, namespace: shop, port: 80}", "x.a.org")
        + &route("one", "{name: a}", "x.b.org")
        + &route("none", "{name: a, sectionName: l}", "x.b.org");
    let resolved = resolve(&objects(&text));
    let counts: Vec<_> =
        resolved.listeners[&key("Gateway", &name("a"))].iter().map(|l| l.attached_routes).collect();
    assert_eq!(counts, [2, 2]);
    assert!(listeners(&resolved, "a")[0].contains("!Accepted=HostnameConflict"));
    assert_eq!(told(&resolved, "HTTPRoute shop/twice")[0], "Accepted=Accepted");
    assert!(
        !resolved.resources.routes.contains_key(&(RouteKind::Http, name("twice"))),
        "it has nowhere to hold"
    );
    assert_eq!(resolved.resources.routes[&(RouteKind::Http, name("both"))].parents.len(), 1);
}

#[test]
fn each_target_of_a_policy_is_told_of_by_itself() {
    let targets = "{kind: Service, name: cart}, {kind: Service, name: gone}";
    let resolved = with_cart(&(limit("b", targets) + &limit("a", "{kind: Service, name: cart}")));
    let of = |policy: &str| {
        let (_, found) = resolved.ancestors.iter().find(|(key, _)| key.name == policy).unwrap();
        found.iter().map(|a| format!("{} {}", a.target, a.conditions[0].reason)).collect::<Vec<_>>()
    };
    assert_eq!(of("a"), ["Service shop/cart Accepted"]);
    assert_eq!(of("b"), ["Service shop/cart Conflicted", "Service shop/gone TargetNotFound"]);
}

#[test]
fn a_gateway_with_an_address_of_another_type_or_with_parameters_is_not_accepted_and_takes_no_port() {
    let http = "{name: l, port: 80, protocol: HTTP}";
    for (addresses, more, reason) in [
        ("{value: 127.0.0.1}, {type: Hostname, value: a.example}", "", "UnsupportedAddress"),
        ("{type: example.com/pool, value: some}", "", "UnsupportedAddress"),
        ("", "  infrastructure: {parametersRef: {group: g, kind: K, name: n}}\n", "InvalidParameters"),
    ] {
        let refused = edge("old", "1", addresses, http).replace("---", &format!("{more}---"));
        let resolved = resolve(&objects(&(refused + &edge("young", "2", "", http))));
        assert_eq!(told(&resolved, "Gateway shop/old"), [format!("!Accepted={reason}")], "{addresses}");
        assert_eq!(served(&resolved), ["shop/young/l"], "{addresses}");
    }
}

#[test]
fn an_address_without_a_value_stands_for_all_addresses() {
    let text = edge("gw", "1", "{type: IPAddress}", "{name: l, port: 80, protocol: HTTP}");
    let resolved = resolve(&objects(&text));
    let listeners: Vec<_> = resolved.resources.listeners.values().collect();
    assert!(listeners[0].addresses.is_empty());
    assert_eq!(told(&resolved, "Gateway shop/gw"), ["Accepted=Accepted"]);
}
