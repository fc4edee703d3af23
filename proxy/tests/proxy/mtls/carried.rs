//! Bytes that are no requests go through mTLS as well, each connection in one of its own.

use std::net::SocketAddr;

use serde_json::json;
use tidegate_policy::model::Mode;
use tidegate_testkit::authority::{TestAuthority, TestClock};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::support::{Caller, Served, for_cart};
use super::{DOMAIN, app, strict};
use crate::outbound::CART;
use crate::plugins::module::{callback, plugin};

/// Greets, and sends back what it is sent.
async fn echo(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                stream.write_all(greeting.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_protocol_whose_client_begins_and_one_whose_server_does_are_carried() {
    let clock = TestClock::new();
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    for greeting in ["", "220 mail.example\r\n"] {
        let mut served = Served::start(&authority, &clock, echo(greeting).await).await;
        served.apply(for_cart("MeshTlsPolicy", strict(), Mode::Enforce));
        let caller = Caller::start(&authority, &clock, "shop/web").await.to(served.address());
        let mut client = caller.sidecar.raw(CART).await;
        if !greeting.is_empty() {
            assert_eq!(client.read_until("\n").await, greeting);
        }
        client.write("SSH-2.0-tide you\r\n").await;
        assert_eq!(client.read_until("\n").await, "SSH-2.0-tide you\r\n");
    }
}

#[tokio::test]
async fn requests_of_a_client_that_was_silent_for_long_meet_the_policies_all_the_same() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    let none = json!({"limits": [{"name": "none", "requests": 1, "per": "1h"}]});
    served.apply(for_cart("RateLimitPolicy", none, Mode::Enforce));
    let caller = Caller::start(&authority, &clock, "shop/web").await.to(served.address());
    let request = "GET / HTTP/1.1\r\nhost: cart\r\nconnection: close\r\n\r\n";
    for status in ["200", "429"] {
        let mut client = caller.sidecar.raw(CART).await;
        // Until the caller's proxy has given up to wait for a word, and has called.
        let opened = || served.metrics("tidegate_connections{side=\"upstream\"}");
        let before = opened();
        while opened() == before {
            tokio::task::yield_now().await;
        }
        client.write(request).await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test]
async fn bytes_of_whom_the_policies_do_not_let_never_reach_the_application() {
    let clock = TestClock::new();
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut served = Served::start(&authority, &clock, app.local_addr().unwrap()).await;
    let ours = json!({"rules": [{"name": "ours", "action": "Allow", "from": [{"namespaces": ["shop"]}]}]});
    served.apply(for_cart("AuthorizationPolicy", ours, Mode::Enforce));
    let stranger = Caller::start(&authority, &clock, "stage/web").await.to(served.address());
    let mut client = stranger.sidecar.raw(CART).await;
    client.write("SSH-2.0-tide you\r\n").await;
    assert_eq!(client.read_to_end().await, "");
    let ours = Caller::start(&authority, &clock, "shop/web").await.to(served.address());
    let mut client = ours.sidecar.raw(CART).await;
    client.write("SSH-2.0-tide you\r\n").await;
    // The first connection that the application gets is theirs.
    let (mut accepted, _) = app.accept().await.unwrap();
    accepted.write_all(b"hello\n").await.unwrap();
    assert_eq!(client.read_until("\n").await, "hello\n");
    assert!(served.metrics("tidegate_policy_decisions").contains("refused"), "the policy says so");
}

#[tokio::test]
async fn who_may_send_requests_only_may_be_silent_before_them_and_send_nothing_else() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    let get = json!({"rules": [{"name": "get", "action": "Allow", "to": [{"methods": ["GET"]}]}]});
    served.apply(for_cart("AuthorizationPolicy", get, Mode::Enforce));
    let caller = Caller::start(&authority, &clock, "shop/web").await.to(served.address());
    for (words, begin) in
        [("GET / HTTP/1.1\r\nhost: cart\r\nconnection: close\r\n\r\n", "HTTP/1.1 200"), ("SSH-2\r\n", "")]
    {
        let mut client = caller.sidecar.raw(CART).await;
        let opened = || caller.sidecar.metrics("tidegate_connections{side=\"upstream\"}");
        let before = opened();
        while opened() == before {
            tokio::task::yield_now().await;
        }
        // Longer than either proxy waits for a word before it does without; the outcome is the same if it is not.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        client.write(words).await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with(begin) && answer.is_empty() == begin.is_empty(), "{answer}");
    }
}

#[tokio::test]
async fn a_request_is_judged_by_who_mtls_says_it_comes_from() {
    let (clock, app) = (TestClock::new(), app().await);
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let mut served = Served::start(&authority, &clock, app.address()).await;
    let ours =
        json!({"rules": [{"name": "ours", "action": "Allow", "from": [{"serviceAccounts": ["shop/web"]}]}]});
    served.apply(for_cart("AuthorizationPolicy", ours, Mode::Enforce));
    for (name, status) in [("shop/web", 200), ("shop/other", 403), ("stage/web", 403)] {
        let caller = Caller::start(&authority, &clock, name).await.to(served.address());
        assert_eq!(caller.get().await.0, status, "{name}");
    }
}

#[tokio::test]
async fn a_services_plugin_sees_the_bytes_where_the_service_is_served_and_only_there() {
    let clock = TestClock::new();
    let authority = TestAuthority::start(DOMAIN, &clock).await;
    let put = "(drop (call $set_buffer_bytes (i32.const 2) (i32.const 0) (i32.const 0) @\">\"))";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let module = plugin(&callback("downstream_data", 3, &format!("(if (local.get $p1) (then {put}))")));
    std::io::Write::write_all(&mut file, &module).unwrap();
    let mut served = Served::start(&authority, &clock, echo("").await).await;
    let written = for_cart("WasmPlugin", json!({"source": {"file": file.path()}}), Mode::Enforce);
    served.apply(written.clone());
    let mut caller = Caller::start(&authority, &clock, "shop/web").await;
    caller.sidecar.apply(written);
    let caller = caller.to(served.address());
    let mut client = caller.sidecar.raw(CART).await;
    client.write("SSH-2.0-tide you\r\n").await;
    assert_eq!(client.read_until("\n").await, ">SSH-2.0-tide you\r\n");
}
