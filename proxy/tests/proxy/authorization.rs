//! Who may do what: on real sockets, for requests, for connections that are carried, and for what is open when it changes.

#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::Request;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate_policy::model::*;
use tidegate_proxy::config::{Applier, Change};
use tidegate_proxy::telemetry::{LogTarget, Scrape};
use tidegate_proxy::{ProxyConfig, Running};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mesh::{self, Gateway, PORT, everything_to, get, post, service_at};
use crate::pairings;
use crate::streams::{
    echo, greeting, is_refused, passthrough, signed, stream_listener, tcp_route, tls, tls_echo, tls_route,
};
use crate::tunnels::websocket;

fn on(target: (TargetKind, &str), name: &str, rules: Value) -> Resource {
    let Resource::Policy(mut policy) = mesh::policy("AuthorizationPolicy", target, json!({ "rules": rules }))
    else {
        panic!("a policy")
    };
    policy.meta.name = ResourceName::new("shop", name);
    Resource::Policy(policy)
}

fn deny(more: Value) -> Value {
    let mut rule = json!({"name": "no", "action": "Deny"});
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!([rule])
}

const EDGE: (TargetKind, &str) = (TargetKind::Gateway, "edge");
const ROUTE: (TargetKind, &str) = (TargetKind::HTTPRoute, "all");

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
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "{parts:?}: {}", told());
}

async fn backend() -> FaultBackend {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("fine").into());
    backend
}

