//! Circuit breakers on real calls: what trips them, whom they spare, and what they say of it.

use std::sync::Arc;
use std::time::Duration;

use crate::mesh::{Gateway, everything_to, policy};
use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::{Resource, Retry, TargetKind};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::full;
use tidegate_testkit::client::Client;
use tokio::sync::Notify;

/// Longer than what counts as slow here.
const SLOW: Duration = Duration::from_millis(5);

async fn gateway(endpoints: &[&FaultBackend], spec: Value) -> (Gateway, Client) {
    gateway_with(endpoints, spec, |_| {}).await
}

async fn gateway_with(
    endpoints: &[&FaultBackend],
    spec: Value,
    change: impl Fn(&mut Resource),
) -> (Gateway, Client) {
    let addresses: Vec<_> = endpoints.iter().map(|backend| backend.address()).collect();
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &addresses);
    all.push(policy("CircuitBreakerPolicy", (TargetKind::Service, "v1"), spec));
    all.iter_mut().for_each(change);
    gateway.apply(all);
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

/// What the admin page says of the only policy's health.
async fn health(gateway: &Gateway) -> Value {
    let page = Client::http1(gateway.running.admin()).await.get("/status").await;
    let status: Value = serde_json::from_slice(&page.body).unwrap();
    status["circuit_breakers"][0].clone()
}

fn slow(scope: &str) -> Value {
    let rate = json!({"percent": 100, "slowerThan": "1ms", "minimumCalls": 1, "calls": 1});
    json!({"breakers": [{"name": "slow", "scope": scope, "slowCallRate": rate, "open": "1h"}]})
}

