//! Plugins of connections that are carried as a whole: what both ends get, and what is told of it.

mod support;

use std::time::Duration;

use serde_json::json;
use tidegate_policy::model::{AppProtocol, TargetKind};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::PAUSE;
use super::module::{callback, event};
use crate::mesh::{PORT, service_at};
use crate::streams::{echo, greeting, is_refused, passthrough, say, signed, tls, tls_echo, tls_route};
use support::{Carrying, Plug, rest};

/// Holds back what comes that way until its end; then `then`.
fn at_the_end(callback_name: &str, then: &str) -> String {
    let hold = "(if (i32.eqz (local.get $p2)) (then (return (i32.const 1))))";
    callback(callback_name, 3, &format!("{hold} {then}"))
}

fn put_before(buffer: u32, text: &str) -> String {
    format!("(drop (call $set_buffer_bytes (i32.const {buffer}) (i32.const 0) (i32.const 0) @\"{text}\"))")
}

fn close() -> &'static str {
    "(drop (call $close_stream (i32.const 2)))"
}

#[tokio::test]
async fn bytes_are_changed_both_ways_and_the_end_of_each_half_is_passed_on() {
    let server = echo("cart").await;
    let functions = [
        at_the_end("downstream_data", &put_before(2, "asked: ")),
        // What the backend sends passes as it comes, but for its end.
        callback("upstream_data", 3, &format!("(if (local.get $p2) (then {}))", put_before(3, "."))),
    ];
    let carrying = Carrying::start(server, &functions).await;
    let mut client = carrying.connect().await;
    assert_eq!(greeting(&mut client).await.unwrap(), "cart", "it passes while the other direction is held");
    assert_eq!(say(&mut client, "hello").await, "asked: hello bye.");
    let line = carrying.ended().await;
    assert_eq!((&line["tidegate.bytes.received"], &line["tidegate.bytes.sent"]), (&json!(12), &json!(22)));
    assert_eq!(line["tidegate.reason"], json!(null));
}

#[tokio::test]
async fn several_plugins_see_what_a_client_sends_in_their_order_and_what_comes_back_the_other_way_round() {
    let server = echo("cart").await;
    let tag = |name: &str| {
        [
            at_the_end("downstream_data", &put_before(2, name)),
            at_the_end("upstream_data", &put_before(3, name)),
        ]
    };
    let (second, first) = (tag("2"), tag("1"));
    let plugs = [
        Plug::of(&second).named("second").with(json!({"order": 7})),
        Plug::of(&first).named("first").at(TargetKind::Gateway, "edge").with(json!({"order": -7})),
    ];
    let carrying = Carrying::with(server, plugs).await;
    let mut client = carrying.connect().await;
    assert_eq!(say(&mut client, "hello").await, "12cart\n21hello bye");
}

#[tokio::test]
async fn a_plugin_that_closes_does_so_in_order_and_is_named_with_its_line() {
    let server = echo("cart").await;
    let carrying = Carrying::start(server, &[callback("downstream_data", 3, close())]).await;
    let mut client = carrying.connect().await;
    assert_eq!(greeting(&mut client).await.unwrap(), "cart");
    client.write_all(b"x").await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), "");
    let line = carrying.ended().await;
    assert_eq!(line["tidegate.reason"], "plugin_closed");
    assert_eq!(line["tidegate.bytes.received"], 0);
    let said = line["decisions"].as_array().unwrap().last().unwrap();
    assert_eq!((&said["policy"], &said["outcome"]), (&json!("shop/policy"), &json!("refused")));
    assert_eq!(said["source"], "test.yaml:1");
}

#[tokio::test]
async fn a_connection_that_is_closed_at_its_beginning_reaches_nobody() {
    let (listener, address) = listen().await;
    let carrying = Carrying::start(address, &[callback("new_connection", 1, close())]).await;
    assert_eq!(rest(&mut carrying.connect().await).await.unwrap(), "");
    assert_eq!(carrying.ended().await["tidegate.reason"], "plugin_closed");
    // Whoever comes first now was let in by nobody's plugin.
    let own = TcpStream::connect(address).await.unwrap();
    assert_eq!(listener.accept().await.unwrap().1, own.local_addr().unwrap());
}

