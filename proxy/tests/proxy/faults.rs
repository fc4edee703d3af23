//! Faults on purpose, as clients meet them.

use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};
use tidegate_policy::model::TargetKind;
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::body::empty;
use tidegate_testkit::client::{Client, RawClient};

use crate::mesh::{Gateway, everything_to, get, policy};

const BODY: &str = "0123456789012345678901234567890123456789";

async fn gateway(backend: &FaultBackend, mut gateway: Gateway, fault: Value) -> Gateway {
    backend.always(Reply::text(BODY).into());
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(policy("FaultPolicy", (TargetKind::HTTPRoute, "all"), json!({"faults": [fault]})));
    gateway.apply(all);
    gateway.address().await;
    gateway
}

fn grpc() -> Request<tidegate_testkit::body::TestBody> {
    let request = Request::post("/shop.Cart/Get").header("content-type", "application/grpc");
    request.body(empty()).unwrap()
}

#[tokio::test]
async fn an_abort_is_told_as_what_it_is_and_the_backend_hears_nothing_of_it() {
    let (backend, log) = (FaultBackend::start().await, tempfile::NamedTempFile::new().unwrap());
    let logging = Gateway::with(|config| config.access_log = LogTarget::File(log.path().to_owned()));
    let abort = json!({"status": 404, "grpc": "ABORTED", "body": "gone fishing"});
    let gateway = gateway(&backend, logging, json!({"name": "gone", "abort": abort})).await;
    let answer = Client::http1(gateway.address().await).await.call(get("/")).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (404, &b"gone fishing"[..]));
    assert_eq!(answer.reason(), Some("fault_injected"));
    let answer = Client::http2(gateway.address().await).await.call(grpc()).await;
    assert_eq!((answer.status.as_u16(), answer.headers["grpc-status"].to_str().unwrap()), (200, "10"));
    assert_eq!(backend.counts().requests, 0);

    // A request is counted when its record is dropped, which may be after its answer has come.
    let counted = "rule=\"gone\",outcome=\"refused\"} 2";
    let waited = async {
        loop {
            let page = Client::http1(gateway.running.admin()).await.get("/metrics").await.body;
            if String::from_utf8_lossy(&page).contains(counted) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.expect(counted);
    gateway.running.shutdown();
    gateway.running.wait().await;
    let text = std::fs::read_to_string(log.path()).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let said = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(said("tidegate.decision"), "refused", "{line}");
    assert_eq!(said("tidegate.policy.kind"), "FaultPolicy");
    assert_eq!(said("tidegate.policy.rule"), "gone");
    assert!(text.contains("fault_injected"), "{text}");
}

#[tokio::test]
async fn a_delay_comes_before_the_answer_of_the_backend() {
    let backend = FaultBackend::start().await;
    let fault = json!({"name": "slow", "delay": {"fixed": "60ms"}});
    let gateway = gateway(&backend, Gateway::start(), fault).await;
    let (mut client, begun) = (Client::http1(gateway.address().await).await, Instant::now());
    let answer = client.call(get("/")).await;
    assert!(begun.elapsed() >= Duration::from_millis(60));
    assert_eq!((answer.status.as_u16(), answer.reason()), (200, None));
}

#[tokio::test]
async fn a_client_that_goes_takes_its_delay_along_and_another_may_be_hurt() {
    let backend = FaultBackend::start().await;
    let fault =
        json!({"name": "slow", "maxActive": 1, "when": "request.path == '/slow'", "delay": {"fixed": "10m"}});
    let gateway = gateway(&backend, Gateway::start(), fault).await;
    let address = gateway.address().await;
    let waits = || async move { Client::http1(address).await.send(get("/slow")).await };
    // Passes once somebody waits, for the cap is one.
    let is_taken = || async move {
        let asked = waits();
        tokio::time::timeout(Duration::from_millis(200), asked).await.is_ok()
    };
    let taken = || async {
        while !is_taken().await {
            tokio::task::yield_now().await;
        }
    };
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        assert!(Instant::now() < end, "nobody ever waits");
        tokio::select! {
            // Whoever looks took the place himself, and this one passed.
            _ = waits() => {}
            // Dropped with its delay.
            () = taken() => break,
        }
    }
    // Free again: a request waits instead of passing.
    while is_taken().await {
        assert!(Instant::now() < end, "the place was never given back");
    }
}

#[tokio::test]
async fn a_throttled_body_is_whole_and_takes_its_time() {
    let backend = FaultBackend::start().await;
    let fault = json!({"name": "drip", "throttle": {"bytesPerSecond": 200}});
    let gateway = gateway(&backend, Gateway::start(), fault).await;
    let address = gateway.address().await;
    for mut client in [Client::http1(address).await, Client::http2(address).await] {
        let begun = Instant::now();
        let answer = client.call(get("/")).await;
        // The first piece goes at once, and the second after a tenth of a second.
        assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
        assert_eq!(
            (&*answer.body, answer.headers["content-length"].to_str().unwrap()),
            (BODY.as_bytes(), "40")
        );
    }
}

#[tokio::test]
async fn a_reset_gives_no_byte_of_an_answer() {
    let backend = FaultBackend::start().await;
    let fault = json!({"name": "cut", "when": "request.path == '/cut'", "reset": true});
    let gateway = gateway(&backend, Gateway::start(), fault).await;
    let mut raw = RawClient::connect(gateway.address().await).await;
    raw.write("GET /cut HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(raw.read_to_end().await, "");
    let mut client = Client::http2(gateway.address().await).await;
    assert!(client.send(get("/cut")).await.is_err());
    assert_eq!(client.call(get("/")).await.status, 200, "only the stream was reset");
    assert_eq!(backend.counts().requests, 1);
}
