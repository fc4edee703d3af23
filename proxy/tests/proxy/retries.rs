//! Requests that are sent again, and those that must not be.

use crate::mesh;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mesh::{Gateway, everything_to, get, policy, post, service_at};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use serde_json::json;
use tidegate_policy::model::{AppProtocol, Resource, Retry, TargetKind, Timeouts};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{full, streaming};
use tidegate_testkit::client::{Answer, Client, RawClient};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const NO_TIMEOUTS: Timeouts = Timeouts { request: None, backend_request: None };
/// As much of a body as is kept for another attempt.
const BOUND: usize = 64 * 1024;

fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

fn retry(codes: &[u16], attempts: u32) -> Retry {
    Retry { codes: codes.into(), attempts, backoff: millis(0) }
}

fn config(endpoints: &[SocketAddr], retry: &Retry, timeouts: Timeouts) -> Vec<Resource> {
    let mut all = everything_to("v1", endpoints);
    for resource in &mut all {
        if let Resource::Route(route) = resource {
            route.rules[0].retry = Some(retry.clone());
            route.rules[0].timeouts = timeouts;
        }
    }
    all
}

async fn gateway(endpoints: &[SocketAddr], retry: Retry, timeouts: Timeouts) -> (Gateway, Client) {
    let mut gateway = Gateway::start();
    gateway.apply(config(endpoints, &retry, timeouts));
    let client = Client::http1(gateway.address().await).await;
    (gateway, client)
}

async fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn attempts(backend: &FaultBackend) -> Vec<String> {
    let number = |headers: &HeaderMap| headers["x-tidegate-attempt"].to_str().unwrap().to_owned();
    backend.seen().iter().map(|head| number(&head.headers)).collect()
}

#[tokio::test]
async fn a_listed_status_is_tried_again_and_the_backend_told_so() {
    let backend = FaultBackend::start().await;
    backend.push(Reply::status(503).into()).push(Reply::text("at last").into());
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[503], 3), NO_TIMEOUTS).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"at last"[..]));
    assert_eq!(attempts(&backend), ["1", "2"]);
}

#[tokio::test]
async fn two_attempts_are_two_retries_and_the_last_answer_is_passed_on() {
    let backend = FaultBackend::start().await;
    for body in ["first", "second", "third", "fourth"] {
        backend.push(Script::Reply(Reply { status: http::StatusCode::BAD_GATEWAY, ..Reply::text(body) }));
    }
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[502], 2), NO_TIMEOUTS).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (502, &b"third"[..]));
    assert_eq!((answer.reason(), attempts(&backend).len()), (None, 3));
}

#[tokio::test]
async fn a_status_that_is_not_listed_is_the_answer() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::status(500).into());
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[503], 3), NO_TIMEOUTS).await;
    assert_eq!(client.get("/").await.status, 500);
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn a_refused_connection_is_retried_at_another_endpoint_whatever_the_method() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let (_gateway, mut client) =
        gateway(&[dead().await, backend.address()], retry(&[], 1), NO_TIMEOUTS).await;
    // One retry is enough because it never goes to the endpoint that has just failed. Ten such retries are always
    // within the budget.
    for _ in 0..10 {
        let answer = client.call(post("/", "pay 5")).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"pay 5"[..]));
    }
    let second = attempts(&backend).iter().filter(|number| **number == "2").count();
    assert!(second > 0, "the dead endpoint was never picked");
}

#[tokio::test]
async fn a_refused_connection_without_another_endpoint_is_503() {
    let (_gateway, mut client) = gateway(&[dead().await], retry(&[], 2), NO_TIMEOUTS).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("connect_failed")));
}