#[tokio::test]
async fn a_plugin_that_closes_from_a_tick_is_noticed_while_nothing_moves() {
    let tick = "(drop (call $set_tick_period_milliseconds (i32.const 1)))
        (i32.store (i32.const 64) (local.get $p0))";
    let close = format!("(drop (call $set_effective_context (i32.load (i32.const 64)))) {}", close());
    let functions =
        [callback("new_connection", 1, ""), callback("upstream_data", 3, tick), event("tick", 1, &close)];
    let carrying = Carrying::start(echo("cart").await, &functions).await;
    let mut client = carrying.connect().await;
    assert_eq!(rest(&mut client).await.unwrap(), "cart\n", "what had passed before arrives");
    assert_eq!(carrying.ended().await["tidegate.reason"], "plugin_closed");
}

#[tokio::test]
async fn what_is_held_back_beyond_the_budget_ends_the_connection() {
    let plugs =
        [Plug::of(&[callback("downstream_data", 3, PAUSE)]).with(json!({"budgets": {"bufferKiB": 1}}))];
    let carrying = Carrying::with(echo("cart").await, plugs).await;
    let mut client = carrying.connect().await;
    assert_eq!(greeting(&mut client).await.unwrap(), "cart");
    // Whatever of it comes in one piece: two of them are too much.
    let endless = async { while client.write_all(&[7; 800]).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), endless).await.unwrap();
    assert_eq!(carrying.ended().await["tidegate.reason"], "plugin_body_too_large");
}

#[tokio::test]
async fn a_failure_resets_the_connection_and_where_that_is_written_its_bytes_go_on_without_the_plugin() {
    let server = echo("cart").await;
    let trap =
        [callback("downstream_data", 3, "unreachable"), callback("upstream_data", 3, &put_before(3, "!"))];
    let carrying = Carrying::start(server, &trap).await;
    let mut client = carrying.connect().await;
    assert_eq!(greeting(&mut client).await.unwrap(), "!cart");
    client.write_all(b"x").await.unwrap();
    assert!(rest(&mut client).await.is_err());
    let line = carrying.ended().await;
    assert_eq!(line["tidegate.reason"], "plugin_failed");
    assert_eq!(line["decisions"].as_array().unwrap().last().unwrap()["policy"], "shop/policy");

    let open = [Plug::of(&trap).with(json!({"failurePolicy": "Open"}))];
    let carrying = Carrying::with(server, open).await;
    carrying.says("/status", "\"loaded\": true").await;
    let mut client = carrying.connect().await;
    assert_eq!(greeting(&mut client).await.unwrap(), "!cart");
    assert_eq!(say(&mut client, "hello").await, "hello bye", "with what it was told when it failed");
    assert_eq!(carrying.ended().await["tidegate.reason"], json!(null));
}

