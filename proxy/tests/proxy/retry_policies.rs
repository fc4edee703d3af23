//! RetryPolicy and TimeoutPolicy at work in a real proxy: what is sent again or beside, and what is cut short.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::mesh::{Gateway, everything_to, get, listener, policy, post, route, service_at};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tidegate_policy::call::parse_grpc_timeout;
use tidegate_policy::model::{AppProtocol, Resource, TargetKind};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{TestBody, full};
use tidegate_testkit::client::Client;
use tokio::sync::Notify;

const HEADER: &str = "x-envoy-expected-rq-timeout-ms";

fn on_service(kind: &str, spec: Value) -> Resource {
    policy(kind, (TargetKind::Service, "v1"), spec)
}

async fn gateway(endpoints: &[SocketAddr], policies: Vec<Resource>) -> (Gateway, Client) {
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", endpoints);
    all.extend(policies);
    gateway.apply(all);
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

/// The same over HTTP/2 on both sides.
async fn grpc_gateway(backend: &FaultBackend, policies: Vec<Resource>) -> (Gateway, Client) {
    let mut gateway = Gateway::start();
    let mut all = service_at("v1", AppProtocol::H2c, &[backend.address()]);
    all.extend([Resource::Listener(listener(crate::mesh::PORT)), Resource::Route(route("v1"))]);
    all.extend(policies);
    gateway.apply(all);
    let client = Client::http2(gateway.address().await).await;
    (gateway, client)
}

fn grpc(timeout: Option<&str>) -> Request<TestBody> {
    let request = Request::post("/s.S/M").header("content-type", "application/grpc");
    let request = match timeout {
        Some(timeout) => request.header("grpc-timeout", timeout),
        None => request,
    };
    request.body(full("message")).unwrap()
}

fn unavailable() -> Script {
    let reply = Reply::default().header("content-type", "application/grpc");
    reply.header("grpc-status", "14").into()
}

#[tokio::test]
async fn a_class_of_statuses_is_tried_again_and_the_client_told_how_often() {
    let backend = FaultBackend::start().await;
    backend.push(Reply::status(502).into()).push(Reply::text("at last").into());
    let spec = json!({"retryOn": {"conditions": ["GatewayError"]}, "tellAttempts": true});
    let (_gateway, mut client) = gateway(&[backend.address()], vec![on_service("RetryPolicy", spec)]).await;
    let answer = client.get("/").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["x-tidegate-attempts"]),
        (200, &"2".parse().unwrap())
    );
    backend.push(Reply::status(502).into());
    assert_eq!(client.call(post("/", "pay 5")).await.status, 502, "a POST may have been processed");
}

#[tokio::test]
async fn a_body_beyond_the_written_limit_is_not_kept() {
    let spec = json!({"retryOn": {"conditions": ["Reset"]}, "bodyLimit": 4});
    for (body, status) in [("four", 200), ("fives", 503)] {
        let backend = FaultBackend::start().await;
        // Reads all of it first.
        backend.push(Script::ReadThenReset);
        let policies = vec![on_service("RetryPolicy", spec.clone())];
        let (_gateway, mut client) = gateway(&[backend.address()], policies).await;
        let answer = client.call(Request::put("/").body(full(body)).unwrap()).await;
        assert_eq!(answer.status, status, "{body}");
    }
}

#[tokio::test]
async fn grpc_without_a_message_is_tried_again_and_with_one_it_is_not() {
    let backend = FaultBackend::start().await;
    backend.push(unavailable()).push(Reply::grpc("m", 0).into()).push(Reply::grpc("m", 14).into());
    let spec = json!({"retryOn": {"grpc": ["UNAVAILABLE"]}});
    let (_gateway, mut client) = grpc_gateway(&backend, vec![on_service("RetryPolicy", spec)]).await;
    let answer = client.call(grpc(None)).await;
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert_eq!(backend.counts().requests, 2);
    let answer = client.call(grpc(None)).await;
    assert_eq!(answer.trailers["grpc-status"], "14", "its head had been passed on");
    assert_eq!(backend.counts().requests, 3);
}

/// The requests that a backend of which half fails gets for 600 requests, with three retries each.
async fn load(budget: Value) -> usize {
    let backend = FaultBackend::start().await;
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..4 * 600 {
        backend.push(Reply::status(if rng.bool() { 503 } else { 200 }).into());
    }
    let spec = json!({
        "retryOn": {"statuses": [503]}, "attempts": 3, "backoff": {"base": "0s", "max": "0s"}, "budget": budget,
    });
    let (_gateway, mut client) = gateway(&[backend.address()], vec![on_service("RetryPolicy", spec)]).await;
    for _ in 0..600 {
        client.get("/").await;
    }
    backend.counts().requests
}

#[tokio::test]
async fn a_failing_backend_is_not_buried_under_retries() {
    let within = load(json!({"percent": 20, "minPerSecond": 0})).await;
    let without = load(json!({"percent": 100, "minPerSecond": 1_000_000})).await;
    println!("600 requests, half fail, 3 retries: {within} with a budget of 20 %, {without} without");
    assert!(within <= 720, "{within}: more than 1.2 times");
    assert!(within > 660, "{within}: the budget is there to be used");
    assert!(without > 1000, "{without}");
}

fn hedging(after: &str) -> Resource {
    let spec = json!({"hedge": {"after": after}, "budget": {"minPerSecond": 1000}});
    on_service("RetryPolicy", spec)
}