#[tokio::test]
async fn a_reset_is_retried_for_get_and_put_but_never_for_post() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let backend = FaultBackend::start().await;
        let mut gateway = Gateway::start();
        gateway.apply(config(&[], &retry(&[503], 1), NO_TIMEOUTS));
        gateway.apply(service_at("v1", protocol, &[backend.address()]));
        let mut client = Client::http1(gateway.address().await).await;
        backend.push(Script::Reset);
        assert_eq!(client.get("/").await.status, 200, "{protocol:?}");
        backend.push(Script::ReadThenReset).push(Script::Echo);
        let answer = client.call(Request::put("/").body(full("twice as good")).unwrap()).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"twice as good"[..]), "{protocol:?}");
        let before = backend.counts().requests;
        backend.push(Script::ReadThenReset);
        let answer = client.call(post("/", "pay 5")).await;
        assert_eq!(answer.reason(), Some("upstream_reset"), "{protocol:?}");
        assert_eq!(backend.counts().requests, before + 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_post_is_sent_again_whole_where_its_answers_code_is_listed() {
    let backend = FaultBackend::start().await;
    backend.push(Reply::status(503).into()).push(Script::Echo);
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[503], 1), NO_TIMEOUTS).await;
    let answer = client.call(post("/", "an order")).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"an order"[..]));
}

#[tokio::test]
async fn a_body_up_to_the_bound_is_sent_again_and_a_larger_one_is_not() {
    for (size, requests) in [(BOUND, 2), (BOUND + 1, 1)] {
        let backend = FaultBackend::start().await;
        // Reads the body to its end, so that all of it has passed.
        backend.push(Script::ReadThenReset).push(Script::Echo);
        let (_gateway, mut client) = gateway(&[backend.address()], retry(&[], 1), NO_TIMEOUTS).await;
        let body: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let answer = client.call(Request::put("/").body(full(body.clone())).unwrap()).await;
        assert_eq!(backend.counts().requests, requests, "{size}");
        match requests {
            1 => assert_eq!(answer.reason(), Some("upstream_reset")),
            _ => assert!(answer.body == body, "not the same body"),
        }
    }
}

#[tokio::test]
async fn a_body_that_still_comes_in_goes_on_in_the_next_attempt() {
    let backend = FaultBackend::start().await;
    backend.push(Reply::status(503).into()).push(Script::Echo);
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[503], 1), NO_TIMEOUTS).await;
    let (frames, body) = streaming();
    let calling = tokio::spawn(async move { client.call(Request::put("/").body(body).unwrap()).await });
    frames.data("before, ").await;
    backend.until(|c| c.requests == 2).await;
    frames.data("after").await;
    drop(frames);
    let answer = calling.await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"before, after"[..]));
}

#[tokio::test]
async fn a_body_that_moves_in_the_next_attempt_keeps_the_default_timeout_waiting() {
    const LIMIT: Duration = Duration::from_millis(500);
    let backend = FaultBackend::start().await;
    backend.push(Reply::status(503).into()).push(Script::Echo);
    let mut gateway = Gateway::with(|config| config.request_timeout = Some(LIMIT));
    gateway.apply(config(&[backend.address()], &retry(&[503], 1), NO_TIMEOUTS));
    let mut client = Client::http1(gateway.address().await).await;
    let (frames, body) = streaming();
    let calling = tokio::spawn(async move { client.call(Request::put("/").body(body).unwrap()).await });
    frames.data("slow ").await;
    backend.until(|c| c.requests == 2).await;
    tokio::time::sleep(2 * LIMIT).await;
    frames.data("client").await;
    drop(frames);
    let answer = calling.await.unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"slow client"[..]));
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_body_is_408_in_a_later_attempt_too() {
    let backend = FaultBackend::start().await;
    backend.push(Reply::status(503).into()).always(Script::ReadThenReset);
    let mut gateway = Gateway::with(|config| config.stall_timeout = millis(200));
    gateway.apply(config(&[backend.address()], &retry(&[503], 5), NO_TIMEOUTS));
    let mut client = RawClient::connect(gateway.address().await).await;
    client.write("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
    let answer = client.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("client_stalled"), "{answer}");
    assert_eq!(attempts(&backend), ["1", "2"], "no endpoint can help it");
}