#[tokio::test]
async fn one_that_fails_again_and_again_is_left_out_and_the_version_before_is_asked_where_that_is_written() {
    let server = echo("cart").await;
    let trap = [callback("new_connection", 1, "unreachable")];
    let quarantine = json!({"failures": 2, "period": "10m"});
    let plug = Plug::of(&[callback("upstream_data", 3, &put_before(3, "1"))]);
    let more = json!({"failurePolicy": "LastGood", "quarantine": quarantine});
    let carrying = Carrying::with(server, [plug.with(more)]).await;
    assert_eq!(greeting(&mut carrying.connect().await).await.unwrap(), "1cart");
    carrying.rewrite(&trap);
    carrying.says("/status", "\"quarantined\": false").await;
    let waited = async {
        let mut failed = 0;
        while failed < 2 {
            // As long as the new one is not loaded, the old one has it. A reset may come before the connection is known to
            // be there.
            let greeted = match TcpStream::connect(carrying.address).await {
                Ok(mut stream) => greeting(&mut stream).await.is_ok(),
                Err(_) => false,
            };
            failed += u32::from(!greeted);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap();
    for _ in 0..3 {
        assert_eq!(greeting(&mut carrying.connect().await).await.unwrap(), "1cart");
    }
    carrying.says("/status", "\"quarantined\": true").await;

    let closed = Carrying::with(server, [Plug::of(&trap).with(json!({"quarantine": quarantine}))]).await;
    for _ in 0..4 {
        assert!(is_refused(closed.address, b"").await);
    }
    closed.says("/status", "\"quarantined\": true").await;
}

#[tokio::test]
async fn a_tlsroutes_plugin_knows_which_name_was_asked_for_and_sees_what_nobody_here_can_read() {
    let (a, b) = (signed("a.example.com"), signed("b.example.com"));
    // `b` is closed, by the first letter of its name.
    let name =
        "(drop (call $get_property @\"connection\0requested_server_name\" (i32.const 16) (i32.const 20)))
        (if (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 98))";
    let plug = || Plug::of(&[callback("new_connection", 1, &format!("{name} (then {}))", close()))]);
    for (shown, passes) in [(&a, true), (&b, false)] {
        let way = [passthrough("tls", PORT, "*.example.com"), tls_route("r", "tls", "*.example.com", "cart")];
        let server = tls_echo("cart", shown).await;
        let carrying = Carrying::over(way, server, [plug().at(TargetKind::TLSRoute, "r")]).await;
        let name = if passes { "a.example.com" } else { "b.example.com" };
        let opened = tls(carrying.address, name, &[shown]).await;
        if passes {
            assert_eq!(greeting(&mut opened.unwrap()).await.unwrap(), "cart");
        } else {
            assert!(opened.is_err());
            assert_eq!(carrying.ended().await["tidegate.reason"], "plugin_closed");
        }
    }
}

#[tokio::test]
async fn one_that_cannot_be_loaded_closes_connections_unless_they_may_do_without() {
    let server = echo("cart").await;
    for (policy, passes) in [("Closed", false), ("Open", true)] {
        let plug = Plug::of(&[]).with(json!({"failurePolicy": policy, "source": {"file": "/nowhere.wasm"}}));
        let carrying = Carrying::with(server, [plug]).await;
        if passes {
            assert_eq!(greeting(&mut carrying.connect().await).await.unwrap(), "cart");
        } else {
            assert!(is_refused(carrying.address, b"").await);
            assert_eq!(carrying.ended().await["tidegate.reason"], "plugin_failed");
        }
    }
}

#[tokio::test]
async fn in_shadow_not_one_byte_changes_and_it_is_told_what_would_have_been_done() {
    let functions = [
        callback("new_connection", 1, PAUSE),
        callback("downstream_data", 3, &format!("{} {}", put_before(2, "no"), close())),
        callback("upstream_data", 3, PAUSE),
    ];
    let plug = Plug::of(&functions).in_shadow();
    let carrying = Carrying::with(echo("cart").await, [plug]).await;
    carrying.says("/status", "\"loaded\": true").await;
    let mut client = carrying.connect().await;
    assert_eq!(greeting(&mut client).await.unwrap(), "cart");
    assert_eq!(say(&mut client, "hello").await, "hello bye");
    let line = carrying.ended().await;
    assert_eq!(line["tidegate.reason"], json!(null));
    carrying.says("/metrics", "outcome=\"would_refuse\"} 1").await;
}

/// Asks `auth` about each connection, and lets it begin or closes it. The stream that asked lies at 64.
fn asking() -> [String; 2] {
    let ask = "(i32.store (i32.const 64) (local.get $p0))
        (drop (call $http_call @\"auth\" @{:method=GET;:path=/check;:authority=auth} @\"\" @{} (i32.const 0) (i32.const 48)))";
    let told = "(drop (call $set_effective_context (i32.load (i32.const 64))))
        (drop (call $get_header_map_value (i32.const 6) @\":status\" (i32.const 16) (i32.const 20)))
        (if (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 50))
          (then (drop (call $continue_stream (i32.const 2))))
          (else (drop (call $close_stream (i32.const 2)))))";
    [callback("new_connection", 1, &format!("{ask} {PAUSE}")), event("http_call_response", 5, told)]
}

#[tokio::test]
async fn a_connection_waits_for_what_its_plugin_asks_before_anybody_is_called_for_it() {
    let ((listener, address), auth) = (listen().await, FaultBackend::start().await);
    let asked = std::sync::Arc::new(tokio::sync::Notify::new());
    auth.push(Script::After(asked.clone(), Box::new(Reply::text("").into())));
    let upstream = json!({"name": "auth", "backendRef": {"name": "auth", "namespace": "shop", "port": 80}});
    let plug = Plug::of(&asking()).with(json!({"capabilities": {"upstreams": [upstream]}}));
    let mut carrying = Carrying::with(address, [plug]).await;
    carrying.gateway.apply(service_at("auth", AppProtocol::Http1, &[auth.address()]));
    let mut client = carrying.connect().await;
    client.write_all(b"early").await.unwrap();
    auth.until(|counts| counts.requests == 1).await;
    tokio::select! {
        biased;
        _ = listener.accept() => panic!("it was called too early"),
        () = std::future::ready(()) => {}
    }
    asked.notify_one();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut early = [0; 5];
    server.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    auth.push(Reply::status(403).into());
    assert_eq!(rest(&mut carrying.connect().await).await.unwrap(), "");
}

#[tokio::test]
async fn what_is_known_of_a_connection_can_be_asked_for() {
    let server = echo("cart").await;
    let property = |path: &str| {
        format!(
            "(drop (call $get_property @\"{path}\" (i32.const 16) (i32.const 20)))
            (drop (call $set_buffer_bytes (i32.const 3) (i32.const 0) (i32.const 0) (i32.load (i32.const 16)) (i32.load (i32.const 20))))
            {}",
            put_before(3, " ")
        )
    };
    let all =
        ["upstream\0address", "destination\0address", "source\0address", "xds\0cluster_name"].map(property);
    let carrying = Carrying::start(server, &[at_the_end("upstream_data", &all.concat())]).await;
    let mut client = carrying.connect().await;
    let own = client.local_addr().unwrap();
    let told = say(&mut client, "").await;
    let expected = format!(" shop/cart:80 {own} {} {server}cart\n bye", carrying.address);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_module_for_another_kind_of_traffic_is_refused_and_the_cause_is_named() {
    let http = [callback("request_headers", 3, "")];
    let carrying = Carrying::start(echo("cart").await, &http).await;
    assert!(is_refused(carrying.address, b"").await);
    carrying.says("/status", "callbacks for HTTP only").await;
    // A Gateway has listeners of both kinds: here it has nothing to say, and is in nobody's way.
    let plug = Plug::of(&http).at(TargetKind::Gateway, "edge");
    let carrying = Carrying::with(echo("cart").await, [plug]).await;
    assert_eq!(greeting(&mut carrying.connect().await).await.unwrap(), "cart");
    let backend = FaultBackend::start().await;
    let plugged = super::Plugged::start(&backend, &[callback("downstream_data", 3, "")]).await;
    assert_eq!(plugged.call(crate::mesh::get("/")).await.status.as_u16(), 503);
    plugged.says("/status", "callbacks for connections only").await;
}

#[tokio::test]
async fn much_passes_whole_both_ways_and_each_byte_once() {
    let functions = [callback("downstream_data", 3, ""), callback("upstream_data", 3, "")];
    let carrying = Carrying::start(echo("cart").await, &functions).await;
    let mut client = carrying.connect().await;
    assert_eq!(greeting(&mut client).await.unwrap(), "cart");
    let sent: Vec<u8> =
        (0..3_000_000_u32).map(|number| number.to_le_bytes()[usize::from(number % 7 == 0)]).collect();
    let (mut reading, mut writing) = client.split();
    let write = async {
        writing.write_all(&sent).await.unwrap();
        writing.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let (read, ()) = tokio::join!(reading.read_to_end(&mut heard), write);
    read.unwrap();
    assert!(heard.strip_suffix(b" bye") == Some(&*sent), "{} bytes", heard.len());
}

async fn listen() -> (TcpListener, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
