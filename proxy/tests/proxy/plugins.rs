//! Plugins, as clients and backends meet them: by modules that are written by hand, through a real proxy.

mod bodies;
mod calls;
mod connections;
mod grpc;
mod lives;
#[path = "../../wasm/tests/host/module.rs"]
pub(crate) mod module;
mod sources;
mod spans;

use std::io::Write as _;
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tidegate_policy::model::{Mode, Resource, ResourceName, TargetKind};
use tidegate_proxy::ProxyConfig;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{TestBody, empty, full};
use tidegate_testkit::client::{Answer, Client};

use crate::mesh::{Gateway, everything_to, get, policy};
use module::{callback, event, plugin};

const PAUSE: &str = "(return (i32.const 1))";

/// A gateway whose one route has a plugin.
struct Plugged {
    gateway: Gateway,
    file: NamedTempFile,
}

impl Plugged {
    async fn start(backend: &FaultBackend, functions: &[String]) -> Self {
        Self::with(backend, functions, json!({}), |_| {}).await
    }

    async fn with(
        backend: &FaultBackend,
        functions: &[String],
        mut more: Value,
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&plugin(&functions.concat())).unwrap();
        file.flush().unwrap();
        let mut gateway = Gateway::with(change);
        let mut all = everything_to("v1", &[backend.address()]);
        let shadow = more.as_object_mut().and_then(|more| more.remove("mode")).is_some();
        let mut spec = json!({"source": {"file": file.path()}});
        for (name, value) in more.as_object().unwrap() {
            spec[name] = value.clone();
        }
        let mut policy = policy("WasmPlugin", (TargetKind::HTTPRoute, "all"), spec);
        if let (Resource::Policy(policy), true) = (&mut policy, shadow) {
            policy.mode = Mode::Shadow;
        }
        all.push(policy);
        gateway.apply(all);
        gateway.address().await;
        Self { gateway, file }
    }

    async fn http1(&self) -> Client {
        Client::http1(self.gateway.address().await).await
    }

    async fn http2(&self) -> Client {
        Client::http2(self.gateway.address().await).await
    }

    async fn call(&self, request: Request<TestBody>) -> Answer {
        self.http1().await.call(request).await
    }

    /// Asks the admin port until the page says this.
    async fn says(&self, page: &str, wanted: &str) -> String {
        let waited = async {
            loop {
                let page = Client::http1(self.gateway.running.admin()).await.get(page).await.body;
                let text = String::from_utf8_lossy(&page).into_owned();
                if text.contains(wanted) {
                    return text;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waited).await.expect(wanted)
    }
}

fn post(body: &'static str) -> Request<TestBody> {
    let length = body.len().to_string();
    Request::post("/").header("content-length", length).body(full(body)).unwrap()
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

#[tokio::test]
async fn heads_are_changed_both_ways() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("hello").header("x-backend", "1").into());
    let plugged = Plugged::start(
        &backend,
        &[
            callback(
                "request_headers",
                3,
                "(drop (call $add_header_map_value (i32.const 0) @\"x-plugin\" @\"asked\"))
                (drop (call $replace_header_map_value (i32.const 0) @\":path\" @\"/new?q\"))",
            ),
            callback(
                "response_headers",
                3,
                "(drop (call $add_header_map_value (i32.const 2) @\"x-plugin\" @\"answered\"))
                (drop (call $remove_header_map_value (i32.const 2) @\"x-backend\"))",
            ),
        ],
    )
    .await;
    for mut client in [plugged.http1().await, plugged.http2().await] {
        let answer = client.call(get("/old")).await;
        assert_eq!((answer.status.as_u16(), &*text(&answer)), (200, "hello"));
        assert_eq!(answer.headers["x-plugin"], "answered");
        assert!(!answer.headers.contains_key("x-backend"));
    }
    let seen = backend.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|head| head.headers["x-plugin"] == "asked" && head.uri.path() == "/new"));
}

#[tokio::test]
async fn a_plugins_own_answer_is_given_as_it_is_and_told_as_what_it_is() {
    let backend = FaultBackend::start().await;
    let send = "(drop (call $send_local_response (i32.const 418) @\"why\" @\"short and stout\" @{x-pot=tea} (i32.const -1)))";
    let functions = [
        callback("request_headers", 3, &format!("{send} {PAUSE}")),
        // The one that answered sees its own answer too.
        callback(
            "response_headers",
            3,
            "(drop (call $add_header_map_value (i32.const 2) @\"x-own\" @\"1\"))",
        ),
    ];
    let plugged = Plugged::start(&backend, &functions).await;
    let answer = plugged.call(get("/")).await;
    assert_eq!((answer.status.as_u16(), &*text(&answer)), (418, "short and stout"));
    assert_eq!(
        (answer.headers["x-pot"].as_bytes(), answer.headers["x-own"].as_bytes()),
        (&b"tea"[..], &b"1"[..])
    );
    assert_eq!(answer.headers["content-type"], "text/plain");
    assert_eq!(answer.reason(), Some("plugin_answered"));
    let grpc = Request::post("/s.S/M").header("content-type", "application/grpc").body(empty()).unwrap();
    let answer = plugged.http2().await.call(grpc).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(
        (answer.headers["grpc-status"].as_bytes(), answer.headers["grpc-message"].as_bytes()),
        (&b"2"[..], &b"short and stout"[..])
    );
    assert_eq!(backend.counts().requests, 0);
}

#[tokio::test]
async fn in_shadow_not_one_byte_changes() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let functions = [
        callback(
            "request_headers",
            3,
            "(drop (call $add_header_map_value (i32.const 0) @\"x-plugin\" @\"1\"))
            (drop (call $send_local_response (i32.const 403) @\"\" @\"no\" @{} (i32.const -1)))",
        ),
        callback("request_body", 3, PAUSE),
        callback(
            "response_headers",
            3,
            "(drop (call $add_header_map_value (i32.const 2) @\"x-plugin\" @\"1\"))",
        ),
    ];
    let plugged = Plugged::with(&backend, &functions, json!({"mode": "Shadow"}), |_| {}).await;
    plugged.says("/status", "\"loaded\": true").await;
    let answer = plugged.call(post("body")).await;
    assert_eq!((answer.status.as_u16(), &*text(&answer)), (200, "body"));
    assert!(!answer.headers.contains_key("x-plugin"));
    assert!(!backend.seen()[0].headers.contains_key("x-plugin"));
    plugged.says("/metrics", "outcome=\"would_refuse\"} 1").await;
}

#[tokio::test]
async fn several_plugins_see_a_request_in_their_order_and_its_answer_the_other_way_round() {
    let backend = FaultBackend::start().await;
    let tag = |name: &str| {
        let add = |map: u32| {
            format!("(drop (call $add_header_map_value (i32.const {map}) @\"x-seen\" @\"{name}\"))")
        };
        [callback("request_headers", 3, &add(0)), callback("response_headers", 3, &add(2))].concat()
    };
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    let mut files = Vec::new();
    for (name, target, kind, order) in
        [("second", "all", TargetKind::HTTPRoute, 7), ("first", "edge", TargetKind::Gateway, -7)]
    {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&plugin(&tag(name))).unwrap();
        let spec = json!({"source": {"file": file.path()}, "order": order});
        let mut resource = policy("WasmPlugin", (kind, target), spec);
        if let Resource::Policy(policy) = &mut resource {
            policy.meta.name = ResourceName::new("shop", name);
        }
        all.push(resource);
        files.push(file);
    }
    gateway.apply(all);
    let answer = Client::http1(gateway.address().await).await.call(get("/")).await;
    let seen = |headers: &http::HeaderMap| {
        headers.get_all("x-seen").iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(seen(&backend.seen()[0].headers), ["first", "second"]);
    assert_eq!(seen(&answer.headers), ["second", "first"]);
}

#[tokio::test]
async fn what_is_known_of_a_request_can_be_asked_for_and_is_in_the_log() {
    let backend = FaultBackend::start().await;
    let property = |path: &str, header: &str| {
        format!(
            "(drop (call $get_property @\"{path}\" (i32.const 16) (i32.const 20)))
            (drop (call $add_header_map_value (i32.const 0) @\"{header}\" (i32.load (i32.const 16)) (i32.load (i32.const 20))))"
        )
    };
    let body = [
        property("xds\0route_name", "x-route"),
        property("source\0address", "x-source"),
        property("request\0protocol", "x-protocol"),
        property("plugin_name", "x-name"),
    ];
    let functions = [callback("request_headers", 3, &body.concat()), event("log", 1, "")];
    let plugged = Plugged::start(&backend, &functions).await;
    plugged.call(get("/")).await;
    let seen = backend.seen();
    let value = |name: &str| seen[0].headers[name].to_str().unwrap().to_owned();
    assert_eq!((value("x-route"), value("x-protocol")), (String::from("shop/all"), String::from("HTTP/1.1")));
    assert!(value("x-source").starts_with("127.0.0.1:") && value("x-name").starts_with("shop/"));
}
