//! Services of every form: what can be called, and what can be a parent.

use super::*;
use crate::model::{Declared, ProxyProtocol};

fn of(spec: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: pay, namespace: shop}}
spec: {{ports: [{{name: http, port: 80, targetPort: 8080}}], {spec}}}
---
"
    )
}

fn slices(endpoints: &[&str]) -> String {
    let slice = |(at, endpoints): (usize, &&str)| {
        slice(&format!("s{at}"), "http", endpoints).replace("service-name: cart", "service-name: pay")
    };
    endpoints.iter().enumerate().map(slice).collect()
}

fn found(text: &str) -> Vec<String> {
    let resolved = resolve(&objects(text));
    let endpoints = &resolved.resources.endpoints[&service_name("pay", 80)].endpoints;
    endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn a_headless_service_and_one_without_selector_have_the_endpoints_of_their_slices() {
    let two = slices(&["{addresses: [10.0.0.1]}", "{addresses: [10.0.0.2, 10.0.0.9]}"]);
    for spec in ["clusterIP: None", "clusterIP: 10.96.0.7", "selector: {app: pay}", "type: LoadBalancer"] {
        assert_eq!(found(&(of(spec) + &two)), ["10.0.0.1:8080", "10.0.0.2:8080"], "{spec}");
    }
}

#[test]
fn the_addresses_of_a_service_are_known_and_a_headless_one_has_none() {
    for (spec, expected) in [
        ("clusterIP: None", &[][..]),
        ("clusterIP: ''", &[]),
        ("clusterIP: 10.96.0.7", &["10.96.0.7"]),
        ("clusterIP: 127.0.0.9, clusterIPs: [127.0.0.9, 'fd00::7']", &["127.0.0.9", "fd00::7"]),
    ] {
        let resolved = resolve(&objects(&of(spec)));
        let backend = &resolved.resources.backends[&service_name("pay", 80)];
        let addresses: Vec<_> = backend.cluster_ips.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, expected, "{spec}");
    }
    let parsed = parse(&Arc::from("shop.yaml"), &of("clusterIP: nowhere"));
    let told = parsed.diagnostics[0].to_string();
    assert!(told.contains("`nowhere` is neither an IP address nor `None`"), "{told}");
}

#[test]
fn only_ready_endpoints_are_called_and_terminating_ones_where_none_is_ready() {
    let ready = "{addresses: [10.0.0.1], conditions: {ready: true}}";
    let unknown = "{addresses: [10.0.0.2]}";
    let unready = "{addresses: [10.0.0.3], conditions: {ready: false}}";
    let leaving = "{addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}";
    let gone = "{addresses: [10.0.0.5], conditions: {ready: false, serving: false, terminating: true}}";
    for (endpoints, expected) in [
        (vec![ready, unknown, unready, leaving, gone], vec!["10.0.0.1:8080", "10.0.0.2:8080"]),
        (vec![unready, leaving, gone], vec!["10.0.0.4:8080"]),
        (vec![unready, gone], vec![]),
    ] {
        assert_eq!(found(&(of("clusterIP: None") + &slices(&endpoints))), expected, "{endpoints:?}");
    }
}

#[test]
fn an_app_protocol_says_what_is_spoken_and_one_that_is_not_spoken_fails_its_share() {
    for (protocol, expected) in [
        ("", Some(AppProtocol::Http1)),
        ("http", Some(AppProtocol::Http1)),
        ("HTTP", Some(AppProtocol::Http1)),
        ("kubernetes.io/ws", Some(AppProtocol::Http1)),
        ("kubernetes.io/h2c", Some(AppProtocol::H2c)),
        ("grpc", Some(AppProtocol::H2c)),
        ("kubernetes.io/wss", None),
        ("https", None),
        ("example.com/carrot", None),
    ] {
        let service =
            of("clusterIP: None").replace("targetPort: 8080", &format!("appProtocol: '{protocol}'"));
        let route = http_route("shop", "{name: gw}", "  rules: [{backendRefs: [{name: pay, port: 80}]}]");
        let resolved = with_cart(&(route + "---" + &service));
        let target = &resolved.resources.routes[&(RouteKind::Http, name("r"))].rules[0].backends[0].target;
        match expected {
            Some(expected) => {
                assert_eq!(*target, Ok(service_name("pay", 80)), "{protocol}");
                let backend = &resolved.resources.backends[&service_name("pay", 80)];
                assert_eq!(backend.protocol, expected, "{protocol}");
            }
            None => {
                assert_eq!(*target, Err(InvalidRef::UnsupportedProtocol), "{protocol}");
                assert_eq!(told(&resolved, "HTTPRoute shop/r")[1], "!ResolvedRefs=UnsupportedProtocol");
            }
        }
    }
}

