//! Connections of our own application that are not HTTP: carried to where they wanted to go, byte by byte.

use crate::outbound;
use std::net::SocketAddr;
use std::time::Duration;

use crate::outbound::{CART, Sidecar, mesh_route, service};
use serde_json::Value;
use tidegate_policy::model::{BackendTls, Declared, PolicyRef, Resource, Verification};
use tidegate_proxy::config::HeaderSite;
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::backend::{FaultBackend, Reply};
use tidegate_testkit::client::RawClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that greets, and then sends back what it is sent.
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

/// One connection to a server that the test plays itself.
async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    listen().await.1
}

fn cart(declared: Declared, endpoints: &[SocketAddr]) -> Vec<Resource> {
    let mut all = service("cart", CART, endpoints);
    for resource in &mut all {
        if let Resource::Backend(backend) = resource {
            backend.declared = declared;
        }
    }
    all
}

async fn heard(server: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    server.read_exact(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_by_a_client_that_waits_for_it() {
    let server = echo("220 mail.example\r\n").await;
    let mut sidecar = Sidecar::start();
    for declared in [Declared::Nothing, Declared::Other] {
        sidecar.apply(cart(declared, &[server]));
        for destination in [CART, &server.to_string()] {
            let mut client = sidecar.raw(destination).await;
            assert_eq!(client.read_until("\n").await, "220 mail.example\r\n", "{declared:?} {destination}");
            client.write("EHLO tide\r\n").await;
            assert_eq!(client.read_until("\n").await, "EHLO tide\r\n");
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_pass_unchanged() {
    let server = echo("").await;
    let mut sidecar = Sidecar::start();
    sidecar.apply(cart(Declared::Nothing, &[server]));
    for destination in [CART, &server.to_string()] {
        for bytes in ["\u{16}\u{3}\u{1} hello", "SSH-2.0-tide you\r\n", "get key\r\n"] {
            let mut client = sidecar.raw(destination).await;
            client.write(bytes).await;
            assert_eq!(client.read_until(bytes).await, bytes);
        }
    }
}

#[tokio::test]
async fn the_end_of_the_clients_half_is_passed_on_and_the_answer_still_comes() {
    let (listener, address) = listen().await;
    let mut sidecar = Sidecar::start();
    sidecar.apply(cart(Declared::Other, &[address]));
    let mut stream = TcpStream::connect(sidecar.address()).await.unwrap();
    stream.write_all(&outbound::to(CART)).await.unwrap();
    stream.write_all(b"the whole question").await.unwrap();
    stream.shutdown().await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut question = String::new();
    server.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "the whole question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_eq!(RawClient::from(stream).read_to_end().await, "answer");
}

#[tokio::test]
async fn a_port_that_is_declared_as_something_else_is_not_looked_into() {
    let (listener, address) = listen().await;
    let mut sidecar = Sidecar::start();
    sidecar.apply(cart(Declared::Other, &[address]));
    let mut client = sidecar.raw(CART).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive\r\n\r\n";
    client.write(request).await;
    let (mut server, _) = listener.accept().await.unwrap();
    assert_eq!(heard(&mut server, request.len()).await, request, "as it was sent, with no header of ours");
}

#[tokio::test]
async fn nothing_but_http_passes_where_http_is_declared_or_has_routes() {
    let backend = FaultBackend::start().await;
    let mut sidecar = Sidecar::start();
    for routed in [false, true] {
        sidecar.apply(cart(if routed { Declared::Other } else { Declared::Http }, &[backend.address()]));
        if routed {
            sidecar.apply(vec![mesh_route("cart", "/only", "cart")]);
        }
        let mut client = sidecar.raw(CART).await;
        client.write("*1\r\n$4\r\nPING\r\n\r\n").await;
        assert!(client.read_to_end().await.starts_with("HTTP/1.1 400"), "{routed}");
    }
    assert_eq!(backend.counts().connections, 0);
}

#[tokio::test]
async fn a_client_that_begins_late_is_still_understood() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("hello").into());
    let mut sidecar = Sidecar::start();
    sidecar.apply(cart(Declared::Nothing, &[backend.address()]));
    let mut client = sidecar.raw(CART).await;
    // By now the sidecar has given up waiting for the client alone.
    backend.until(|counts| counts.connections == 1).await;
    client.write("GET /late HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(client.read_to_end().await.ends_with("hello"));
    assert_eq!(backend.seen()[0].headers["x-forwarded-for"], "192.0.2.9", "as a request, not as bytes");
    backend.until(|counts| counts.open <= 1).await;
    assert_eq!(sidecar.metrics("tidegate_streams_total"), "", "it was no opaque connection");
}

#[tokio::test]
async fn where_no_endpoint_can_be_reached_the_client_is_reset_and_the_reason_told() {
    let (dead, alive) = (nobody().await, echo("").await);
    let mut sidecar = Sidecar::start();
    sidecar.apply(cart(Declared::Other, &[dead]));
    let mut client = sidecar.raw(CART).await;
    assert_eq!(client.read_to_end().await, "");
    let counted = sidecar.metrics("tidegate_streams_total");
    let labels = "{direction=\"outbound\",route=\"\",backend=\"shop/cart:80\",reason=\"connect_failed\"} 1";
    assert!(counted.ends_with(labels), "{counted}");

    sidecar.apply(cart(Declared::Other, &[dead, alive]));
    for _ in 0..8 {
        let mut client = sidecar.raw(CART).await;
        client.write("hello").await;
        assert_eq!(client.read_until("hello").await, "hello", "another endpoint takes it");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_reset_on_the_other_side_too() {
    let (listener, address) = listen().await;
    let mut sidecar = Sidecar::start();
    sidecar.apply(cart(Declared::Other, &[address]));
    let mut stream = TcpStream::connect(sidecar.address()).await.unwrap();
    stream.write_all(&outbound::to(CART)).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    RawClient::from(server).reset();
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ConnectionReset,
        "an end in order would pass for whole data"
    );
}

#[tokio::test]
async fn an_opaque_connection_leaves_one_line_in_the_access_log() {
    let server = echo("").await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut sidecar = Sidecar::with(|config| {
        config.accept_proxy_protocol.sites = vec![HeaderSite::Outbound];
        config.access_log = LogTarget::File(log.path().into());
    });
    sidecar.apply(cart(Declared::Other, &[server]));
    let mut client = sidecar.raw(CART).await;
    client.write("12345").await;
    assert_eq!(client.read_until("12345").await, "12345");
    drop(client);
    sidecar.running.shutdown();
    sidecar.running.wait().await;
    let text = std::fs::read_to_string(log.path()).unwrap();
    let line: Value = serde_json::from_str(text.trim()).unwrap();
    for (name, want) in [
        ("tidegate.direction", Value::from("outbound")),
        ("network.transport", "tcp".into()),
        ("client.address", "192.0.2.9".into()),
        ("server.address", "127.96.0.1".into()),
        ("server.port", 80.into()),
        ("tidegate.rule", "default".into()),
        ("tidegate.backend", "shop/cart:80".into()),
        ("tidegate.endpoint", server.to_string().into()),
        ("tidegate.bytes.received", 5.into()),
        ("tidegate.bytes.sent", 5.into()),
    ] {
        assert_eq!(line[name], want, "{name} in {line}");
    }
    assert!(line.get("tidegate.reason").is_none(), "{line}");
}

#[tokio::test]
async fn a_drain_cuts_an_opaque_connection_off_when_its_time_is_over_and_says_so() {
    let server = echo("").await;
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut sidecar = Sidecar::with(|config| {
        config.accept_proxy_protocol.sites = vec![HeaderSite::Outbound];
        config.access_log = LogTarget::File(log.path().into());
        config.drain_timeout = Duration::from_millis(10);
    });
    sidecar.apply(cart(Declared::Other, &[server]));
    let mut client = sidecar.raw(CART).await;
    client.write("1").await;
    client.read_until("1").await;
    sidecar.running.shutdown();
    sidecar.running.wait().await;
    assert_eq!(client.read_to_end().await, "");
    let text = std::fs::read_to_string(log.path()).unwrap();
    assert!(text.contains("\"tidegate.reason\":\"draining\""), "{text}");
}

#[tokio::test]
async fn web_sockets_pass_through_the_sidecar() {
    let (listener, address) = listen().await;
    let mut sidecar = Sidecar::start();
    sidecar.apply(cart(Declared::Nothing, &[address]));
    for destination in [CART, &address.to_string()] {
        let mut client = sidecar.raw(destination).await;
        client
            .write("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .await;
        let (server, _) = listener.accept().await.unwrap();
        let mut server = RawClient::from(server);
        let head = server.read_until("\r\n\r\n").await;
        assert!(head.contains("upgrade: websocket"), "{head}");
        server
            .write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
            .await;
        assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 101"));
        client.write("up").await;
        assert_eq!(server.read_until("up").await, "up");
        server.write("down").await;
        assert_eq!(client.read_until("down").await, "down");
    }
}

#[tokio::test]
async fn where_a_policy_wants_tls_only_tls_and_http_pass() {
    let server = echo("").await;
    let mut sidecar = Sidecar::start();
    let mut all = cart(Declared::Other, &[server]);
    for resource in &mut all {
        if let Resource::Backend(backend) = resource {
            backend.tls = Some(BackendTls {
                policy: PolicyRef {
                    kind: "BackendTLSPolicy".into(),
                    name: backend.name.object.clone(),
                    source: backend.source.clone(),
                },
                verification: Verification { trust: None, hostname: "cart".into(), alt_names: Vec::new() },
            });
        }
    }
    sidecar.apply(all);
    let mut client = sidecar.raw(CART).await;
    client.write("EHLO in clear\r\n\r\n").await;
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 400"), "refused, and not passed on in clear");
}
