//! Limits of new connections: on real sockets, before TLS, and before any endpoint is called.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_policy::model::*;
use tidegate_proxy::config::{Applier, Change};
use tidegate_proxy::telemetry::{LogTarget, Scrape};
use tidegate_proxy::{ProxyConfig, Running};
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::client::{Client, RawClient};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::mesh::{self, Gateway, PORT, get, service_at};
use crate::outbound::{self, CART, Sidecar, service};
use crate::streams::{
    echo, greeting, is_refused, passthrough, say, signed, stream_listener, tcp_route, terminating, tls,
    tls_echo, tls_route,
};

/// So many per hour, of which `more` says more.
fn limit(connections: u32, more: &Value) -> Value {
    let mut one = json!({"name": "new", "connections": connections, "per": "1h"});
    more.as_object().unwrap().iter().for_each(|(name, value)| one[name] = value.clone());
    json!({"newConnections": [one]})
}

fn on(target: (TargetKind, &str), spec: Value) -> Resource {
    mesh::policy("RateLimitPolicy", target, spec)
}

/// A TCP listener with one route to a server that greets, and a policy on something of it.
async fn carried(policy: Resource, change: impl FnOnce(&mut ProxyConfig)) -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::with(change);
    let server = echo("cart").await;
    let mut all = vec![stream_listener("tcp", PORT, Accepts::Tcp), tcp_route("r", "tcp", &[("cart", 1)])];
    all.extend(service_at("cart", AppProtocol::Http1, &[server]));
    all.push(policy);
    gateway.apply(all);
    let address = gateway.address().await;
    (gateway, address)
}

async fn greeted(address: SocketAddr) -> io::Result<String> {
    greeting(&mut TcpStream::connect(address).await?).await
}