#[test]
fn an_external_name_is_refused_as_service_backend_and_parent() {
    let service = of("type: ExternalName, externalName: example.com");
    let route = http_route("shop", "{name: gw}", "  rules: [{backendRefs: [{name: pay, port: 80}]}]");
    let resolved = with_cart(&(route + "---" + &service));
    assert_eq!(told(&resolved, "Service shop/pay"), ["!Accepted=UnsupportedValue"]);
    assert_eq!(told(&resolved, "HTTPRoute shop/r"), ["Accepted=Accepted", "!ResolvedRefs=InvalidKind"]);
    let message = message(&resolved, "HTTPRoute shop/r", "ResolvedRefs");
    assert!(message.contains("write a Backend with the address `example.com`"), "{message}");
    assert!(!resolved.resources.backends.contains_key(&service_name("pay", 80)));
}

#[test]
fn a_service_without_an_address_of_its_own_cannot_be_a_parent() {
    for (spec, expected) in [
        ("type: ExternalName, externalName: example.com", "!Accepted=UnsupportedValue"),
        ("clusterIP: None", "!Accepted=UnsupportedValue"),
        ("clusterIP: 10.96.0.7", "Accepted=Accepted"),
        // In files a Service need not say its address.
        ("type: ClusterIP", "Accepted=Accepted"),
    ] {
        let route = http_route("shop", "{kind: Service, group: '', name: pay}", &to_cart(""));
        let resolved = with_cart(&(route + "---" + &of(spec)));
        assert_eq!(told(&resolved, "HTTPRoute shop/r")[0], expected, "{spec}");
    }
}

#[test]
fn a_parent_port_and_name_must_both_be_those_of_one_port() {
    for (parent, port) in [
        ("port: 80", Some(80)),
        ("sectionName: grpc", Some(81)),
        ("sectionName: grpc, port: 81", Some(81)),
        ("sectionName: grpc, port: 80", None),
        ("sectionName: udp", None),
        ("port: 9", None),
    ] {
        let parent = format!("{{kind: Service, group: '', name: cart, {parent}}}");
        let resolved = with_cart(&http_route("shop", &parent, &to_cart("")));
        let attached =
            resolved.resources.routes.get(&(RouteKind::Http, name("r"))).map(|route| route.parents.clone());
        let expected =
            port.map(|port| vec![RouteParent::Service { service: name("cart"), port: Some(port) }]);
        assert_eq!(attached, expected, "{parent}");
        if port.is_none() {
            assert_eq!(told(&resolved, "HTTPRoute shop/r")[0], "!Accepted=NoMatchingParent", "{parent}");
        }
    }
}

#[test]
fn what_clients_of_a_port_send_is_what_its_app_protocol_says() {
    for (written, expected) in [
        ("", Declared::Nothing),
        ("appProtocol: ''", Declared::Nothing),
        ("appProtocol: http", Declared::Http),
        ("appProtocol: kubernetes.io/h2c", Declared::Http),
        ("appProtocol: kubernetes.io/ws", Declared::Http),
        ("appProtocol: https", Declared::Other),
        ("appProtocol: mysql", Declared::Other),
        ("appProtocol: example.com/anything", Declared::Other),
    ] {
        let text =
            of("clusterIP: 10.96.0.7").replace("targetPort: 8080", &format!("targetPort: 8080, {written}"));
        let resolved = resolve(&objects(&text));
        assert_eq!(resolved.resources.backends[&service_name("pay", 80)].declared, expected, "{written}");
    }
}

#[test]
fn hostnames_of_a_mesh_route_are_not_asked() {
    let parent = "{name: cart, kind: Service, group: ''}";
    let hostnames = "  hostnames: [nobody.example]\n".to_owned();
    let resolved = with_cart(&http_route("shop", parent, &(hostnames + &to_cart(""))));
    assert_eq!(told(&resolved, "HTTPRoute shop/r")[0], "Accepted=Accepted");
    let route = &resolved.resources.routes[&(RouteKind::Http, name("r"))];
    assert_eq!(route.parents, [RouteParent::Service { service: name("cart"), port: None }]);
}

#[test]
fn an_annotation_of_a_service_and_a_field_of_a_backend_say_how_connections_begin() {
    let annotated = |version: &str| {
        let metadata = format!("annotations: {{tidegate.io/proxy-protocol: {version}}}, name: pay,");
        let service = of("selector: {app: pay}").replace("name: pay,", &metadata);
        let resolved = resolve(&objects(&service));
        resolved.resources.backends[&service_name("pay", 80)].proxy_protocol
    };
    assert_eq!(annotated("V1"), Some(ProxyProtocol::V1));
    assert_eq!(annotated("V2"), Some(ProxyProtocol::V2));
    let backend = "
apiVersion: tidegate.io/v1alpha1
kind: Backend
metadata: {name: far, namespace: shop}
spec: {endpoints: [{address: 10.0.0.1, port: 80}], proxyProtocol: V2}
---
";
    let resolved = resolve(&objects(&(of("selector: {app: pay}") + backend)));
    let told: Vec<_> = resolved.resources.backends.values().map(|backend| backend.proxy_protocol).collect();
    assert_eq!(told, [None, Some(ProxyProtocol::V2)]);
}
