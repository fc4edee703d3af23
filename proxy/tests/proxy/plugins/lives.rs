//! Plugins that misbehave, and plugins that change.

use std::time::Duration;

use serde_json::json;
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::client::Client;

use super::module::{callback, event, plugin};
use super::{PAUSE, Plugged};
use crate::mesh::get;

const TRAP: &str = "(unreachable)";

#[tokio::test]
async fn a_plugin_that_fails_again_and_again_is_left_out_as_is_written() {
    let backend = FaultBackend::start().await;
    for (policy, then) in [("Closed", 503), ("Open", 200)] {
        let more = json!({"failurePolicy": policy, "quarantine": {"failures": 2, "period": "10m"}});
        let plugged = Plugged::with(&backend, &[callback("request_headers", 3, TRAP)], more, |_| {}).await;
        plugged.says("/status", "\"loaded\": true").await;
        let mut client: Client = plugged.http1().await;
        for _ in 0..2 {
            let answer = client.call(get("/")).await;
            assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("plugin_failed")));
        }
        for _ in 0..3 {
            assert_eq!(client.call(get("/")).await.status.as_u16(), then, "{policy}");
        }
        let status = plugged.says("/status", "\"quarantined\": true").await;
        assert!(status.contains("trapped"), "{status}");
        plugged.says("/metrics", "tidegate_plugin_traps_total{plugin=\"shop/").await;
    }
}

#[tokio::test]
async fn a_callback_that_never_ends_costs_one_request_and_no_more() {
    let backend = FaultBackend::start().await;
    let path = "(drop (call $get_header_map_value (i32.const 0) @\"x-loop\" (i32.const 16) (i32.const 20)))
        (if (i32.load (i32.const 20)) (then (loop $l (br $l))))";
    let more = json!({"budgets": {"callback": "20ms"}});
    let plugged = Plugged::with(&backend, &[callback("request_headers", 3, path)], more, |_| {}).await;
    let mut client: Client = plugged.http1().await;
    assert_eq!(client.call(get("/")).await.status.as_u16(), 200);
    let mut looping = get("/");
    looping.headers_mut().insert("x-loop", "1".parse().unwrap());
    assert_eq!(client.call(looping).await.status.as_u16(), 503);
    assert_eq!(client.call(get("/")).await.status.as_u16(), 200);
    plugged.says("/metrics", "tidegate_plugin_overruns_total").await;
}

#[tokio::test]
async fn streams_that_wait_in_a_vm_that_ends_are_answered_at_once() {
    let backend = FaultBackend::start().await;
    // Waits for ever, but for a tick that fails.
    let wait = format!("(drop (call $set_tick_period_milliseconds (i32.const 30))) {PAUSE}");
    let functions = [callback("request_headers", 3, &wait), event("tick", 1, TRAP)];
    let plugged = Plugged::start(&backend, &functions).await;
    let answer = tokio::time::timeout(Duration::from_secs(20), plugged.call(get("/"))).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("plugin_failed")));
}

/// Says which one it is.
fn version(number: u32) -> String {
    let say = format!("(drop (call $add_header_map_value (i32.const 2) @\"x-version\" @\"{number}\"))");
    callback("response_headers", 3, &say)
}

#[tokio::test]
async fn while_a_new_version_is_left_out_the_one_before_is_asked_where_that_is_written() {
    let backend = FaultBackend::start().await;
    let more = json!({"failurePolicy": "LastGood", "quarantine": {"failures": 2, "period": "10m"}});
    let plugged = Plugged::with(&backend, &[version(1)], more, |_| {}).await;
    let mut client: Client = plugged.http1().await;
    assert_eq!(client.call(get("/")).await.headers["x-version"], "1");
    std::fs::write(plugged.file.path(), plugin(&callback("request_headers", 3, TRAP))).unwrap();
    // Each of its two failures costs a request.
    let mut failed = 0;
    let waited = async {
        while failed < 2 {
            let answer = client.call(get("/")).await;
            failed += u32::from(answer.reason() == Some("plugin_failed"));
            assert!(answer.status == 503 || answer.headers["x-version"] == "1");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.call(get("/")).await.headers["x-version"], "1");
    }
    plugged.says("/status", "\"quarantined\": true").await;
}

#[tokio::test]
async fn a_file_that_changes_is_loaded_and_one_that_is_bad_changes_nothing() {
    let backend = FaultBackend::start().await;
    let plugged = Plugged::start(&backend, &[version(1)]).await;
    let mut client: Client = plugged.http1().await;
    assert_eq!(client.call(get("/")).await.headers["x-version"], "1");
    std::fs::write(plugged.file.path(), b"\0asm but no more").unwrap();
    plugged.says("/status", "truncated, or of an unknown version").await;
    assert_eq!(client.call(get("/")).await.headers["x-version"], "1");
    std::fs::write(plugged.file.path(), plugin(&version(2))).unwrap();
    let waited = async {
        while client.call(get("/")).await.headers["x-version"] != "2" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap();
}

#[tokio::test]
async fn a_plugin_that_refuses_its_configuration_refuses_requests_and_says_why() {
    let backend = FaultBackend::start().await;
    let plugged = Plugged::start(&backend, &[callback("configure", 2, "")]).await;
    let answer = plugged.call(get("/")).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, Some("plugin_failed")));
    plugged.says("/status", "`proxy_on_configure` refused its configuration").await;
}
