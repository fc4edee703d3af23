use std::sync::Arc;

use http::request;

use super::*;
use crate::model::fixture::*;
use crate::model::{Backend, BackendKind, Declared, InvalidRef, Resource, Route, RouteParent};

const GATEWAY: Scope = Scope::Gateway(BindAddress { ip: None, port: 8080 });

fn head(method: &str, uri: &str, host: &str) -> request::Parts {
    let request = http::Request::builder().method(method).uri(uri).header("host", host);
    request.body(()).unwrap().into_parts().0
}

fn local() -> Local {
    Local { namespace: "shop".into(), ..Local::default() }
}

fn build(resources: &Resources) -> Snapshot {
    let (snapshot, rejected) = Snapshot::build(resources, &local(), &StateStore::new([0, 0]));
    assert_eq!(rejected, []);
    snapshot
}

/// `route/rule`, or the reason.
fn routed(snapshot: &Snapshot, scope: Scope, host: &str, uri: &str) -> String {
    let selected = snapshot.route(scope, &head("GET", uri, host), &mut fastrand::Rng::with_seed(7));
    match selected {
        Ok(s) => format!("{}#{}", s.rule.route.as_deref().unwrap_or("-"), s.rule.name),
        Err(reason) => reason.flag().to_owned(),
    }
}

fn simple(name: &str, parent: RouteParent, matches: &[&str]) -> Route {
    route(name, vec![parent], vec![rule("r", matches, vec![to("cart", 1)])])
}

#[test]
fn a_request_belongs_to_the_most_specific_listener_and_never_falls_to_another() {
    let mut all = vec![
        Resource::Listener(listener("gw", "any", "")),
        Resource::Listener(listener("gw", "wild", "*.example.com")),
        Resource::Listener(listener("gw", "exact", "a.example.com")),
        Resource::Route(simple("any", on_listener("gw", "any", &[""]), &["/"])),
        Resource::Route(simple("wild", on_listener("gw", "wild", &["*.example.com"]), &["/wild"])),
        Resource::Route(simple("exact", on_listener("gw", "exact", &["a.example.com"]), &["/exact"])),
    ];
    all.extend(service("cart", 80, &[9001]));
    let snapshot = build(&resources(all));
    for (host, path, want) in [
        ("a.example.com", "/exact", "shop/exact#r"),
        ("A.EXAMPLE.com:8080", "/exact", "shop/exact#r"),
        ("a.example.com", "/wild", "no_route"),
        ("b.example.com", "/wild", "shop/wild#r"),
        ("b.example.com", "/other", "no_route"),
        ("example.com", "/other", "shop/any#r"),
        ("other.org", "/", "shop/any#r"),
    ] {
        assert_eq!(routed(&snapshot, GATEWAY, host, path), want, "{host}{path}");
    }
    assert_eq!(snapshot.binds(), [BindAddress { ip: None, port: 8080 }]);
}

#[test]
fn within_a_listener_a_host_without_a_matching_rule_falls_back_to_a_less_specific_one() {
    let snapshot = build(&resources([
        Resource::Listener(listener("gw", "any", "")),
        Resource::Route(simple("exact", on_listener("gw", "any", &["a.example.com"]), &["/exact"])),
        Resource::Route(simple("wild", on_listener("gw", "any", &["*.example.com"]), &["/"])),
    ]));
    assert_eq!(routed(&snapshot, GATEWAY, "a.example.com", "/exact/x"), "shop/exact#r");
    assert_eq!(routed(&snapshot, GATEWAY, "a.example.com", "/x"), "shop/wild#r");
}

#[test]
fn no_encoding_of_a_path_decides_which_rule_it_meets() {
    let mut all = vec![
        Resource::Listener(listener("gw", "any", "")),
        Resource::Route(simple("all", on_listener("gw", "any", &[""]), &["/"])),
        Resource::Route(simple("admin", on_listener("gw", "any", &[""]), &["/admin"])),
        Resource::Route(simple("exact", on_listener("gw", "any", &[""]), &["=/v1/x:publish"])),
    ];
    all.extend(service("cart", 80, &[9001]));
    let snapshot = build(&resources(all));
    for (path, want) in [
        ("/admin%2Fusers", "bad_request"),
        ("/%2Fadmin", "bad_request"),
        ("/admin%5Cusers", "bad_request"),
        ("/v1/x%3Apublish", "bad_request"),
        // However it is read, the same policies apply.
        ("/admin/a%2Fb", "shop/admin#r"),
        ("/@scope%2Fname", "shop/all#r"),
        ("/administrator%2Fx", "shop/all#r"),
        ("/admin%20x", "shop/all#r"),
        ("/admin;v=1", "shop/all#r"),
    ] {
        assert_eq!(routed(&snapshot, GATEWAY, "a", path), want, "{path}");
    }
}

