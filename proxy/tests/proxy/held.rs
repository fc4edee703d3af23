//! What a limit holds until the answer is out: a place among those under way, and a cost that the answer tells.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::TargetKind;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::Client;
use tokio::sync::Notify;

use crate::mesh::{Gateway, everything_to, policy};

async fn gateway(backend: &FaultBackend, spec: Value) -> Gateway {
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), spec));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

fn one_at_a_time() -> Value {
    json!({"concurrent": [{"name": "one", "atMost": 1}]})
}

async fn ask(gateway: &Gateway) -> u16 {
    let mut client = Client::http1(gateway.address().await).await;
    client.call(Request::get("/").body(empty()).unwrap()).await.status.as_u16()
}

/// Until a place is free. What a client gave up, the proxy notices when it next looks at the connection.
async fn until_let_through(gateway: &Gateway) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while ask(gateway).await != 200 {
        assert!(tokio::time::Instant::now() < end, "the place was never given back");
        tokio::task::yield_now().await;
    }
}

/// A request in a task of its own that has reached the backend.
async fn under_way(gateway: &Gateway, backend: &FaultBackend) -> tokio::task::JoinHandle<u16> {
    let before = backend.counts().requests;
    let address = gateway.address().await;
    let task = tokio::spawn(async move {
        let mut client = Client::http1(address).await;
        client.call(Request::get("/").body(empty()).unwrap()).await.status.as_u16()
    });
    backend.until(|counts| counts.requests > before).await;
    task
}

#[tokio::test]
async fn a_place_is_taken_until_the_answer_is_out() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("fine").into());
    let gateway = gateway(&backend, one_at_a_time()).await;
    let go = Arc::new(Notify::new());
    backend.push(Script::After(go.clone(), Box::new(Reply::text("late").into())));
    let first = under_way(&gateway, &backend).await;
    assert_eq!(ask(&gateway).await, 429);
    go.notify_one();
    assert_eq!(first.await.unwrap(), 200);
    until_let_through(&gateway).await;
    assert_eq!([ask(&gateway).await, ask(&gateway).await], [200, 200]);
}

#[tokio::test]
async fn a_client_that_goes_gives_its_place_back_and_so_does_an_answer_that_breaks_off() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("fine").into());
    let gateway = gateway(&backend, one_at_a_time()).await;
    backend.push(Script::Hang);
    let first = under_way(&gateway, &backend).await;
    assert_eq!(ask(&gateway).await, 429);
    first.abort();
    until_let_through(&gateway).await;
    for script in [Script::Reset, Script::Cut(Bytes::from_static(b"half"), Arc::new(Notify::new()))] {
        if let Script::Cut(_, now) = &script {
            now.notify_one();
        }
        backend.push(script);
        let broken = under_way(&gateway, &backend).await;
        drop(broken.await);
        until_let_through(&gateway).await;
    }
}

#[tokio::test]
async fn what_the_backend_says_a_request_cost_is_charged_before_the_next() {
    let backend = FaultBackend::start().await;
    let limit = json!({
        "name": "tokens", "requests": 100, "per": "1h", "responseCost": {"header": "x-tokens"},
    });
    let gateway = gateway(&backend, json!({"limits": [limit]})).await;
    backend.always(Reply::text("fine").header("x-tokens", "60").into());
    assert_eq!([ask(&gateway).await, ask(&gateway).await, ask(&gateway).await], [200, 200, 429]);
}
