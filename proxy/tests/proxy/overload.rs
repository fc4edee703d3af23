//! More to do than a service can: who waits, who is served, who is told at once.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::TargetKind;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Answer, Client};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::mesh::{Gateway, everything_to, get, policy};

/// Long enough for whatever a test waits for.
const PATIENT: &str = "1m";

async fn gateway(backend: &FaultBackend, spec: Value) -> Gateway {
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(policy("OverloadPolicy", (TargetKind::HTTPRoute, "all"), spec));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

/// A request in a task of its own.
async fn start(gateway: &Gateway, path: &'static str) -> JoinHandle<Answer> {
    let address = gateway.address().await;
    tokio::spawn(async move { Client::http1(address).await.call(get(path)).await })
}

/// Until the gate says so.
async fn until(gateway: &Gateway, in_flight: u32, queued: u32) {
    let wanted = |load: tidegate_policy::overload::Load| (load.in_flight, load.queued) == (in_flight, queued);
    let waited = async {
        loop {
            let snapshot = gateway.running.state().store.load();
            if snapshot.gates().any(|(_, load)| wanted(load)) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
    assert!(waited.is_ok(), "never {in_flight} in flight and {queued} queued");
}

/// Answers as often as it is told to.
async fn backend() -> (FaultBackend, Arc<Notify>) {
    let (backend, go) = (FaultBackend::start().await, Arc::new(Notify::new()));
    backend.always(Script::After(go.clone(), Box::new(Reply::text("done").into())));
    (backend, go)
}

#[tokio::test]
async fn who_finds_no_room_is_told_at_once_and_grpc_in_its_own_words() {
    let (backend, go) = backend().await;
    let gateway = gateway(&backend, json!({"limit": 1, "queue": {"max": 0}})).await;
    let first = start(&gateway, "/").await;
    backend.until(|counts| counts.requests == 1).await;
    let answer = start(&gateway, "/").await.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("overloaded")));
    assert_eq!(answer.headers["retry-after"], "1");
    let grpc = Request::post("/a.B/C").header("content-type", "application/grpc").body(empty()).unwrap();
    let answer = Client::http2(gateway.address().await).await.call(grpc).await;
    assert_eq!(answer.headers["grpc-status"], "14");
    assert!(answer.headers.contains_key("grpc-status-details-bin"), "when to come again");
    go.notify_one();
    assert_eq!(first.await.unwrap().status, 200);
    until(&gateway, 0, 0).await;
    assert_eq!(backend.counts().requests, 1);
    let page = Client::http1(gateway.running.admin()).await.get("/metrics").await.body;
    assert!(String::from_utf8_lossy(&page).contains("tidegate_overload_limit{policy=\"shop/policy\"} 1"));
}

#[tokio::test]
async fn those_who_wait_are_served_by_importance() {
    let (backend, go) = backend().await;
    let classes = json!([{"name": "critical", "when": "request.path == '/pay'"}]);
    let queue = json!({"max": 10, "maxWait": PATIENT, "interval": PATIENT});
    let gateway = gateway(&backend, json!({"limit": 1, "classes": classes, "queue": queue})).await;
    let first = start(&gateway, "/first").await;
    backend.until(|counts| counts.requests == 1).await;
    let low = start(&gateway, "/low").await;
    until(&gateway, 1, 1).await;
    let high = start(&gateway, "/pay").await;
    until(&gateway, 1, 2).await;
    for (served, task) in [first, high, low].into_iter().enumerate() {
        backend.until(|counts| counts.requests == served + 1).await;
        go.notify_one();
        assert_eq!(task.await.unwrap().status, 200);
    }
    let paths: Vec<_> = backend.seen().iter().map(|head| head.uri.path().to_owned()).collect();
    assert_eq!(paths, ["/first", "/pay", "/low"]);
}

#[tokio::test]
async fn a_client_that_goes_gives_its_place_back_and_so_does_one_that_waits() {
    let (backend, go) = backend().await;
    let queue = json!({"max": 10, "maxWait": PATIENT});
    let gateway = gateway(&backend, json!({"limit": 1, "queue": queue})).await;
    let first = start(&gateway, "/").await;
    backend.until(|counts| counts.requests == 1).await;
    let second = start(&gateway, "/").await;
    until(&gateway, 1, 1).await;
    second.abort();
    until(&gateway, 1, 0).await;
    let third = start(&gateway, "/").await;
    until(&gateway, 1, 1).await;
    first.abort();
    until(&gateway, 1, 0).await;
    backend.until(|counts| counts.requests == 2).await;
    go.notify_waiters();
    go.notify_one();
    assert_eq!(third.await.unwrap().status, 200);
    until(&gateway, 0, 0).await;
}

#[tokio::test]
async fn who_waits_in_vain_is_told_when_his_time_is_over() {
    let (backend, go) = backend().await;
    let gateway = gateway(&backend, json!({"limit": 1, "queue": {"max": 10, "maxWait": "30ms"}})).await;
    let first = start(&gateway, "/").await;
    backend.until(|counts| counts.requests == 1).await;
    let answer = start(&gateway, "/").await.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("overloaded")));
    until(&gateway, 1, 0).await;
    go.notify_one();
    assert_eq!(first.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_proxy_takes_no_more_requests_at_a_time_than_its_flag_says() {
    let (backend, go) = backend().await;
    let gateway = Gateway::with(|config| config.max_requests = 1.try_into().ok());
    let gateway = gateway.to(&[backend.address()]).await;
    let first = start(&gateway, "/").await;
    backend.until(|counts| counts.requests == 1).await;
    let answer = start(&gateway, "/").await.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("overloaded")));
    go.notify_one();
    assert_eq!(first.await.unwrap().status, 200);
    // A record is dropped a moment after its answer has come.
    let again = async {
        loop {
            go.notify_one();
            if start(&gateway, "/").await.await.unwrap().status == 200 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("room again");
}
