//! Endpoints that fail, clients that leave, requests that make no sense: a clear answer, and nothing sent twice.

use std::sync::Arc;
use std::time::Duration;

use crate::mesh::{Gateway, everything_to, get, policy, post, route, sidecar, sidecar_config};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::json;
use tidegate_policy::model::{AppProtocol, Resource, TargetKind, Timeouts};
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{TestBody, full, streaming};
use tidegate_testkit::client::{Answer, Client, RawClient};
use tokio::net::TcpListener;
use tokio::sync::Notify;

async fn status_and_reason(proxy: &Running, request: Request<TestBody>) -> (u16, String) {
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    let answer = client.call(request).await;
    (answer.status.as_u16(), answer.reason().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_dead_endpoint_is_503_connect_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let proxy = sidecar(dead);
    assert_eq!(status_and_reason(&proxy, get("/")).await, (503, "connect_failed".into()));
}

#[tokio::test]
async fn a_grpc_caller_of_a_dead_endpoint_is_told_in_its_own_dialect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    drop(listener);
    let proxy = sidecar(dead);
    let mut client = Client::http2(proxy.inbound().unwrap()).await;
    let request =
        Request::post("/shop.Cart/Get").header("content-type", "application/grpc").body(full("x")).unwrap();
    let answer = client.call(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["grpc-status"], "14");
    assert_eq!(answer.reason(), Some("connect_failed"));
}

#[tokio::test]
async fn a_reset_or_a_close_before_the_answer_is_503() {
    for script in [Script::Reset, Script::Close] {
        for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
            let backend = FaultBackend::start().await;
            backend.always(script.clone());
            let proxy = Proxy::start(sidecar_config(backend.address(), protocol)).unwrap();
            let told = status_and_reason(&proxy, post("/", "x")).await;
            assert_eq!(told, (503, "upstream_reset".into()), "{script:?} {protocol:?}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_http_is_502_upstream_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = sidecar(listener.local_addr().unwrap());
    let told = tokio::spawn(async move { status_and_reason(&proxy, get("/")).await });
    let mut server = RawClient::from(listener.accept().await.unwrap().0);
    server.read_until("\r\n\r\n").await;
    server.write("SSH-2.0-OpenSSH_9.2p1\r\n\r\n").await;
    assert_eq!(told.await.unwrap(), (502, "upstream_protocol".into()));
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_504_after_the_timeout() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    config.request_timeout = Some(Duration::from_millis(20));
    let proxy = Proxy::start(config).unwrap();
    assert_eq!(status_and_reason(&proxy, post("/", "x")).await, (504, "request_timeout".into()));
    // The call was given up, and its connection with it.
    backend.until(|c| c.open == 0 && c.cancelled == 1).await;
}

#[tokio::test]
async fn the_timeout_of_the_rule_wins_over_the_default() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let mut gateway = Gateway::start();
    let mut rules = route("v1");
    rules.rules[0].timeouts = Timeouts { request: None, backend_request: Some(Duration::from_millis(20)) };
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(Resource::Route(rules));
    gateway.apply(all);
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.get("/").await.reason(), Some("request_timeout"));
}

#[tokio::test]
async fn the_default_timeout_does_not_run_while_the_client_still_sends() {
    let backend = FaultBackend::start().await;
    let go = Arc::new(Notify::new());
    backend.push(Script::After(go.clone(), Box::new(Script::Echo)));
    let limit = Duration::from_millis(1);
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    config.request_timeout = Some(limit);
    let proxy = Proxy::start(config).unwrap();
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    let (frames, body) = streaming();
    let calling = tokio::spawn(async move { client.send(Request::post("/").body(body).unwrap()).await });
    backend.until(|c| c.requests == 1).await;
    tokio::time::sleep(limit * 50).await;
    go.notify_one();
    let response = calling.await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    frames.data("late").await;
    drop(frames);
    assert_eq!(Answer::read(response).await.unwrap().body, "late");
}

#[tokio::test]
async fn connections_that_died_while_idle_are_replaced_and_nobody_notices() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let backend = FaultBackend::start().await;
        let proxy = Proxy::start(sidecar_config(backend.address(), protocol)).unwrap();
        let mut client = Client::http1(proxy.inbound().unwrap()).await;
        // Many rounds: the request races with the news that the connection has ended.
        for round in 1..=300 {
            // hyper may have queued frames of a POST over HTTP/2 by then, so only what is safe to repeat is repeated.
            let request = if protocol == AppProtocol::H2c { get("/") } else { post("/", "body") };
            assert_eq!(client.call(request).await.status, 200, "{protocol:?}");
            backend.hang_up();
            backend.until(|c| c.open == 0).await;
            assert_eq!(backend.counts().requests, round);
        }
    }
}

#[tokio::test]
async fn a_get_on_a_pooled_connection_that_dies_is_sent_again() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    assert_eq!(client.get("/").await.status, 200);
    backend.push(Script::Close);
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(backend.counts().requests, 3);
}

#[tokio::test]
async fn a_post_on_a_pooled_connection_that_dies_midway_is_not_sent_again() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    assert_eq!(client.get("/").await.status, 200);
    backend.push(Script::ReadThenReset);
    let answer = client.call(post("/", "pay 5")).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("upstream_reset")));
    assert_eq!(backend.counts().requests, 2);
}

