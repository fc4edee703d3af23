//! Plugins that ask others by gRPC before they let a request go on.

use serde_json::json;
use tidegate_policy::model::AppProtocol;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};

use super::module::{callback, event};
use super::{PAUSE, Plugged, text};
use crate::mesh::{get, service_at};

/// Asks `auth` with one message and a timeout of 300 ms. The message that comes back is written into the request, which goes
/// on; without one, the status and what is said of it are the answer.
fn asking() -> [String; 3] {
    let ask = "(i32.store (i32.const 64) (local.get $p0))
        (drop (call $grpc_call @\"auth\" @\"shop.Auth\" @\"Check\" @{x-asks=plugin;content-length=99} @\"may it?\" (i32.const 300) (i32.const 48)))";
    let here = "(drop (call $set_effective_context (i32.load (i32.const 64))))";
    let message = "(drop (call $get_buffer_bytes (i32.const 5) (i32.const 0) (local.get $p2) (i32.const 16) (i32.const 20)))
        (drop (call $add_header_map_value (i32.const 0) @\"x-message\" (i32.load (i32.const 16)) (i32.load (i32.const 20))))
        (drop (call $continue_stream (i32.const 0)))";
    let closed = "(drop (call $get_status (i32.const 52) (i32.const 16) (i32.const 20)))
        (drop (call $send_local_response (i32.add (i32.const 400) (local.get $p2)) @\"\" (i32.load (i32.const 16)) (i32.load (i32.const 20)) @{} (i32.const -1)))";
    [
        callback("request_headers", 3, &format!("{ask} {PAUSE}")),
        event("grpc_receive", 3, &format!("{here} {message}")),
        event("grpc_close", 3, &format!("{here} {closed}")),
    ]
}

async fn plugged(backend: &FaultBackend, auth: &FaultBackend) -> Plugged {
    by(&asking(), backend, auth).await
}

async fn by(functions: &[String], backend: &FaultBackend, auth: &FaultBackend) -> Plugged {
    let upstream = json!({"name": "auth", "backendRef": {"name": "auth", "namespace": "shop", "port": 80}});
    let more = json!({"capabilities": {"upstreams": [upstream]}});
    let mut plugged = Plugged::with(backend, functions, more, |_| {}).await;
    plugged.gateway.apply(service_at("auth", AppProtocol::H2c, &[auth.address()]));
    plugged
}

fn framed(message: &'static str) -> Reply {
    let mut reply = Reply::grpc(message, 0);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    reply.body = [&[0], &length[..], message.as_bytes()].concat().into();
    reply
}

#[tokio::test]
async fn a_request_waits_for_what_its_plugin_asks_by_grpc() {
    let (backend, auth) = (FaultBackend::start().await, FaultBackend::start().await);
    let plugged = plugged(&backend, &auth).await;
    auth.push(framed("it may").into());
    assert_eq!(plugged.call(get("/")).await.status.as_u16(), 200);
    let asked = &auth.seen()[0];
    assert_eq!((asked.uri.path(), asked.version), ("/shop.Auth/Check", http::Version::HTTP_2));
    assert_eq!(asked.uri.host(), Some("auth"));
    let value = |name: &str| asked.headers[name].to_str().unwrap();
    assert_eq!(
        (value("content-type"), value("te"), value("x-asks")),
        ("application/grpc", "trailers", "plugin")
    );
    assert_eq!((value("grpc-timeout"), asked.headers.get("content-length")), ("300m", None));
    assert_eq!(backend.seen()[0].headers["x-message"], "it may");
}

#[tokio::test]
async fn a_status_of_grpc_and_nobody_to_ask_and_no_answer_in_time_are_told_with_their_codes() {
    let (backend, auth) = (FaultBackend::start().await, FaultBackend::start().await);
    let plugged = plugged(&backend, &auth).await;
    // A message with a status that says no grants nothing.
    let mut denied = framed("granted");
    let trailers = denied.trailers.as_mut().unwrap();
    trailers.insert("grpc-status", "7".parse().unwrap());
    trailers.insert("grpc-message", "not you".parse().unwrap());
    for (script, status, said) in [
        (denied.into(), 407, "not you"),
        (Script::Hang, 404, "deadline exceeded"),
        (Script::Reset, 414, "upstream cannot be reached"),
        // An answer that is none of gRPC's.
        (Reply::text("hello").into(), 402, "no grpc-status"),
    ] {
        auth.push(script);
        let answer = plugged.call(get("/")).await;
        assert_eq!((answer.status.as_u16(), &*text(&answer)), (status, said));
    }
    assert_eq!(backend.counts().requests, 0);
}

/// Opens a stream and sends one message; at the first that comes, sends another one and ends its half. Each that comes is
/// written into the request, which goes on at the end with the status.
fn conversing() -> [String; 3] {
    let open = "(i32.store (i32.const 64) (local.get $p0))
        (drop (call $grpc_stream @\"auth\" @\"shop.Auth\" @\"Talk\" @{x-asks=plugin} (i32.const 48)))
        (drop (call $grpc_send (i32.load (i32.const 48)) @\"one\" (i32.const 0)))";
    let here = "(drop (call $set_effective_context (i32.load (i32.const 64))))";
    let add = "(drop (call $get_buffer_bytes (i32.const 5) (i32.const 0) (local.get $p2) (i32.const 16) (i32.const 20)))
        (drop (call $add_header_map_value (i32.const 0) @\"x-message\" (i32.load (i32.const 16)) (i32.load (i32.const 20))))";
    let again = "(if (i32.eqz (i32.load (i32.const 68))) (then
        (i32.store (i32.const 68) (i32.const 1))
        (drop (call $grpc_send (local.get $p1) @\"two\" (i32.const 1)))))";
    let closed = "(i32.store8 (i32.const 72) (i32.add (i32.const 48) (local.get $p2)))
        (drop (call $add_header_map_value (i32.const 0) @\"x-status\" (i32.const 72) (i32.const 1)))
        (drop (call $continue_stream (i32.const 0)))";
    [
        callback("request_headers", 3, &format!("{open} {PAUSE}")),
        event("grpc_receive", 3, &format!("{here} {add} {again}")),
        event("grpc_close", 3, &format!("{here} {closed}")),
    ]
}

#[tokio::test]
async fn a_stream_of_a_plugin_goes_both_ways_at_one_time_and_ends_with_a_status() {
    let (backend, auth) = (FaultBackend::start().await, FaultBackend::start().await);
    let plugged = by(&conversing(), &backend, &auth).await;
    // It sends back what it is sent, and knows nothing of statuses.
    auth.push(Script::Echo);
    assert_eq!(plugged.call(get("/")).await.status.as_u16(), 200);
    assert_eq!(auth.seen()[0].uri.path(), "/shop.Auth/Talk");
    let messages = |number: usize| {
        let seen = backend.seen();
        let values = seen[number].headers.get_all("x-message").iter();
        let values = values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>();
        (values, seen[number].headers["x-status"].to_str().unwrap().to_owned())
    };
    assert_eq!(messages(0), (vec![String::from("one"), String::from("two")], String::from("2")));
    let mut several = framed("first");
    several.body = [&several.body[..], &framed("last").body].concat().into();
    auth.push(several.into());
    assert_eq!(plugged.call(get("/")).await.status.as_u16(), 200);
    assert_eq!(messages(1), (vec![String::from("first"), String::from("last")], String::from("0")));
    // Nobody is there: 14, as one digit.
    drop(auth);
    assert_eq!(plugged.call(get("/")).await.status.as_u16(), 200);
    assert_eq!(messages(2), (Vec::new(), String::from(">")));
}