#[test]
fn a_gateway_request_without_host_is_a_bad_request_and_an_unknown_socket_has_no_route() {
    let snapshot = build(&resources([Resource::Listener(listener("gw", "any", ""))]));
    let bare = http::Request::builder().uri("/").body(()).unwrap().into_parts().0;
    let mut rng = fastrand::Rng::with_seed(1);
    assert_eq!(snapshot.route(GATEWAY, &bare, &mut rng).unwrap_err(), Reason::BadRequest);
    assert_eq!(snapshot.route(Scope::Outbound, &bare, &mut rng).unwrap_err(), Reason::BadRequest);
    let elsewhere = Scope::Gateway(BindAddress { ip: None, port: 1 });
    assert_eq!(routed(&snapshot, elsewhere, "a", "/"), "no_route");
}

#[test]
fn an_application_names_a_service_in_four_ways_with_or_without_port() {
    let mut all = Vec::from(service("cart", 80, &[9001]));
    all.extend(service("other/pay", 8443, &[9002]));
    all.extend(service("two", 81, &[9003]));
    all.extend(service("two", 82, &[9004]));
    let snapshot = build(&resources(all));
    let target = |host: &str| {
        let selected =
            snapshot.route(Scope::Outbound, &head("GET", "/", host), &mut fastrand::Rng::with_seed(1));
        selected.map(|s| s.target().backend.as_ref().unwrap().label.to_string())
    };
    for host in ["cart", "cart:80", "CART.shop", "cart.shop.svc", "cart.shop.svc.cluster.local."] {
        assert_eq!(target(host).as_deref(), Ok("shop/cart:80"), "{host}");
    }
    assert_eq!(target("pay.other").as_deref(), Ok("other/pay:8443"));
    for host in ["pay", "cart:81", "two", "nobody"] {
        assert_eq!(target(host), Err(Reason::NoRoute), "{host}");
    }
}

#[test]
fn a_services_routes_replace_the_direct_way_and_consumer_routes_replace_producer_routes() {
    let parent = |port| RouteParent::Service { service: name("cart"), port };
    let mut all = Vec::from(service("cart", 80, &[9001]));
    all.extend(service("cart", 81, &[9001]));
    all.push(Resource::Route(simple("shop/producer", parent(Some(80)), &["/a"])));
    let snapshot = build(&resources(all.clone()));
    assert_eq!(routed(&snapshot, Scope::Outbound, "cart", "/a"), "shop/producer#r");
    assert_eq!(routed(&snapshot, Scope::Outbound, "cart", "/b"), "no_route");
    assert_eq!(routed(&snapshot, Scope::Outbound, "cart:81", "/b"), "-#default");

    all.push(Resource::Route(simple("web/consumer", parent(None), &["/b"])));
    let web = Local { namespace: "web".into(), ..Local::default() };
    let (theirs, _) = Snapshot::build(&resources(all.clone()), &web, &StateStore::new([0, 0]));
    assert_eq!(routed(&theirs, Scope::Outbound, "cart.shop", "/a"), "no_route");
    assert_eq!(routed(&theirs, Scope::Outbound, "cart.shop", "/b"), "web/consumer#r");
    let ours = build(&resources(all));
    assert_eq!(routed(&ours, Scope::Outbound, "cart", "/a"), "shop/producer#r");
    assert_eq!(routed(&ours, Scope::Outbound, "cart", "/b"), "no_route");
}

