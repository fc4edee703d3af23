use super::*;
use crate::model::fixture::*;
use crate::model::{
    Accepts, Certificate, HostPattern, InvalidRef, Listener, PrivateKey, Resource, StreamBackend, StreamKind,
    StreamRoute, StreamRule, TargetKind, TlsMode,
};

const BIND: BindAddress = BindAddress { ip: None, port: 8080 };

fn place(section: &str, accepts: Accepts) -> Resource {
    Resource::Listener(Listener { accepts, ..listener("gw", section, "") })
}

fn tls(section: &str, hostname: &str, ends: bool) -> Resource {
    let certificate = Certificate {
        secret: name("cert"),
        chain: b"chain".as_slice().into(),
        key: PrivateKey::new(b"key".as_slice()),
    };
    let mode = if ends { TlsMode::Terminate(vec![certificate]) } else { TlsMode::Passthrough };
    place(section, Accepts::Tls { hostname: HostPattern::parse(hostname).unwrap(), mode })
}

fn stream(
    kind: StreamKind,
    id: &str,
    section: &str,
    hosts: &[&str],
    backends: Vec<StreamBackend>,
) -> StreamRoute {
    let rule = StreamRule { name: None, source: source(3), backends };
    StreamRoute { kind, meta: meta(id), parents: vec![on_listener("gw", section, hosts)], rule }
}

fn to_service(service: &str, weight: u32) -> StreamBackend {
    StreamBackend { target: Ok(service_name(service, 80)), weight }
}

fn tls_route(id: &str, section: &str, hosts: &[&str]) -> Resource {
    Resource::StreamRoute(stream(StreamKind::Tls, id, section, hosts, vec![to_service("cart", 1)]))
}

fn build(all: Vec<Resource>) -> Snapshot {
    let all = all.into_iter().chain(service("cart", 80, &[9001])).chain(service("pay", 80, &[9002]));
    let (snapshot, rejected) = Snapshot::build(&resources(all), &Local::default(), &StateStore::new([0, 0]));
    assert_eq!(rejected, []);
    snapshot
}

/// `route`, with `+tls` where TLS ends here; `requests`, or the reason.
fn routed(snapshot: &Snapshot, name: &str) -> String {
    let name = Some(name).filter(|name| !name.is_empty());
    match snapshot.connection(BIND, name, &mut fastrand::Rng::with_seed(7)) {
        Ok(Arrival::Requests) => String::from("requests"),
        Ok(Arrival::Stream { selected, ends_tls }) => {
            let route = selected.rule.route.as_deref().unwrap_or("-").to_owned();
            if ends_tls { route + "+tls" } else { route }
        }
        Err(reason) => reason.flag().to_owned(),
    }
}

#[test]
fn a_server_name_belongs_to_the_most_specific_listener_and_in_it_to_the_most_specific_route() {
    let https =
        Accepts::Http { hostname: HostPattern::parse("web.example.com").unwrap(), tls: Some(Vec::new()) };
    let snapshot = build(vec![
        place("web", https),
        tls("wild", "*.example.com", false),
        tls("ends", "ends.example.com", true),
        tls("alone", "alone.example.com", false),
        tls_route("exact", "wild", &["a.example.com"]),
        tls_route("wild", "wild", &["*.example.com"]),
        tls_route("ends", "ends", &["ends.example.com"]),
    ]);
    assert_eq!(snapshot.intake(BIND), Some(Intake::ServerNames));
    for (asked, want) in [
        ("a.example.com", "shop/exact"),
        ("A.Example.COM", "shop/exact"),
        ("b.a.example.com", "shop/wild"),
        ("ends.example.com", "shop/ends+tls"),
        ("web.example.com", "requests"),
        ("alone.example.com", "no_route"),
        ("example.com", "no_route"),
        ("other.org", "no_route"),
        ("", "no_route"),
    ] {
        assert_eq!(routed(&snapshot, asked), want, "{asked}");
    }
}