#[tokio::test]
async fn trailers_are_sent_again_too() {
    let backend = FaultBackend::start().await;
    backend.push(Script::ReadThenReset).push(Script::Echo);
    let mut gateway = Gateway::start();
    gateway.apply(config(&[], &retry(&[], 1), NO_TIMEOUTS));
    gateway.apply(service_at("v1", AppProtocol::H2c, &[backend.address()]));
    let mut client = Client::http2(gateway.address().await).await;
    let (frames, body) = streaming();
    let calling = tokio::spawn(async move { client.call(Request::put("/").body(body).unwrap()).await });
    frames.data("data").await;
    frames
        .trailers([(http::HeaderName::from_static("x-sum"), "42".parse().unwrap())].into_iter().collect())
        .await;
    drop(frames);
    let answer = calling.await.unwrap();
    assert_eq!((&*answer.body, &answer.trailers["x-sum"]), (&b"data"[..], &"42".parse().unwrap()));
}

#[tokio::test]
async fn retries_stay_within_the_backends_budget() {
    const REQUESTS: usize = 500;
    let backend = FaultBackend::start().await;
    backend.always(Reply::status(503).into());
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[503], 3), NO_TIMEOUTS).await;
    let started = Instant::now();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").await.status, 503);
    }
    // Ten in each second of the clock that was touched, and a fifth of all.
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 2;
    let retries = backend.counts().requests - REQUESTS;
    assert!(retries >= REQUESTS / 5, "only {retries}");
    assert!(retries <= REQUESTS / 5 + 10 * seconds, "{retries} in {seconds} s");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_retried_and_the_last_is_504() {
    let backend = FaultBackend::start().await;
    let timeouts = Timeouts { request: None, backend_request: millis(50) };
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[], 1), timeouts).await;
    backend.push(Script::Hang).push(Script::Hang);
    let answer = client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (504, Some("request_timeout")));
    assert_eq!(attempts(&backend), ["1", "2"]);
    backend.until(|c| c.cancelled == 2).await;
}

#[tokio::test]
async fn the_request_timeout_bounds_all_attempts_and_the_waits_between_them() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::status(503).into());
    let timeouts = Timeouts { request: millis(50), backend_request: None };
    let patient = Retry { backoff: Some(Duration::from_secs(3600)), ..retry(&[503], 5) };
    let (_gateway, mut client) = gateway(&[backend.address()], patient, timeouts).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status, 503, "nobody waits for an attempt that would come too late");
    assert_eq!(backend.counts().requests, 1);

    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[], 5), timeouts).await;
    assert_eq!(client.get("/").await.reason(), Some("request_timeout"));
    assert_eq!(backend.counts().requests, 1, "the whole call was over, not only the attempt");
}

#[tokio::test]
async fn a_response_that_is_not_whole_in_time_breaks_off() {
    for timeouts in [
        Timeouts { request: millis(50), backend_request: None },
        Timeouts { request: None, backend_request: millis(50) },
        // The earlier of both.
        Timeouts { request: millis(3_600_000), backend_request: millis(50) },
        Timeouts { request: millis(50), backend_request: millis(3_600_000) },
    ] {
        let backend = FaultBackend::start().await;
        backend.push(Script::Cut(Bytes::from_static(b"half"), Arc::new(Notify::new())));
        let (_gateway, mut client) = gateway(&[backend.address()], retry(&[], 1), timeouts).await;
        let response = client.send(get("/")).await.unwrap();
        assert_eq!(response.status(), 200);
        let whole = tokio::time::timeout(Duration::from_secs(60), response.into_body().collect()).await;
        assert!(whole.expect("it breaks off").is_err(), "a cut body must not look whole");
        backend.until(|c| c.open == 0).await;
    }
}

#[tokio::test]
async fn an_open_circuit_ends_the_retries() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::status(503).into());
    let mut gateway = Gateway::start();
    let mut all = config(&[backend.address()], &retry(&[503], 5), NO_TIMEOUTS);
    let spec =
        json!({"breakers": [{"name": "b", "scope": "Backend", "consecutiveFailures": 2, "open": "1h"}]});
    all.push(policy("CircuitBreakerPolicy", (TargetKind::Service, "v1"), spec));
    gateway.apply(all);
    let answer = Client::http1(gateway.address().await).await.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("circuit_open")));
    assert_eq!(backend.counts().requests, 2);
}

