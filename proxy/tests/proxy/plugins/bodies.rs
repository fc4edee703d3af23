//! Bodies on their way through plugins.

use http::Request;
use serde_json::json;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{empty, streaming};
use tidegate_testkit::client::{Answer, Client};

use super::module::callback;
use super::{PAUSE, Plugged, post, text};
use crate::mesh::get;

/// Pauses until the end, then puts a `>` in front.
fn prefixing(name: &str, buffer: u32) -> String {
    let body = format!(
        "(if (i32.eqz (local.get $p2)) (then (return (i32.const 1))))
        (drop (call $set_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 0) @\">\"))"
    );
    callback(name, 3, &body)
}

#[tokio::test]
async fn a_body_that_grows_has_its_new_length_on_both_sides() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let functions = [prefixing("request_body", 0), prefixing("response_body", 1)];
    let plugged = Plugged::start(&backend, &functions).await;
    for mut client in [plugged.http1().await, plugged.http2().await] {
        let answer = client.call(post("hello")).await;
        assert_eq!((answer.status.as_u16(), &*text(&answer)), (200, ">>hello"));
        // The connection is still in step.
        assert_eq!(text(&client.call(post("again")).await), ">>again");
    }
    assert!(backend.seen().iter().all(|head| head.headers["content-length"] == "6"));
}

#[tokio::test]
async fn a_body_of_unknown_length_is_changed_as_it_streams() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    // Each piece gets a mark, at once.
    let mark = "(drop (call $set_buffer_bytes (i32.const 0) (i32.const 0) (i32.const 0) @\"+\"))";
    let each = format!("(if (i32.gt_u (local.get $p1) (i32.const 0)) (then {mark}))");
    let plugged = Plugged::start(&backend, &[callback("request_body", 3, &each)]).await;
    let (frames, body) = streaming();
    let mut client = plugged.http2().await;
    let sent = async {
        frames.data("a").await;
        frames.data("b").await;
        drop(frames);
    };
    let (answer, ()) = tokio::join!(client.call(Request::post("/").body(body).unwrap()), sent);
    let told = text(&answer);
    assert!(told == "+a+b" || told == "+ab", "{told}");
}

#[tokio::test]
async fn what_is_too_large_to_hold_back_is_refused_on_the_way_in_and_fails_on_the_way_out() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("0123456789").into());
    let small = json!({"budgets": {"bufferKiB": 1}});
    let plugged = Plugged::with(&backend, &[callback("request_body", 3, PAUSE)], small.clone(), |_| {}).await;
    let large: &'static str = Box::leak("x".repeat(3000).into_boxed_str());
    let answer = plugged.call(post(large)).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (413, Some("plugin_body_too_large")));
    assert_eq!(backend.counts().requests, 0);
    backend.always(Reply::text(large).into());
    let plugged = Plugged::with(&backend, &[callback("response_body", 3, PAUSE)], small, |_| {}).await;
    let answer = plugged.call(get("/")).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (500, Some("plugin_failed")));
}

#[tokio::test]
async fn a_plugin_that_answers_for_the_body_keeps_it_from_the_backend() {
    let backend = FaultBackend::start().await;
    let refuse = "(if (i32.eqz (local.get $p2)) (then (return (i32.const 1))))
        (drop (call $send_local_response (i32.const 422) @\"\" @\"bad body\" @{} (i32.const -1))) (return (i32.const 1))";
    let plugged = Plugged::start(&backend, &[callback("request_body", 3, refuse)]).await;
    let answer = plugged.call(post("anything")).await;
    assert_eq!((answer.status.as_u16(), &*text(&answer)), (422, "bad body"));
    assert_eq!(backend.counts().requests, 0, "all of it was looked at before anybody was called");
}

#[tokio::test]
async fn an_answer_is_replaced_for_what_its_body_says() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("secret").header("x-backend", "1").into());
    let replace = "(if (i32.eqz (local.get $p2)) (then (return (i32.const 1))))
        (drop (call $set_buffer_bytes (i32.const 1) (i32.const 0) (local.get $p1) @\"nothing to see here\"))";
    let plugged = Plugged::start(&backend, &[callback("response_body", 3, replace)]).await;
    for mut client in [plugged.http1().await, plugged.http2().await] {
        let answer: Answer = client.call(get("/")).await;
        assert_eq!(
            (&*text(&answer), answer.headers["content-length"].as_bytes()),
            ("nothing to see here", &b"19"[..])
        );
        assert_eq!(answer.headers["x-backend"], "1");
    }
}

#[tokio::test]
async fn a_plugin_that_says_nothing_of_bodies_costs_them_nothing() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let plugged = Plugged::start(&backend, &[callback("request_headers", 3, "")]).await;
    let mut client: Client = plugged.http1().await;
    assert_eq!(text(&client.call(post("hello")).await), "hello");
    assert_eq!(backend.seen()[0].headers["content-length"], "5");
}

#[tokio::test]
async fn a_plugin_that_changes_bodies_may_leave_their_length_out_of_an_answer_to_head() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("hello").into());
    let silent = "(drop (call $remove_header_map_value (i32.const 2) @\"content-length\"))";
    let functions = [callback("response_headers", 3, silent), prefixing("response_body", 1)];
    let plugged = Plugged::start(&backend, &functions).await;
    let mut client = plugged.http1().await;
    let head = Request::builder().method("HEAD").uri("/").body(empty()).unwrap();
    let answer = client.call(head).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert!(!answer.headers.contains_key("content-length"), "{:?}", answer.headers);
    // The connection is still in step.
    assert_eq!(text(&client.call(get("/")).await), ">hello");
}