#[test]
fn a_listener_for_any_name_takes_those_of_its_routes_and_a_client_without_one_has_none() {
    let snapshot = build(vec![tls("any", "", false), tls_route("com", "any", &["*.com", "a.org"])]);
    assert_eq!(routed(&snapshot, "x.com"), "shop/com");
    assert_eq!(routed(&snapshot, "a.org"), "shop/com");
    assert_eq!(routed(&snapshot, "b.org"), "no_route");
    assert_eq!(routed(&snapshot, ""), "no_route");
}

fn tcp(id: &str, created: Option<i64>, backends: Vec<StreamBackend>) -> Resource {
    let mut route = stream(StreamKind::Tcp, id, "tcp", &[""], backends);
    route.meta.created = created;
    Resource::StreamRoute(route)
}

#[test]
fn of_routes_for_the_same_connections_the_older_one_has_them_then_the_first_by_name() {
    let to_cart = || vec![to_service("cart", 1)];
    for (routes, want) in [
        (vec![tcp("a", None, to_cart()), tcp("b", None, to_cart())], "shop/a"),
        (vec![tcp("a", None, to_cart()), tcp("b", Some(9), to_cart())], "shop/b"),
        (vec![tcp("a", Some(8), to_cart()), tcp("b", Some(9), to_cart())], "shop/a"),
        (vec![], "no_route"),
    ] {
        let snapshot = build([vec![place("tcp", Accepts::Tcp)], routes].concat());
        assert_eq!(snapshot.intake(BIND), Some(Intake::Connections));
        assert_eq!(routed(&snapshot, ""), want);
    }
}

#[test]
fn a_socket_is_for_what_its_listeners_accept() {
    assert_eq!(build(Vec::new()).intake(BIND), None);
    let http = Resource::Listener(listener("gw", "web", ""));
    assert_eq!(build(vec![http.clone()]).intake(BIND), Some(Intake::Requests));
    assert_eq!(build(vec![http, tls("tls", "a.org", false)]).intake(BIND), Some(Intake::ServerNames));
}

#[test]
fn connections_are_shared_out_by_weight_and_an_invalid_backend_keeps_its_share() {
    let invalid = StreamBackend { target: Err(InvalidRef::BackendNotFound), weight: 1 };
    let backends = vec![to_service("cart", 2), to_service("pay", 0), invalid];
    let snapshot = build(vec![place("tcp", Accepts::Tcp), tcp("r", None, backends)]);
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut cart, mut failed) = (0, 0);
    for _ in 0..3_000 {
        let Ok(Arrival::Stream { selected, .. }) = snapshot.connection(BIND, None, &mut rng) else {
            panic!("a stream")
        };
        match &selected.target().backend {
            Ok(backend) if &*backend.label == "shop/cart:80" => cart += 1,
            Ok(backend) => panic!("{} has weight 0", backend.label),
            Err(Reason::InvalidBackend) => failed += 1,
            Err(reason) => panic!("{reason:?}"),
        }
    }
    assert!((1_850..2_150).contains(&cart) && (850..1_150).contains(&failed), "{cart} {failed}");
    let none = build(vec![place("tcp", Accepts::Tcp), tcp("r", None, vec![to_service("cart", 0)])]);
    assert_eq!(routed(&none, ""), "no_backend");
}

#[test]
fn a_circuit_breaker_guards_the_connections_of_its_backend() {
    let spec = serde_json::json!({"caps": [{"scope": "Backend", "connections": 1}]});
    let targets = vec![target(crate::model::TargetKind::Service, "cart", None)];
    let breaker = Resource::Policy(policy("CircuitBreakerPolicy", "b", targets, spec));
    let route = tcp("r", None, vec![to_service("cart", 1)]);
    let snapshot = build(vec![place("tcp", Accepts::Tcp), route, breaker]);
    let Ok(Arrival::Stream { selected, .. }) =
        snapshot.connection(BIND, None, &mut fastrand::Rng::with_seed(7))
    else {
        panic!("a stream")
    };
    assert_eq!(selected.target().guard.as_ref().unwrap().circuit.policy.name, name("b"));
    assert!(serde_json::to_string(&snapshot.describe()).unwrap().contains("CircuitBreakerPolicy shop/b"));
}