/// Waits until a metric with all of these in its line has this value.
async fn counted(running: &Running, parts: &[&str], value: u32) {
    let wanted =
        |line: &&str| parts.iter().all(|part| line.contains(part)) && line.ends_with(&format!(" {value}"));
    let told = || running.state().telemetry.render_metrics(&Scrape::default());
    let wait = async {
        while !told().lines().any(|line| wanted(&line)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(),
        "{parts:?} {value}: {}",
        told()
    );
}

const REFUSED: [&str; 3] =
    ["tidegate_policy_decisions_total", r#"policy="shop/policy",rule="new""#, r#"outcome="refused""#];

#[tokio::test]
async fn a_tcp_route_lets_in_as_many_as_its_policy_says_and_resets_the_others() {
    let log = tempfile::NamedTempFile::new().unwrap();
    for target in [(TargetKind::TCPRoute, "r"), (TargetKind::Gateway, "edge"), (TargetKind::Service, "cart")]
    {
        let to_log = |config: &mut ProxyConfig| config.access_log = LogTarget::File(log.path().into());
        let (gateway, address) = carried(on(target, limit(2, &json!({}))), to_log).await;
        for _ in 0..2 {
            assert_eq!(greeted(address).await.unwrap(), "cart", "{target:?}");
        }
        for _ in 0..3 {
            assert_eq!(greeted(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        }
        counted(&gateway.running, &REFUSED, 3).await;
        let labels = [r#"route="shop/r",backend="shop/cart:80",reason="rate_limited""#];
        counted(&gateway.running, &["tidegate_streams_total", labels[0]], 3).await;
        gateway.running.shutdown();
        gateway.running.wait().await;
    }
    let lines = std::fs::read_to_string(log.path()).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused: Vec<_> = lines.iter().filter(|line| line["tidegate.reason"] == "rate_limited").collect();
    assert_eq!(refused.len(), 9);
    assert_eq!(refused[0]["tidegate.policy.name"], "policy");
    assert_eq!(refused[0]["tidegate.policy.rule"], "new");
    assert_eq!(refused[0]["tidegate.policy.source"], "test.yaml:1");
    assert_eq!(refused[0]["tidegate.decision"], "refused");
    assert!(refused[0].get("tidegate.endpoint").is_none(), "no endpoint was called");
}

#[tokio::test]
async fn one_is_closed_in_order_where_that_is_written() {
    let policy = on((TargetKind::TCPRoute, "r"), limit(1, &json!({"refuse": "Close"})));
    let (_gateway, address) = carried(policy, |_| {}).await;
    assert_eq!(greeted(address).await.unwrap(), "cart");
    let mut beyond = TcpStream::connect(address).await.unwrap();
    assert_eq!(beyond.read(&mut [0; 9]).await.unwrap(), 0);
}

#[tokio::test]
async fn in_shadow_all_come_in_and_those_beyond_are_counted() {
    let policy = on((TargetKind::TCPRoute, "r"), limit(1, &json!({"mode": "Shadow"})));
    let (gateway, address) = carried(policy, |_| {}).await;
    for _ in 0..3 {
        let mut client = TcpStream::connect(address).await.unwrap();
        assert_eq!(greeting(&mut client).await.unwrap(), "cart");
        assert_eq!(say(&mut client, "hello").await, "hello bye");
    }
    counted(&gateway.running, &["tidegate_policy_decisions_total", r#"outcome="would_refuse""#], 2).await;
}

#[tokio::test]
async fn a_push_forgets_no_connections_and_the_most_specific_target_wins() {
    let policy = on((TargetKind::Gateway, "edge"), limit(2, &json!({})));
    let (mut gateway, address) = carried(policy.clone(), |_| {}).await;
    assert_eq!(greeted(address).await.unwrap(), "cart");
    gateway.apply(vec![policy]);
    assert_eq!(greeted(address).await.unwrap(), "cart");
    assert!(is_refused(address, b"").await);
    let Resource::Policy(mut own) = on((TargetKind::TCPRoute, "r"), limit(1, &json!({}))) else { panic!() };
    own.meta.name = ResourceName::new("shop", "own");
    gateway.apply(vec![Resource::Policy(own)]);
    assert_eq!(greeted(address).await.unwrap(), "cart", "that of the route holds in its place");
    assert!(is_refused(address, b"").await);
}

#[tokio::test]
async fn server_names_are_counted_apart_where_tls_passes_through_and_where_it_ends_before_it_begins() {
    let (a, b) = (signed("a.example.com"), signed("b.example.com"));
    let (to_a, to_b) = (tls_echo("a", &a).await, echo("b").await);
    let mut gateway = Gateway::start();
    let mut all = vec![
        passthrough("tls", PORT, "a.example.com"),
        terminating("ends", PORT, "b.example.com", &b),
        tls_route("a", "tls", "a.example.com", "a"),
        tls_route("b", "ends", "b.example.com", "b"),
        on((TargetKind::Gateway, "edge"), limit(1, &json!({"key": [{"type": "ServerName"}]}))),
    ];
    all.extend(service_at("a", AppProtocol::Http1, &[to_a]));
    all.extend(service_at("b", AppProtocol::Http1, &[to_b]));
    gateway.apply(all);
    let address = gateway.address().await;
    for (name, signed, served) in [("a.example.com", &a, "a"), ("b.example.com", &b, "b")] {
        let mut client = tls(address, name, &[signed]).await.unwrap();
        assert_eq!(greeting(&mut client).await.unwrap(), served);
        let refused = tls(address, name, &[signed]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset, "{name}: without an alert");
    }
    counted(&gateway.running, &REFUSED, 2).await;
}

#[tokio::test]
async fn a_listener_for_requests_counts_connections_and_not_what_is_asked_on_them() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    gateway.apply(vec![on((TargetKind::Gateway, "edge"), limit(1, &json!({})))]);
    let at = gateway.address().await;
    let mut client = Client::http1(at).await;
    for _ in 0..3 {
        assert_eq!(client.call(get("/")).await.status, 200);
    }
    assert!(is_refused(at, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    assert_eq!(client.call(get("/")).await.status, 200, "the one that is in stays in");
    counted(&gateway.running, &REFUSED, 1).await;
    assert_eq!(backend.counts().requests, 4);
}

#[tokio::test]
async fn of_listeners_that_share_a_socket_none_is_limited_by_what_is_written_for_another() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    let mut other = mesh::listener(PORT);
    other.name.section = "other".into();
    other.accepts = Accepts::Http { hostname: HostPattern::parse("other.example").unwrap(), tls: None };
    let Resource::Policy(mut policy) = on((TargetKind::Gateway, "edge"), limit(1, &json!({}))) else {
        panic!()
    };
    policy.targets[0].section = Some("other".into());
    gateway.apply(vec![Resource::Listener(other), Resource::Policy(policy)]);
    let at = gateway.address().await;
    for _ in 0..3 {
        assert_eq!(Client::http1(at).await.call(get("/")).await.status, 200);
    }
}

#[tokio::test]
async fn a_sidecar_counts_connections_to_its_service() {
    let app = FaultBackend::start().await;
    let mut config = mesh::sidecar_config(app.address(), AppProtocol::Http1);
    config.local.services = vec![ResourceName::new("shop", "cart")];
    let running = tidegate_proxy::Proxy::start(config).unwrap();
    let mut applier = Applier::new(running.state().clone());
    let mut upserts = service_at("cart", AppProtocol::Http1, &[]);
    upserts.push(on((TargetKind::Service, "cart"), limit(1, &json!({}))));
    assert_eq!(applier.apply(Change { upserts, removed: Vec::new() }), []);
    let at = running.inbound().unwrap();
    let mut client = Client::http1(at).await;
    assert_eq!(client.call(get("/")).await.status, 200);
    assert!(is_refused(at, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    assert_eq!(client.call(get("/")).await.status, 200);
    counted(&running, &REFUSED, 1).await;
}

#[tokio::test]
async fn a_callers_sidecar_counts_what_is_carried_to_a_service_and_not_its_requests() {
    let server = echo("cart").await;
    let mut sidecar = Sidecar::start();
    let mut all = service("cart", CART, &[server]);
    let declare = |all: &mut Vec<Resource>, declared: Declared| {
        for resource in all {
            if let Resource::Backend(backend) = resource {
                backend.declared = declared;
            }
        }
    };
    declare(&mut all, Declared::Other);
    all.push(on((TargetKind::Service, "cart"), limit(1, &json!({}))));
    sidecar.apply(all);
    let mut first = sidecar.raw(CART).await;
    assert_eq!(first.read_until("\n").await, "cart\n");
    assert!(is_refused(sidecar.address(), &outbound::to(CART)).await);
    counted(&sidecar.running, &REFUSED, 1).await;
    let web = FaultBackend::start().await;
    web.always(Reply::text("web").into());
    let mut all = service("cart", CART, &[web.address()]);
    declare(&mut all, Declared::Http);
    sidecar.apply(all);
    for _ in 0..3 {
        assert_eq!(sidecar.get(CART, "cart", "/").await.body, "web");
    }
    drop::<RawClient>(first);
}