#[tokio::test]
async fn a_response_that_breaks_off_breaks_off_for_the_client_too() {
    let backend = FaultBackend::start().await;
    let notify = Arc::new(Notify::new());
    backend.push(Script::Cut(Bytes::from_static(b"half"), notify.clone()));
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    let mut body = client.send(get("/")).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    notify.notify_one();
    assert!(body.collect().await.is_err(), "a cut body must not look whole");
    assert_eq!(Client::http1(proxy.inbound().unwrap()).await.get("/").await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call_upstream() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let backend = FaultBackend::start().await;
        backend.always(Script::Hang);
        let proxy = Proxy::start(sidecar_config(backend.address(), protocol)).unwrap();
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        backend.until(|c| c.requests == 1).await;
        drop(client);
        backend.until(|c| c.cancelled == 1).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_during_the_response_cancels_it_upstream() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n").await;
    client.read_until("body").await;
    client.reset();
    backend.until(|c| c.open == 0).await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_and_the_connection_closed() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(request).await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request:?}: {answer}");
        assert!(answer.contains("x-tidegate-reason: bad_request"), "{request:?}: {answer}");
        assert!(answer.contains("connection: close"), "{request:?}: {answer}");
    }
    assert_eq!(backend.counts().requests, 0);
}

#[tokio::test]
async fn a_body_that_cannot_be_parsed_is_the_clients_fault_and_goes_nowhere_whole() {
    let backend = FaultBackend::start().await;
    backend.always(Script::ReadThenReset);
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client
        .write("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\nzzz\r\n")
        .await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("bad_request"), "{answer}");
    backend.until(|c| c.open == 0).await;
}

#[tokio::test]
async fn no_route_is_404_and_the_connection_stays() {
    let gateway = Gateway::start().to(&[]).await;
    let mut client = Client::http1(gateway.address().await).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("no_endpoint")));
    let mut gateway = gateway;
    let mut other = route("v1");
    other.rules[0].matches[0].method = Some(Method::DELETE);
    gateway.apply(vec![Resource::Route(other)]);
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (404, Some("no_route")));
    assert!(!client.is_closed());
}

#[tokio::test]
async fn an_open_circuit_refuses_at_once_with_a_time_to_come_back() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::status(500).into());
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(breaker(
        &json!({"breakers": [{"name": "b", "scope": "Backend", "consecutiveFailures": 3, "open": "1h"}]}),
    ));
    gateway.apply(all);
    let mut client = Client::http1(gateway.address().await).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.status, 500);
    }
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("circuit_open")));
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(backend.counts().requests, 3);
}

#[tokio::test]
async fn grpc_failures_that_come_in_trailers_open_the_circuit() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::grpc("half an answer", 14).into());
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    let spec =
        json!({"breakers": [{"name": "b", "scope": "Backend", "consecutiveFailures": 3, "open": "1h"}]});
    all.push(breaker(&spec));
    gateway.apply(all);
    let mut client = Client::http2(gateway.address().await).await;
    let request = || Request::post("/shop.Cart/Get").header("content-type", "application/grpc");
    for _ in 0..3 {
        assert_eq!(client.call(request().body(full("x")).unwrap()).await.trailers["grpc-status"], "14");
    }
    let answer = client.call(request().body(full("x")).unwrap()).await;
    assert_eq!(answer.reason(), Some("circuit_open"));
    assert_eq!((answer.status.as_u16(), &answer.headers["grpc-status"]), (200, &"14".parse().unwrap()));
    assert_eq!(backend.counts().requests, 3);
    let status = Client::http1(gateway.running.admin()).await.get("/status").await;
    assert!(String::from_utf8_lossy(&status.body).contains("\"state\": \"open\""), "{status:?}");
}

#[tokio::test]
async fn at_the_cap_on_connections_requests_wait_for_the_next_that_is_free() {
    let backend = FaultBackend::start().await;
    let go = Arc::new(Notify::new());
    backend.push(Script::After(go.clone(), Box::default()));
    let mut gateway = Gateway::with(|config| config.connect_timeout = Duration::from_secs(60));
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(breaker(&json!({"caps": [{"scope": "Backend", "connections": 1, "pending": 1}]})));
    gateway.apply(all);
    let address = gateway.address().await;
    let first = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    backend.until(|c| c.requests == 1).await;
    let mut a = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    let mut b = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    // One of them waits and the other is refused; which, is decided by who comes first.
    let (refused, waiting) = tokio::select! {
        refused = &mut a => (refused, b),
        refused = &mut b => (refused, a),
    };
    assert_eq!(refused.unwrap().reason(), Some("pending_cap"));
    go.notify_one();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(waiting.await.unwrap().status, 200);
    assert_eq!(backend.counts().connections, 1);
}

#[tokio::test]
async fn at_the_cap_an_idle_connection_of_one_endpoint_makes_room_for_another() {
    let (a, b) = (FaultBackend::start().await, FaultBackend::start().await);
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[a.address(), b.address()]);
    all.push(breaker(&json!({"caps": [{"scope": "Backend", "connections": 1, "pending": 8}]})));
    gateway.apply(all);
    let mut client = Client::http1(gateway.address().await).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert!(a.counts().requests > 0 && b.counts().requests > 0);
    assert!(a.counts().open + b.counts().open <= 2);
}

#[tokio::test]
async fn a_rate_limit_answers_429_and_the_backend_sees_nothing() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    let target = (TargetKind::HTTPRoute, "all");
    all.push(policy(
        "RateLimitPolicy",
        target,
        json!({"limits": [{"name": "two", "requests": 2, "per": "1h"}]}),
    ));
    gateway.apply(all);
    let mut client = Client::http1(gateway.address().await).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status, 200);
    }
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (429, Some("rate_limited")));
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(backend.counts().requests, 2);
}

fn breaker(spec: &serde_json::Value) -> Resource {
    policy("CircuitBreakerPolicy", (TargetKind::Service, "v1"), spec.clone())
}
