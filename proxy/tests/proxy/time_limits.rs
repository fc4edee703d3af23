//! Which of several limits of time holds for a call, and what a written one takes the place of.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::{Resource, TargetKind};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::streaming;
use tidegate_testkit::client::{Client, RawClient};
use tokio::time::{sleep, timeout};

use crate::mesh::{Gateway, everything_to, policy};

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the proxy itself.
const DEFAULT: Duration = Duration::from_millis(50);

fn limits(spec: Value) -> Resource {
    policy("TimeoutPolicy", (TargetKind::Service, "v1"), spec)
}

async fn impatient(backend: &FaultBackend, spec: Value) -> Gateway {
    let mut gateway = Gateway::with(|config| {
        config.request_timeout = Some(DEFAULT);
        config.stall_timeout = Some(DEFAULT);
    });
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(limits(spec));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

#[tokio::test]
async fn a_tunnel_that_is_used_lasts_no_longer_than_its_stream_may() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Tunnel);
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(limits(json!({"streamDuration": "300ms"})));
    gateway.apply(all);
    let mut client = RawClient::connect(gateway.address().await).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    client.write("hello").await;
    assert_eq!(client.read_until("hello").await, "hello");
    timeout(PATIENCE, client.read_to_end()).await.expect("it ends");
}

#[tokio::test]
async fn a_limit_for_each_attempt_takes_the_place_of_the_default_for_all() {
    let backend = FaultBackend::start().await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    backend.push(Script::After(go.clone(), Box::new(Reply::text("late").into())));
    let gateway = impatient(&backend, json!({"perTry": "1h"})).await;
    let mut client = Client::http1(gateway.address().await).await;
    let calling = tokio::spawn(async move { client.get("/").await });
    backend.until(|counts| counts.requests == 1).await;
    sleep(DEFAULT * 4).await;
    go.notify_one();
    assert_eq!(calling.await.unwrap().status, 200);
}

#[tokio::test]
async fn an_upload_may_stand_still_where_the_request_has_a_limit_of_its_own() {
    let backend = FaultBackend::start().await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    backend.push(Script::After(go.clone(), Box::new(Script::Echo)));
    let gateway = impatient(&backend, json!({"request": "1h"})).await;
    let mut client = Client::http1(gateway.address().await).await;
    let (frames, body) = streaming();
    let calling = tokio::spawn(async move { client.call(Request::put("/").body(body).unwrap()).await });
    frames.data("one, ").await;
    backend.until(|counts| counts.requests == 1).await;
    sleep(DEFAULT * 4).await;
    frames.data("two").await;
    drop(frames);
    go.notify_one();
    let answer = timeout(PATIENCE, calling).await.expect("an answer").unwrap();
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"one, two"[..]));
}