#[tokio::test]
async fn slow_answers_open_the_circuit_and_the_status_says_why_and_where() {
    let backend = FaultBackend::start().await;
    let go = Arc::new(Notify::new());
    backend.push(Script::After(go.clone(), Box::default()));
    let (gateway, mut client) = gateway(&[&backend], slow("Backend")).await;
    let late = async {
        backend.until(|c| c.requests == 1).await;
        tokio::time::sleep(SLOW).await;
        go.notify_one();
    };
    let (answer, ()) = tokio::join!(client.get("/"), late);
    assert_eq!(answer.status, 200);
    assert_eq!(client.get("/").await.reason(), Some("circuit_open"));
    let breaker = &health(&gateway).await["breakers"][0];
    assert_eq!((&breaker["state"], &breaker["rule"]), (&json!("open"), &json!("slow")));
    assert_eq!(breaker["evidence"], "1 of 1 calls took longer than 1ms within 1 calls");
    assert!(breaker["left_seconds"].as_f64().unwrap() > 3000.0, "{breaker}");
    assert!(!breaker["source"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_gives_up_waiting_has_seen_a_slow_call() {
    let backend = FaultBackend::start().await;
    backend.push(Script::Hang);
    let (gateway, mut client) = gateway(&[&backend], slow("Backend")).await;
    let address = gateway.address().await;
    let waiting = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    backend.until(|c| c.requests == 1).await;
    tokio::time::sleep(SLOW).await;
    waiting.abort();
    backend.until(|c| c.cancelled == 1).await;
    // The connection closes a moment before the breaker is told.
    while client.get("/").await.reason() != Some("circuit_open") {}
}

#[tokio::test]
async fn retry_after_keeps_further_calls_away() {
    let backend = FaultBackend::start().await;
    let mut reply = Reply::status(429);
    reply.headers.insert("retry-after", "600".parse().unwrap());
    backend.push(reply.into());
    let spec = json!({"breakers": [{"scope": "Backend", "honorRetryAfter": {"max": "1h"}}]});
    let (_gateway, mut client) = gateway(&[&backend], spec).await;
    assert_eq!(client.get("/").await.status, 429);
    let answer = client.get("/").await;
    assert_eq!(answer.reason(), Some("circuit_open"));
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((590..=600).contains(&wait), "{wait}");
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn the_pushback_of_grpc_is_read_in_the_trailers() {
    let backend = FaultBackend::start().await;
    let mut reply = Reply::grpc("x", 8);
    reply.trailers.as_mut().unwrap().insert("grpc-retry-pushback-ms", "600000".parse().unwrap());
    backend.push(reply.into());
    let spec = json!({"breakers": [{"scope": "Backend", "honorRetryAfter": {"max": "1h"}}]});
    let (gateway, _client) = gateway(&[&backend], spec).await;
    let mut client = Client::http2(gateway.address().await).await;
    let request = || Request::post("/shop.Cart/Get").header("content-type", "application/grpc");
    assert_eq!(client.call(request().body(full("x")).unwrap()).await.trailers["grpc-status"], "8");
    assert_eq!(client.call(request().body(full("x")).unwrap()).await.reason(), Some("circuit_open"));
    assert_eq!(health(&gateway).await["breakers"][0]["evidence"], "a response asked to wait 600s");
}

#[tokio::test]
async fn one_bad_endpoint_of_two_is_left_alone_and_the_last_is_kept() {
    let (bad, good) = (FaultBackend::start().await, FaultBackend::start().await);
    bad.always(Reply::status(500).into());
    let spec = json!({"breakers": [{"scope": "Endpoint", "consecutiveFailures": 1, "open": "1h"}]});
    let (gateway, mut client) = gateway(&[&bad, &good], spec).await;
    for _ in 0..60 {
        client.get("/").await;
    }
    assert_eq!(bad.counts().requests, 1);
    good.always(Reply::status(502).into());
    for _ in 0..5 {
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (502, None));
    }
    let health = health(&gateway).await;
    assert_eq!((&health["ejected"], &health["endpoints"]), (&json!(1), &json!(2)));
    let spared = health["breakers"].as_array().unwrap().iter().find_map(|breaker| breaker["spared"].as_str());
    assert_eq!(spared, Some("5 calls in a row failed"));
}

#[tokio::test]
async fn an_expression_finds_failures_in_answers_that_look_well() {
    let backend = FaultBackend::start().await;
    let mut reply = Reply::status(200);
    reply.headers.insert("x-degraded", "yes".parse().unwrap());
    backend.always(reply.into());
    let failures = json!({"expression": "response.headers['x-degraded'] == 'yes'"});
    let spec = json!({"breakers": [{"scope": "Backend", "consecutiveFailures": 2, "failures": failures}]});
    let (_gateway, mut client) = gateway(&[&backend], spec).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(client.get("/").await.reason(), Some("circuit_open"));
}

#[tokio::test]
async fn an_endpoint_at_its_cap_is_passed_over_until_all_are() {
    let (a, b) = (FaultBackend::start().await, FaultBackend::start().await);
    let go = Arc::new(Notify::new());
    for backend in [&a, &b] {
        backend.push(Script::After(go.clone(), Box::default()));
    }
    let spec = json!({"caps": [{"scope": "Endpoint", "requests": 1}]});
    let (gateway, mut client) = gateway(&[&a, &b], spec).await;
    let address = gateway.address().await;
    let call = || tokio::spawn(async move { Client::http1(address).await.get("/").await.status });
    let held = [call(), call()];
    tokio::join!(a.until(|c| c.requests == 1), b.until(|c| c.requests == 1));
    assert_eq!(client.get("/").await.reason(), Some("request_cap"));
    go.notify_waiters();
    for call in held {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(client.get("/").await.status, 200);
}

#[tokio::test]
async fn without_a_place_for_a_retry_the_client_gets_what_the_backend_said() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::status(503).into());
    let retry = Retry { codes: [503].into(), attempts: 5, backoff: Some(Duration::ZERO) };
    let spec = json!({"caps": [{"scope": "Rule", "retries": 0}]});
    let retries = |resource: &mut Resource| {
        if let Resource::Route(route) = resource {
            route.rules[0].retry = Some(retry.clone());
        }
    };
    let (gateway, mut client) = gateway_with(&[&backend], spec, retries).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, None));
    assert_eq!(backend.counts().requests, 1);
    let metrics = Client::http1(gateway.running.admin()).await.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.contains("decision=\"over_cap\"} 1"), "{text}");
}

#[tokio::test]
async fn a_key_at_its_cap_is_refused_alone_and_who_leaves_gives_his_place_back() {
    let backend = FaultBackend::start().await;
    let spec =
        json!({"caps": [{"scope": "Key", "key": [{"type": "Header", "name": "x-tenant"}], "requests": 1}]});
    let (gateway, mut client) = gateway(&[&backend], spec).await;
    let address = gateway.address().await;
    let of = |tenant: &str| Request::get("/").header("x-tenant", tenant).body(full("")).unwrap();
    backend.push(Script::Hang);
    let request = of("a");
    let waiting = tokio::spawn(async move { Client::http1(address).await.call(request).await });
    backend.until(|c| c.requests == 1).await;
    assert_eq!(client.call(of("a")).await.reason(), Some("request_cap"));
    assert_eq!(client.call(of("b")).await.status, 200);
    let cap =
        |health: Value| health["caps"].as_array().unwrap().iter().find(|cap| cap["scope"] == "Key").cloned();
    let told = cap(health(&gateway).await).unwrap();
    assert_eq!((&told["used"], &told["of"]), (&json!(1), &json!("the fullest of 1 keys")));
    waiting.abort();
    backend.until(|c| c.cancelled == 1).await;
    // The connection closes a moment before the place is given back.
    while client.call(of("a")).await.status != 200 {}
    assert_eq!(cap(health(&gateway).await).unwrap()["used"], 0);
}