#[test]
fn a_known_destination_decides_and_not_the_host() {
    let at = |ip: &str, port: u16| Scope::OutboundTo(SocketAddr::new(ip.parse().unwrap(), port));
    let parent = |port| RouteParent::Service { service: name("cart"), port };
    let mut all = Vec::new();
    for (service_name, port, ip) in
        [("cart", 80, "10.96.0.1"), ("cart", 81, "10.96.0.1"), ("pay", 80, "fd00::2")]
    {
        for mut resource in service(service_name, port, &[9001]) {
            if let Resource::Backend(backend) = &mut resource {
                backend.cluster_ips = vec![ip.parse().unwrap()];
            }
            all.push(resource);
        }
    }
    all.push(Resource::Route(simple("routed", parent(Some(80)), &["/a"])));
    let snapshot = build(&resources(all));
    for (scope, host, path, want) in [
        (at("10.96.0.1", 80), "cart", "/a", "shop/routed#r"),
        (at("10.96.0.1", 80), "pay", "/a", "shop/routed#r"),
        (at("10.96.0.1", 80), "example.com:8443", "/a", "shop/routed#r"),
        (at("10.96.0.1", 80), "cart", "/b", "no_route"),
        (at("10.96.0.1", 81), "cart", "/b", "-#default"),
        (at("fd00::2", 80), "cart", "/a", "-#default"),
    ] {
        assert_eq!(routed(&snapshot, scope, host, path), want, "{scope:?} {host}{path}");
    }
    let serves = |ip: &str, port| snapshot.serves(SocketAddr::new(ip.parse().unwrap(), port));
    assert!(serves("10.96.0.1", 80) && serves("fd00::2", 80));
    assert!(
        !serves("10.96.0.1", 82) && !serves("10.96.0.9", 80),
        "neither a port nor an address of any Service"
    );
}

#[test]
fn what_clients_send_is_declared_or_has_to_be_found_out() {
    use crate::model::{BackendTls, Declared::*, PolicyRef, Verification};
    let parent = RouteParent::Service { service: name("cart"), port: Some(81) };
    let verified = |hostname: &str| BackendTls {
        policy: PolicyRef { kind: "BackendTLSPolicy".into(), name: name("cart"), source: source(1) },
        verification: Verification { trust: None, hostname: hostname.into(), alt_names: Vec::new() },
    };
    for (declared, tls, expected) in [
        (Nothing, None, Expected::Anything),
        (Http, None, Expected::Http),
        (Other, None, Expected::Opaque),
        (Nothing, Some("cart.example"), Expected::HttpOrTls),
        (Other, Some("cart.example"), Expected::HttpOrTls),
    ] {
        let mut all = Vec::from(service("cart", 80, &[9001]));
        all.extend(service("cart", 81, &[9001]));
        for resource in &mut all {
            if let Resource::Backend(backend) = resource {
                backend.cluster_ips = vec!["10.96.0.1".parse().unwrap()];
                (backend.declared, backend.tls) = (declared, tls.map(verified));
            }
        }
        all.push(Resource::Route(simple("routed", parent.clone(), &["/"])));
        let snapshot = build(&resources(all));
        let at = |port| snapshot.expected(SocketAddr::new("10.96.0.1".parse().unwrap(), port));
        assert_eq!(at(80), expected, "{declared:?} {tls:?}");
        assert_eq!(at(81), Expected::Http, "routes are for HTTP");
        assert_eq!(at(82), Expected::Anything, "no port of the Service");
        assert!(snapshot.stream("10.96.0.1:81".parse().unwrap()).is_err());
    }
}

#[test]
fn what_is_no_services_goes_to_the_address_itself() {
    let selected = Selected::passthrough("192.0.2.7:8080".parse().unwrap(), AppProtocol::H2c);
    let backend = selected.target().backend.as_ref().unwrap();
    let endpoints: Vec<_> = backend.endpoints.iter().map(|endpoint| &*endpoint.label).collect();
    assert_eq!((endpoints, backend.protocol), (vec!["192.0.2.7:8080"], AppProtocol::H2c));
    assert!(selected.target().filters.is_empty() && selected.rule.route.is_none());
}

#[test]
fn targets_get_their_weights_share_and_an_invalid_one_keeps_its_own() {
    let broken = crate::model::BackendRef { target: Err(InvalidRef::BackendNotFound), ..to("gone", 30) };
    let backends = vec![to("v1", 60), broken, to("v2", 10), to("v3", 0)];
    let mut all = vec![
        Resource::Listener(listener("gw", "any", "")),
        Resource::Route(route(
            "split",
            vec![on_listener("gw", "any", &[""])],
            vec![rule("r", &["/"], backends)],
        )),
    ];
    for version in ["v1", "v2", "v3"] {
        all.extend(service(version, 80, &[9001]));
    }
    let snapshot = build(&resources(all));
    let mut rng = fastrand::Rng::with_seed(42);
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..10_000 {
        let selected = snapshot.route(GATEWAY, &head("GET", "/", "a"), &mut rng).unwrap();
        let label = match &selected.target().backend {
            Ok(backend) => backend.label.to_string(),
            Err(reason) => reason.flag().to_owned(),
        };
        *counts.entry(label).or_default() += 1;
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["invalid_backend", "shop/v1:80", "shop/v2:80"]);
    for (label, share) in [("shop/v1:80", 6000), ("invalid_backend", 3000), ("shop/v2:80", 1000)] {
        assert!(counts[label].abs_diff(share) < 200, "{counts:?}");
    }
}