#[tokio::test]
async fn a_slow_endpoint_is_not_waited_for_and_not_blamed() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let (slow, fast) = (FaultBackend::start().await, FaultBackend::start().await);
        slow.always(Script::Hang);
        fast.always(Script::Echo);
        let mut gateway = Gateway::start();
        gateway.apply(everything_to("v1", &[]));
        gateway.apply(service_at("v1", protocol, &[slow.address(), fast.address()]));
        let breaker = json!({"breakers": [{"scope": "Endpoint", "consecutiveFailures": 1, "open": "1h"}]});
        gateway.apply(vec![hedging("10ms"), on_service("CircuitBreakerPolicy", breaker)]);
        let mut client = Client::http1(gateway.address().await).await;
        for _ in 0..20 {
            let answer = client.call(Request::put("/").body(full("twice")).unwrap()).await;
            assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"twice"[..]), "{protocol:?}");
        }
        let asked = slow.counts().requests;
        assert!(asked > 1, "{protocol:?}: {asked} at the slow endpoint: its breaker has opened");
        slow.until(|counts| counts.cancelled == asked).await;
        assert_eq!(fast.counts().requests, 20, "{protocol:?}");
    }
}

#[tokio::test]
async fn all_attempts_end_with_their_client() {
    let (one, two) = (FaultBackend::start().await, FaultBackend::start().await);
    one.always(Script::Hang);
    two.always(Script::Hang);
    let (gateway, _client) = gateway(&[one.address(), two.address()], vec![hedging("10ms")]).await;
    let address = gateway.address().await;
    let calling = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    one.until(|counts| counts.requests == 1).await;
    two.until(|counts| counts.requests == 1).await;
    calling.abort();
    for backend in [one, two] {
        backend.until(|counts| counts.cancelled == 1 && counts.open == 0).await;
    }
}

#[tokio::test]
async fn there_is_no_hedge_without_another_endpoint() {
    let backend = FaultBackend::start().await;
    let answers = Arc::new(Notify::new());
    backend.always(Script::After(answers.clone(), Box::new(Reply::text("late").into())));
    let (_gateway, mut client) = gateway(&[backend.address()], vec![hedging("1ms")]).await;
    let calling = tokio::spawn(async move { client.get("/").await });
    backend.until(|counts| counts.requests == 1).await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    answers.notify_one();
    assert_eq!(calling.await.unwrap().status, 200);
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn each_attempt_is_told_what_is_left_of_the_deadline() {
    let backend = FaultBackend::start().await;
    backend.push(unavailable()).push(Reply::grpc("m", 0).into());
    let policies = vec![
        on_service("RetryPolicy", json!({"retryOn": {"grpc": ["UNAVAILABLE"]}})),
        on_service("TimeoutPolicy", json!({"deadline": {}})),
    ];
    let (_gateway, mut client) = grpc_gateway(&backend, policies).await;
    assert_eq!(client.call(grpc(Some("1M"))).await.trailers["grpc-status"], "0");
    let told = backend.seen();
    let told: Vec<_> = told
        .iter()
        .map(|head| parse_grpc_timeout(head.headers["grpc-timeout"].as_bytes()).unwrap())
        .collect();
    assert!(told[0] <= Duration::from_secs(60) && told[1] <= told[0], "{told:?}");
}

#[tokio::test]
async fn a_deadline_ends_the_call_and_a_hopeless_one_makes_none() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let policies = vec![on_service("TimeoutPolicy", json!({"deadline": {"trustClients": true}}))];
    let (_gateway, mut client) = gateway(&[backend.address()], policies).await;
    let with = |millis| Request::get("/").header(HEADER, millis).body(full("")).unwrap();
    let answer = client.call(with("4")).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (504, Some("deadline_exceeded")));
    assert_eq!(backend.counts().requests, 0);
    let answer = client.call(with("300")).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (504, Some("deadline_exceeded")));
    backend.until(|counts| counts.requests == 1 && counts.cancelled == 1).await;
}

#[tokio::test]
async fn an_answer_that_stands_still_or_goes_on_for_too_long_breaks_off() {
    for spec in [json!({"idle": "50ms"}), json!({"streamDuration": "50ms", "request": "1h"})] {
        let backend = FaultBackend::start().await;
        backend.push(Script::Cut(Bytes::from_static(b"half"), Arc::new(Notify::new())));
        let policies = vec![on_service("TimeoutPolicy", spec)];
        let (_gateway, mut client) = gateway(&[backend.address()], policies).await;
        let response = client.send(get("/")).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.into_body().collect().await.is_err(), "a cut body must not look whole");
        backend.until(|counts| counts.open == 0).await;
    }
}

#[tokio::test]
async fn a_tunnel_lasts_no_longer_than_its_stream_may() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Tunnel);
    let policies = vec![on_service("TimeoutPolicy", json!({"streamDuration": "100ms"}))];
    let (_gateway, mut client) = gateway(&[backend.address()], policies).await;
    let request = Request::get("/").header("connection", "upgrade").header("upgrade", "echo");
    let response = client.send(request.body(full("")).unwrap()).await.unwrap();
    assert_eq!(response.status(), 101);
    backend.until(|counts| counts.open == 0).await;
}

#[tokio::test]
async fn a_deadline_that_nobody_waited_for_is_told_once() {
    let backend = FaultBackend::start().await;
    let policies = vec![on_service("TimeoutPolicy", json!({"deadline": {"trustClients": true}}))];
    let (gateway, mut client) = gateway(&[backend.address()], policies).await;
    let request = Request::get("/").header(HEADER, 4).body(full("")).unwrap();
    assert_eq!(client.call(request).await.reason(), Some("deadline_exceeded"));
    let page = Client::http1(gateway.running.admin()).await.get("/metrics").await;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    let refused = |line: &&str| {
        line.starts_with("tidegate_policy_decisions_total") && line.contains("outcome=\"refused\"")
    };
    let line = text.lines().find(refused).expect("it is told");
    assert!(line.contains("rule=\"deadline\"") && line.ends_with(" 1"), "{line}");
}