#[tokio::test]
async fn a_request_that_is_denied_gets_403_and_the_log_names_policy_rule_and_line() {
    let (backend, file) = (backend().await, tempfile::NamedTempFile::new().unwrap());
    let mut gateway = Gateway::with(|config| config.access_log = LogTarget::File(file.path().to_owned()));
    let audit = json!({"name": "seen", "action": "Audit", "to": [{"paths": [{"exact": "/seen"}]}]});
    let mut rules = deny(json!({"to": [{"methods": ["POST"]}]}));
    rules.as_array_mut().unwrap().push(audit);
    gateway.apply(
        everything_to("v1", &[backend.address()]).into_iter().chain([on(ROUTE, "p", rules)]).collect(),
    );
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.call(get("/cart")).await.status, 200);
    assert_eq!(client.call(get("/seen")).await.status, 200);
    let answer = client.call(post("/cart", "body")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["x-tidegate-reason"]),
        (403, &"access_denied".parse().unwrap())
    );
    let mut client = Client::http1(gateway.address().await).await;
    let grpc = Request::post("/shop.Cart/Get").header("content-type", "application/grpc");
    let answer = client.call(grpc.body(empty()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), &answer.headers["grpc-status"]), (200, &"7".parse().unwrap()));
    assert_eq!(backend.counts().requests, 2);
    let rule = |outcome: &str| format!(r#"outcome="{outcome}""#);
    counted(&gateway.running, &[r#"policy="shop/p",rule="no""#, &rule("refused")], 2).await;
    counted(&gateway.running, &[r#"policy="shop/p",rule="seen""#, &rule("audited")], 1).await;
    gateway.running.shutdown();
    gateway.running.wait().await;
    let log = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by = |word: &str| lines.iter().find(|line| line["tidegate.decision"] == word).unwrap();
    assert_eq!(by("refused")["tidegate.policy.name"], "p");
    assert_eq!(by("refused")["tidegate.policy.rule"], "no");
    assert_eq!(by("refused")["tidegate.policy.source"], "test.yaml:1");
    assert_eq!(by("refused")["tidegate.reason"], "access_denied");
    assert_eq!(by("audited")["tidegate.policy.rule"], "seen");
}

#[tokio::test]
async fn what_a_gateway_denies_no_route_allows() {
    let backend = backend().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    let allow = json!([{"name": "yes", "action": "Allow"}]);
    gateway.apply(vec![
        on(EDGE, "edge", deny(json!({"to": [{"paths": [{"prefix": "/admin"}]}]}))),
        on(ROUTE, "route", allow),
    ]);
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.call(get("/admin/x")).await.status, 403);
    assert_eq!(client.call(get("/cart")).await.status, 200);
    assert_eq!(client.call(get("/a/../admin")).await.status, 403);
    assert_eq!(client.call(get("/%61dmin")).await.status, 403);
    gateway.apply(vec![on(
        ROUTE,
        "route",
        json!([{"name": "puts", "action": "Allow", "to": [{"methods": ["PUT"]}]}]),
    )]);
    assert_eq!(client.call(get("/cart")).await.status, 403, "a push holds for the next request");
}

/// A TCP listener with one route to a server that greets.
async fn carried(policies: Vec<Resource>, change: impl FnOnce(&mut ProxyConfig)) -> (Gateway, SocketAddr) {
    let mut gateway = Gateway::with(change);
    let server = echo("cart").await;
    let mut all = vec![stream_listener("tcp", PORT, Accepts::Tcp), tcp_route("r", "tcp", &[("cart", 1)])];
    all.extend(service_at("cart", AppProtocol::Http1, &[server]));
    all.extend(policies);
    gateway.apply(all);
    let address = gateway.address().await;
    (gateway, address)
}

async fn greeted(address: SocketAddr) -> io::Result<TcpStream> {
    let mut client = TcpStream::connect(address).await?;
    greeting(&mut client).await?;
    Ok(client)
}

/// Nothing ends it.
async fn echoes(client: &mut TcpStream) {
    client.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

async fn is_reset(client: &mut TcpStream) -> bool {
    let ended =
        tokio::time::timeout(Duration::from_secs(30), client.read(&mut [0; 9])).await.expect("it ends");
    ended.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

fn from(block: &str) -> Value {
    json!({"from": [{"ipBlocks": [block]}]})
}

#[tokio::test]
async fn a_connection_that_is_denied_is_reset_before_any_endpoint_is_called() {
    for target in
        [(TargetKind::TCPRoute, "r"), EDGE, (TargetKind::Service, "cart"), (TargetKind::Namespace, "shop")]
    {
        let (gateway, address) = carried(vec![on(target, "p", deny(from("127.0.0.0/8")))], |_| {}).await;
        assert!(is_refused(address, b"").await, "{target:?}");
        let parts =
            ["tidegate_policy_decisions_total", r#"policy="shop/p",rule="no""#, r#"outcome="refused""#];
        counted(&gateway.running, &parts, 1).await;
        counted(&gateway.running, &["tidegate_streams_total", r#"reason="access_denied""#], 1).await;
    }
    let (_gateway, address) = carried(vec![on(EDGE, "p", deny(from("10.0.0.0/8")))], |_| {}).await;
    greeted(address).await.unwrap();
}

#[tokio::test]
async fn an_open_connection_is_cut_when_a_push_denies_it_and_left_when_it_does_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let to_log = |config: &mut ProxyConfig| config.access_log = LogTarget::File(file.path().to_owned());
    let (mut gateway, address) = carried(vec![], to_log).await;
    let (mut first, mut second) = (greeted(address).await.unwrap(), greeted(address).await.unwrap());
    gateway.apply(vec![on(EDGE, "p", deny(from("10.0.0.0/8")))]);
    echoes(&mut first).await;
    let Resource::Policy(mut shadow) = on(EDGE, "p", deny(from("127.0.0.0/8"))) else { panic!() };
    shadow.mode = Mode::Shadow;
    gateway.apply(vec![Resource::Policy(shadow)]);
    echoes(&mut first).await;
    gateway.apply(vec![on(EDGE, "p", deny(from("127.0.0.0/8")))]);
    assert!(is_reset(&mut first).await && is_reset(&mut second).await);
    counted(&gateway.running, &["tidegate_streams_total", r#"reason="access_denied""#], 2).await;
    gateway.running.shutdown();
    gateway.running.wait().await;
    let log = std::fs::read_to_string(file.path()).unwrap();
    let line: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(line["tidegate.policy.rule"], "no", "{log}");
    assert_eq!(line["tidegate.decision"], "refused");
}

#[tokio::test]
async fn a_route_that_goes_away_ends_nothing_that_is_open_but_its_listeners_policy_does() {
    let (mut gateway, address) = carried(vec![], |_| {}).await;
    let mut client = greeted(address).await.unwrap();
    let gone = (ResourceType::StreamRoute, Resource::name(&tcp_route("r", "tcp", &[("cart", 1)])));
    assert_eq!(gateway.applier.apply(Change { upserts: Vec::new(), removed: vec![gone] }), []);
    echoes(&mut client).await;
    gateway.apply(vec![on(EDGE, "p", deny(json!({})))]);
    assert!(is_reset(&mut client).await);
}

#[tokio::test]
async fn server_names_are_judged_where_tls_passes_through() {
    let shown = signed("a.example.com");
    let server = tls_echo("a", &shown).await;
    let mut gateway = Gateway::start();
    let mut all = vec![
        passthrough("tls", PORT, "*.example.com"),
        tls_route("a", "tls", "*.example.com", "a"),
        on(EDGE, "p", json!([{"name": "a", "action": "Allow", "to": [{"hosts": ["a.example.com"]}]}])),
    ];
    all.extend(service_at("a", AppProtocol::Http1, &[server]));
    gateway.apply(all);
    let address = gateway.address().await;
    let mut client = tls(address, "a.example.com", &[&shown]).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "a");
    assert!(tls(address, "b.example.com", &[&shown]).await.is_err());
}

#[tokio::test]
async fn a_deny_rule_about_requests_closes_connections_of_which_nobody_reads_any() {
    let rules = deny(json!({"to": [{"methods": ["DELETE"]}]}));
    let (gateway, address) = carried(vec![on(EDGE, "p", rules.clone())], |_| {}).await;
    assert!(is_refused(address, b"").await);
    counted(&gateway.running, &["tidegate_streams_total", r#"reason="access_denied""#], 1).await;
    // Where they are read, it is about them.
    let backend = backend().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    gateway.apply(vec![on(EDGE, "p", rules)]);
    assert_eq!(Client::http1(gateway.address().await).await.call(get("/")).await.status, 200);
}

#[tokio::test]
async fn an_open_websocket_is_cut_when_a_push_denies_the_request_that_opened_it() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start_with_tunnels().await;
        backend.always(Script::Tunnel);
        let mut config = mesh::sidecar_config(backend.address(), pairing.backend);
        config.local.services = vec![ResourceName::new("shop", "cart")];
        let running = tidegate_proxy::Proxy::start(config).unwrap();
        let mut applier = Applier::new(running.state().clone());
        let mut apply =
            |upserts: Vec<Resource>| assert_eq!(applier.apply(Change { upserts, removed: Vec::new() }), []);
        apply(service_at("cart", AppProtocol::Http1, &[]));
        let mut client = pairing.client(running.inbound().unwrap()).await;
        let mut response = client.send(websocket(pairing)).await.unwrap();
        assert_eq!(response.status(), if pairing.http2 { 200 } else { 101 }, "{pairing:?}");
        let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        let path = |path: &str| deny(json!({"to": [{"paths": [{"exact": path}]}]}));
        let service = (TargetKind::Service, "cart");
        apply(vec![on(service, "p", path("/other"))]);
        tunnel.write_all(b"ping").await.unwrap();
        tunnel.read_exact(&mut [0; 4]).await.unwrap();
        apply(vec![on(service, "p", path("/ws"))]);
        let ended =
            tokio::time::timeout(Duration::from_secs(30), tunnel.read(&mut [0; 9])).await.expect("it ends");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        backend.until(|counts| counts.tunnels == 0).await;
        let parts =
            ["tidegate_policy_decisions_total", r#"policy="shop/p",rule="no""#, r#"outcome="refused""#];
        counted(&running, &parts, 1).await;
    }
}

#[tokio::test]
async fn a_policy_that_was_never_valid_denies_until_it_is_and_a_last_good_one_stays() {
    let backend = backend().await;
    let mut gateway = Gateway::start().to(&[backend.address()]).await;
    let mut client = Client::http1(gateway.address().await).await;
    let broken = |target| on(target, "p", json!([{"name": "no", "action": "Maybe"}]));
    let refuses = |gateway: &mut Gateway, policy: Resource| {
        let refused = gateway.applier.apply(Change { upserts: vec![policy], removed: Vec::new() });
        assert_eq!(refused.len(), 1, "it is told: {refused:?}");
    };
    refuses(&mut gateway, broken(ROUTE));
    assert_eq!(client.call(get("/")).await.status, 403);
    let never = [r#"policy="shop/p",rule="never-valid""#, r#"outcome="refused""#];
    counted(&gateway.running, &never, 1).await;
    refuses(&mut gateway, broken((TargetKind::HTTPRoute, "other")));
    assert_eq!(client.call(get("/")).await.status, 200, "it is about something else by now");
    gateway.apply(vec![on(ROUTE, "p", deny(json!({"to": [{"methods": ["POST"]}]})))]);
    refuses(&mut gateway, broken(ROUTE));
    assert_eq!(client.call(get("/")).await.status, 200, "the last good one holds");
    assert_eq!(client.call(post("/", "x")).await.status, 403);
    let gone = (ResourceType::Policy, Resource::name(&broken(ROUTE)));
    assert_eq!(gateway.applier.apply(Change { upserts: Vec::new(), removed: vec![gone] }), []);
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.call(post("/", "x")).await.status, 200);
}