#[test]
fn weights_are_exact_at_their_edges() {
    let backends = vec![to("none", 0), to("one", 1), to("nothing", 0), to("other", 1), to("last", 0)];
    let resources = resources([
        Resource::Listener(listener("gw", "any", "")),
        Resource::Route(route(
            "split",
            vec![on_listener("gw", "any", &[""])],
            vec![rule("r", &["/"], backends)],
        )),
    ]);
    let snapshot = build(&resources);
    let mut rng = fastrand::Rng::with_seed(3);
    let picked = |_| snapshot.route(GATEWAY, &head("GET", "/", "a"), &mut rng).unwrap().target;
    let picked: std::collections::BTreeSet<_> = (0..100).map(picked).collect();
    assert_eq!(picked, [1, 3].into());
}

#[test]
fn a_backend_is_called_by_its_name_whatever_the_port_and_yields_a_shared_name_to_the_service() {
    let mut all = Vec::from(service("cart", 80, &[9001]));
    for object in ["cart", "paypal"] {
        let name = BackendName { kind: BackendKind::Backend, object: name(object), port: 8443 };
        let (source, protocol) = (source(1), AppProtocol::H2c);
        all.push(Resource::Backend(Backend {
            cluster_ips: Vec::new(),
            tls: None,
            declared: Declared::Http,
            name,
            source,
            port_name: None,
            protocol,
            connect_timeout: None,
            proxy_protocol: None,
        }));
    }
    let snapshot = build(&resources(all));
    let target = |host: &str| {
        let selected =
            snapshot.route(Scope::Outbound, &head("GET", "/", host), &mut fastrand::Rng::with_seed(1));
        selected.map(|s| s.target().backend.as_ref().unwrap().label.to_string())
    };
    for host in ["paypal", "paypal.shop", "paypal:1"] {
        assert_eq!(target(host).as_deref(), Ok("backend:shop/paypal:8443"), "{host}");
    }
    assert_eq!(target("cart").as_deref(), Ok("shop/cart:80"));
}

#[test]
fn no_targets_or_only_zero_weights_is_no_backend() {
    let leading_to = |backends| {
        build(&resources([
            Resource::Listener(listener("gw", "any", "")),
            Resource::Route(route(
                "r",
                vec![on_listener("gw", "any", &[""])],
                vec![rule("r", &["/"], backends)],
            )),
        ]))
    };
    // Its filters may still answer, so that there is a target, to nowhere.
    for backends in [vec![], vec![to("cart", 0)], vec![to("cart", 0), to("pay", 0)]] {
        let rng = &mut fastrand::Rng::with_seed(7);
        let selected = leading_to(backends).route(GATEWAY, &head("GET", "/", "a"), rng).unwrap();
        assert_eq!(selected.target().backend.as_ref().err(), Some(&Reason::NoBackend));
    }
}

#[test]
fn inbound_leads_to_the_app_whatever_the_host() {
    let app = Some(("127.0.0.1:3000".parse().unwrap(), AppProtocol::Http1));
    let local = Local { services: vec![name("cart")], app, ..local() };
    let (snapshot, rejected) = Snapshot::build(&Resources::default(), &local, &StateStore::new([0, 0]));
    assert_eq!(rejected, []);
    let bare = http::Request::builder().uri("/").body(()).unwrap().into_parts().0;
    let selected = snapshot.route(Scope::Inbound, &bare, &mut fastrand::Rng::with_seed(1)).unwrap();
    let backend = selected.target().backend.clone().unwrap();
    assert_eq!((&*backend.label, &*backend.endpoints[0].label), ("app", "127.0.0.1:3000"));
    assert_eq!(backend.name.object, name("cart"));
    assert_eq!(routed(&build(&Resources::default()), Scope::Inbound, "a", "/"), "no_route");
}

#[test]
fn a_push_that_changes_one_route_keeps_the_state_of_every_endpoint() {
    let state = StateStore::new([0, 0]);
    let mut resources = resources(service("cart", 80, &[9001, 9002]));
    let (before, _) = Snapshot::build(&resources, &local(), &state);
    let parent = RouteParent::Service { service: name("cart"), port: None };
    resources.insert(Resource::Route(simple("new", parent, &["/"])));
    service("cart", 80, &[9002, 9003]).into_iter().for_each(|r| resources.insert(r));
    let (after, _) = Snapshot::build(&resources, &local(), &state);
    let endpoints = |s: &Snapshot| s.backends().next().unwrap().endpoints.to_vec();
    let (before, after) = (endpoints(&before), endpoints(&after));
    assert!(Arc::ptr_eq(&before[1], &after[0]));
    assert_eq!(&*after[1].label, "127.0.0.1:9003");
}