#[test]
fn what_is_carried_is_judged_again_by_the_route_that_would_take_it_or_by_its_listener() {
    let peer = crate::model::Peer { address: "127.0.0.1:5".parse().unwrap(), identity: None };
    let deny = |at| {
        let rules = serde_json::json!({"rules": [{"name": "no", "action": "Deny"}]});
        Resource::Policy(policy("AuthorizationPolicy", "p", vec![at], rules))
    };
    let goes_on = |all: Vec<Resource>| {
        let mut cx = crate::pipeline::Ongoing {
            peer: &peer,
            server_name: Some("a.example.com"),
            opened_by: None,
            decisions: &mut crate::Decisions::new(),
        };
        build(all).judge_again(Scope::Gateway(BIND), Some(&service_name("cart", 80)), &mut cx).is_ok()
    };
    let (listener, route) = (tls("tls", "*.example.com", false), tls_route("r", "tls", &["a.example.com"]));
    let at = |kind, name| deny(target(kind, name, None));
    assert!(goes_on(vec![listener.clone(), route.clone()]));
    for (kind, name) in
        [(TargetKind::Gateway, "gw"), (TargetKind::TLSRoute, "r"), (TargetKind::Service, "cart")]
    {
        assert!(!goes_on(vec![listener.clone(), route.clone(), at(kind, name)]), "{kind:?}");
    }
    assert!(goes_on(vec![listener.clone(), route, at(TargetKind::Service, "pay")]));
    assert!(goes_on(vec![listener.clone(), at(TargetKind::TLSRoute, "r")]), "the route is gone");
    assert!(!goes_on(vec![listener, at(TargetKind::Gateway, "gw")]), "its listener is not");
}

#[test]
fn plugins_of_all_that_is_on_the_way_are_asked_in_their_order_and_no_other_filter_is() {
    let plugin = |id: &str, kind, object, order: i32| {
        let spec = serde_json::json!({"source": {"file": "/p.wasm"}, "order": order});
        Resource::Policy(policy("WasmPlugin", id, vec![target(kind, object, None)], spec))
    };
    let limit = serde_json::json!({"newConnections": [{"name": "l", "connections": 1, "per": "1h"}]});
    let snapshot = build(vec![
        place("tcp", Accepts::Tcp),
        tcp("r", None, vec![to_service("cart", 1)]),
        plugin("of-route", TargetKind::TCPRoute, "r", 5),
        plugin("of-gateway", TargetKind::Gateway, "gw", 7),
        plugin("of-service", TargetKind::Service, "cart", -5),
        plugin("of-another", TargetKind::Service, "pay", 0),
        Resource::Policy(policy(
            "RateLimitPolicy",
            "l",
            vec![target(TargetKind::TCPRoute, "r", None)],
            limit,
        )),
    ]);
    let Ok(Arrival::Stream { selected, .. }) =
        snapshot.connection(BIND, None, &mut fastrand::Rng::with_seed(7))
    else {
        panic!("a stream")
    };
    let asked = selected.target().filters.iter().map(|filter| &*filter.plugin().unwrap().policy.name.name);
    assert_eq!(asked.collect::<Vec<_>>(), ["of-service", "of-route", "of-gateway"]);
    let told = serde_json::to_string(&snapshot.describe()).unwrap();
    let applied = r#""WasmPlugin shop/of-gateway","WasmPlugin shop/of-route","WasmPlugin shop/of-service"]"#;
    assert!(told.contains(applied), "{told}");
}
