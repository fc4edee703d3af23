//! Plugins that ask others before they let a request go on.

use serde_json::json;
use tidegate_policy::model::AppProtocol;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::client::Client;

use super::module::{callback, event};
use super::{PAUSE, Plugged, text};
use crate::mesh::{get, service_at};

/// Asks `auth` with a timeout of 300 ms, and goes on or refuses as the status says. The stream that asked lies at 64.
fn asking() -> [String; 2] {
    let ask = "(i32.store (i32.const 64) (local.get $p0))
        (drop (call $http_call @\"auth\" @{:method=GET;:path=/check;:authority=auth} @\"\" @{} (i32.const 300) (i32.const 48)))";
    let told = "(drop (call $set_effective_context (i32.load (i32.const 64))))
        (drop (call $get_header_map_value (i32.const 6) @\":status\" (i32.const 16) (i32.const 20)))
        (if (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 50))
          (then
            (drop (call $add_header_map_value (i32.const 0) @\"x-checked\" (i32.load (i32.const 16)) (i32.load (i32.const 20))))
            (drop (call $continue_stream (i32.const 0))))
          (else (drop (call $send_local_response (i32.const 401) @\"\" (i32.load (i32.const 16)) (i32.load (i32.const 20)) @{} (i32.const -1)))))";
    [callback("request_headers", 3, &format!("{ask} {PAUSE}")), event("http_call_response", 5, told)]
}

async fn plugged(backend: &FaultBackend, auth: &FaultBackend) -> Plugged {
    let upstream = json!({"name": "auth", "backendRef": {"name": "auth", "namespace": "shop", "port": 80}});
    let more = json!({"capabilities": {"upstreams": [upstream]}});
    let mut plugged = Plugged::with(backend, &asking(), more, |_| {}).await;
    plugged.gateway.apply(service_at("auth", AppProtocol::Http1, &[auth.address()]));
    plugged
}

#[tokio::test]
async fn a_request_waits_for_what_its_plugin_asks() {
    let (backend, auth) = (FaultBackend::start().await, FaultBackend::start().await);
    let plugged = plugged(&backend, &auth).await;
    let mut client: Client = plugged.http1().await;
    assert_eq!(client.call(get("/")).await.status.as_u16(), 200);
    assert_eq!(auth.seen()[0].uri.path(), "/check");
    assert_eq!(auth.seen()[0].headers["host"], "auth");
    assert_eq!(backend.seen()[0].headers["x-checked"], "200");
    auth.push(Reply::status(403).into());
    let answer = client.call(get("/")).await;
    assert_eq!((answer.status.as_u16(), &*text(&answer)), (401, "403"));
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn nobody_to_ask_and_no_answer_in_time_are_told_as_answers() {
    let (backend, auth) = (FaultBackend::start().await, FaultBackend::start().await);
    let plugged = plugged(&backend, &auth).await;
    let mut client: Client = plugged.http1().await;
    auth.push(Script::Hang);
    assert_eq!(text(&client.call(get("/")).await), "504");
    auth.push(Script::Reset);
    assert_eq!(text(&client.call(get("/")).await), "503");
    drop(auth);
    assert_eq!(text(&client.call(get("/")).await), "503");
    assert_eq!(backend.counts().requests, 0);
}