#[test]
fn a_renamed_gateway_takes_over_with_its_route_and_nothing_is_rejected() {
    let (old, new) = (listener("b", "http", "x.example"), |name| listener(name, "http", "x.example"));
    for renamed in ["a", "c"] {
        let both = [Resource::Listener(old.clone()), Resource::Listener(new(renamed))];
        for holder in ["b", renamed] {
            let parent = on_listener(holder, "http", &["x.example"]);
            let route = Resource::Route(simple("r", parent, &["/"]));
            let snapshot = build(&resources(both.iter().cloned().chain([route])));
            assert_eq!(routed(&snapshot, GATEWAY, "x.example", "/"), "shop/r#r", "{holder} of b, {renamed}");
        }
    }
}

#[test]
fn a_socket_has_routes_once_one_of_its_listeners_has() {
    let bind = BindAddress { ip: None, port: 8080 };
    let mut all = vec![
        Resource::Listener(listener("gw", "any", "")),
        Resource::Listener(listener("gw", "exact", "a.example.com")),
    ];
    assert!(!build(&resources(all.clone())).has_routes(bind));
    all.push(Resource::Route(simple("exact", on_listener("gw", "exact", &["a.example.com"]), &["/"])));
    assert!(build(&resources(all)).has_routes(bind));
}

#[test]
fn an_unknown_policy_kind_is_rejected_and_everything_else_is_built() {
    let mut resources = resources(service("cart", 80, &[9001]));
    let odd = policy("OddPolicy", "odd", vec![], serde_json::json!({}));
    resources.insert(Resource::Policy(odd));
    let (snapshot, rejected) = Snapshot::build(&resources, &local(), &StateStore::new([0, 0]));
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].name, "OddPolicy/shop/odd");
    assert_eq!(routed(&snapshot, Scope::Outbound, "cart", "/"), "-#default");
}

#[test]
fn a_consumer_route_for_one_port_leaves_the_other_ports_to_the_producer() {
    let to_port = |port| RouteParent::Service { service: name("cart"), port };
    let mut all = vec![
        Resource::Route(simple("producer", to_port(None), &["/p"])),
        Resource::Route(simple("web/consumer", to_port(Some(80)), &["/c"])),
        Resource::Route(simple("web/other", to_port(Some(80)), &["/d"])),
        Resource::Route(simple("third/consumer", to_port(None), &["/p"])),
    ];
    all.extend(service("cart", 80, &[9001]));
    all.extend(service("cart", 81, &[9001]));
    let local = Local { namespace: "web".into(), ..Local::default() };
    let (snapshot, _) = Snapshot::build(&resources(all), &local, &StateStore::new([0, 0]));
    for (host, path, want) in [
        ("cart.shop:80", "/c", "web/consumer#r"),
        ("cart.shop:80", "/d", "web/other#r"),
        ("cart.shop:80", "/p", "no_route"),
        ("cart.shop:81", "/p", "shop/producer#r"),
        ("cart.shop:81", "/c", "no_route"),
    ] {
        assert_eq!(routed(&snapshot, Scope::Outbound, host, path), want, "{host}{path}");
    }
}

#[test]
fn a_service_may_be_called_by_its_cluster_address() {
    let mut all = vec![Resource::Route(simple(
        "producer",
        RouteParent::Service { service: name("cart"), port: Some(80) },
        &["/a"],
    ))];
    for port in [80, 81] {
        let [Resource::Backend(mut backend), endpoints] = service("cart", port, &[9001]) else {
            unreachable!()
        };
        backend.cluster_ips = vec!["10.96.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        all.extend([Resource::Backend(backend), endpoints]);
    }
    let snapshot = build(&resources(all));
    for (host, path, want) in [
        ("10.96.0.7", "/a", "shop/producer#r"),
        ("10.96.0.7:80", "/b", "no_route"),
        ("[fd00::7]:81", "/b", "-#default"),
        ("10.96.0.7:82", "/a", "no_route"),
        ("10.96.0.8:80", "/a", "no_route"),
    ] {
        assert_eq!(routed(&snapshot, Scope::Outbound, host, path), want, "{host}{path}");
    }
}