#[tokio::test]
async fn a_client_that_leaves_is_not_retried_for() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let (gateway, _client) = gateway(&[backend.address()], retry(&[503], 5), NO_TIMEOUTS).await;
    let address = gateway.address().await;
    let calling = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    backend.until(|c| c.requests == 1).await;
    calling.abort();
    let counts = backend.until(|c| c.cancelled == 1 && c.open == 0).await;
    assert_eq!(counts.requests, 1);
}

#[tokio::test]
async fn without_a_stanza_nothing_is_sent_again_and_nothing_is_told() {
    let backend = FaultBackend::start().await;
    backend.push(Reply::status(503).into());
    let gateway = Gateway::start().to(&[backend.address()]).await;
    let request = Request::builder().method(Method::GET).uri("/").header("x-tidegate-attempt", "7");
    let answer: Answer = Client::http1(gateway.address().await)
        .await
        .call(request.body(tidegate_testkit::body::empty()).unwrap())
        .await;
    assert_eq!(answer.status, 503);
    assert!(!backend.seen()[0].headers.contains_key("x-tidegate-attempt"), "not even what a client said");
}

#[tokio::test]
async fn of_two_tiers_only_the_first_retries_and_clients_outside_have_no_say() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Reply(Reply::status(503)));
    let (_gateway, mut client) = gateway(&[backend.address()], retry(&[503], 1), NO_TIMEOUTS).await;
    let told =
        || Request::get("/").header("x-tidegate-attempt", "1").body(tidegate_testkit::body::empty()).unwrap();
    assert_eq!(client.call(told()).await.status, 503);
    assert_eq!(attempts(&backend), ["1", "2"], "what a client says at the edge is not passed on");

    let mut config = mesh::config();
    config.outbound = Some(mesh::loopback(0));
    config.local.namespace = "shop".into();
    let sidecar = tidegate_proxy::Proxy::start(config).unwrap();
    let mut applier = tidegate_proxy::config::Applier::new(sidecar.state().clone());
    let mut upserts = service_at("v1", AppProtocol::Http1, &[backend.address()]);
    let mut route = mesh::route("v1");
    route.rules[0].retry = Some(retry(&[503], 1));
    let service = tidegate_policy::model::ResourceName::new("shop", "v1");
    route.parents = vec![tidegate_policy::model::RouteParent::Service { service, port: None }];
    upserts.push(Resource::Route(route));
    assert_eq!(applier.apply(tidegate_proxy::config::Change { upserts, removed: Vec::new() }), []);
    let mut client = Client::http1(sidecar.outbound().unwrap()).await;
    let ask = |attempt: Option<&str>| {
        let request = attempt
            .iter()
            .fold(Request::get("/").header("host", "v1"), |r, n| r.header("x-tidegate-attempt", *n));
        request.body(tidegate_testkit::body::empty()).unwrap()
    };
    assert_eq!(client.call(ask(Some("2"))).await.status, 503);
    assert_eq!(attempts(&backend)[2..], ["2"], "the tier before retries: once, and its number passed on");
    assert_eq!(client.call(ask(None)).await.status, 503);
    assert_eq!(attempts(&backend)[3..], ["1", "2"]);
}

#[tokio::test]
async fn retries_are_counted_and_those_that_the_budget_refuses_by_their_own_name() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Reply(Reply::status(503)));
    let (gateway, mut client) = gateway(&[backend.address()], retry(&[503], 1), NO_TIMEOUTS).await;
    for _ in 0..100 {
        client.get("/").await;
    }
    let page = Client::http1(gateway.running.admin()).await.get("/metrics").await.body;
    let page = String::from_utf8(page.to_vec()).unwrap();
    let count = |decision: &str| {
        let name = format!("tidegate_retries_total{{backend=\"shop/v1:80\",decision=\"{decision}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |n| n.parse::<u32>().unwrap())
    };
    // Ten in each second, and a fifth of all: a hundred at once are more than that.
    assert_eq!(count("made") + count("over_budget"), 100, "{page}");
    assert_eq!(count("made"), count("exhausted"), "none of them helped");
    assert_eq!(backend.counts().requests, 100 + count("made") as usize);
}
