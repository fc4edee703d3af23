//! How long a client may take to send the head of a request, where a policy says so.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tidegate_policy::model::TargetKind;
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::backend::{FaultBackend, Script};
use tidegate_testkit::client::RawClient;
use tokio::sync::Notify;

use crate::mesh::{Gateway, everything_to, policy};

const HEAD: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const HALF: &str = "GET / HTTP/1.1\r\nhost: a\r\nx-slow: ";
/// Longer than the limit of the tests, and far shorter than the proxy's own.
const WHILE: Duration = Duration::from_millis(120);

async fn gateway(log: LogTarget, backend: &FaultBackend) -> (Gateway, RawClient) {
    let mut gateway = Gateway::with(|config| config.access_log = log);
    let mut all = everything_to("v1", &[backend.address()]);
    all.push(policy("TimeoutPolicy", (TargetKind::Gateway, "edge"), json!({"header": "40ms"})));
    gateway.apply(all);
    let client = RawClient::connect(gateway.address().await).await;
    (gateway, client)
}

/// Within much less than the time that the proxy gives by itself.
async fn ends(client: &mut RawClient) -> String {
    let end = tokio::time::timeout(Duration::from_secs(30), client.read_to_end());
    end.await.expect("the connection is closed")
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_ends_the_connection_in_the_name_of_the_policy() {
    let backend = FaultBackend::start().await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let (gateway, mut client) = gateway(LogTarget::File(log.path().into()), &backend).await;
    client.write(HALF).await;
    assert_eq!(ends(&mut client).await, "");
    gateway.running.shutdown();
    gateway.running.wait().await;
    let told = std::fs::read_to_string(log.path()).unwrap();
    assert!(told.contains(r#""tidegate.policy.rule":"header""#), "{told}");
    assert_eq!(backend.counts().requests, 0);
}

#[tokio::test]
async fn bytes_that_keep_coming_make_a_head_no_earlier() {
    let backend = FaultBackend::start().await;
    let (_gateway, mut client) = gateway(LogTarget::Off, &backend).await;
    client.write(HALF).await;
    let sending = async {
        for _ in 0..3_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if !client.try_write("a").await {
                return true;
            }
        }
        false
    };
    assert!(sending.await, "the connection is closed");
}

#[tokio::test]
async fn whoever_is_silent_between_requests_or_slow_with_a_body_is_not_hurried() {
    let backend = FaultBackend::start().await;
    let (_gateway, mut client) = gateway(LogTarget::Off, &backend).await;
    for _ in 0..2 {
        tokio::time::sleep(WHILE).await;
        client.write(HEAD).await;
        let answer = client.read_until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let go = Arc::new(Notify::new());
    backend.push(Script::After(go.clone(), Box::default()));
    let (_gateway, mut client) = self::gateway(LogTarget::Off, &backend).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\na").await;
    backend.until(|counts| counts.requests == 3).await;
    client.write("b").await;
    tokio::time::sleep(WHILE).await;
    client.write("cd").await;
    go.notify_one();
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
