//! WebSockets between HTTP/1.1 and HTTP/2, and CONNECT: tunnels, and who may not have one.

use std::time::Duration;

use crate::mesh::{route, sidecar, sidecar_config};
use crate::outbound::Sidecar;
use crate::pairings::{self, Pairing};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tidegate_policy::model::{AppProtocol, Route};
use tidegate_proxy::Proxy;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{TestBody, empty};
use tidegate_testkit::client::{Answer, Client, RawClient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The example of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A WebSocket, as the client of a pairing asks for it.
pub(crate) fn websocket(pairing: Pairing) -> Request<TestBody> {
    extended_or_upgrade(pairing, "websocket")
}

fn extended_or_upgrade(pairing: Pairing, protocol: &'static str) -> Request<TestBody> {
    if pairing.http2 {
        let request = Request::builder().method(Method::CONNECT).uri("http://test/ws");
        return request.extension(Protocol::from_static(protocol)).body(empty()).unwrap();
    }
    let request = Request::get("/ws").header("connection", "Upgrade").header("upgrade", protocol);
    let request = request.header("sec-websocket-key", KEY).header("sec-websocket-version", "13");
    request.body(empty()).unwrap()
}

fn connect(authority: &str) -> Request<TestBody> {
    Request::builder().method(Method::CONNECT).uri(authority).body(empty()).unwrap()
}

async fn opened(mut response: Response<Incoming>) -> TokioIo<Upgraded> {
    TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap())
}

/// Bytes pass both ways, and the client's end is the other side's.
async fn used(mut tunnel: TokioIo<Upgraded>, backend: &FaultBackend) {
    for text in [&b"ping"[..], b"pong"] {
        tunnel.write_all(text).await.unwrap();
        let mut back = [0; 4];
        tunnel.read_exact(&mut back).await.unwrap();
        assert_eq!(back, text);
    }
    backend.until(|counts| counts.tunnels == 1).await;
    drop(tunnel);
    backend.until(|counts| counts.tunnels == 0).await;
}

#[tokio::test]
async fn a_websocket_opens_in_every_pairing() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start_with_tunnels().await;
        backend.always(Script::Tunnel);
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let response = client.send(websocket(pairing)).await.unwrap();
        let headers = response.headers();
        if pairing.http2 {
            assert_eq!(response.status(), 200, "{pairing:?}");
            assert!(!headers.contains_key("sec-websocket-accept") && !headers.contains_key("upgrade"));
        } else {
            assert_eq!(response.status(), 101, "{pairing:?}");
            assert_eq!(
                (&headers["sec-websocket-accept"], &headers["upgrade"]),
                (&ACCEPT.parse().unwrap(), &"websocket".parse().unwrap())
            );
        }
        let seen = &backend.seen()[0];
        let asked_by_connect = seen.extensions.get() == Some(&Protocol::from_static("websocket"));
        assert_eq!((asked_by_connect, seen.uri.path()), (pairing.backend == AppProtocol::H2c, "/ws"));
        assert_eq!(seen.headers.contains_key("sec-websocket-key"), pairing.backend == AppProtocol::Http1);
        used(opened(response).await, &backend).await;
    }
}

#[tokio::test]
async fn the_backends_end_of_a_websocket_is_the_clients() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start_with_tunnels().await;
        backend.always(Script::Tunnel);
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let mut tunnel = opened(client.send(websocket(pairing)).await.unwrap()).await;
        backend.until(|counts| counts.tunnels == 1).await;
        drop(backend);
        let mut rest = Vec::new();
        // In order or not: it ends.
        let _ = tunnel.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{pairing:?}");
    }
}

#[tokio::test]
async fn a_drain_waits_for_a_websocket_and_its_bytes_are_counted() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start_with_tunnels().await;
        backend.always(Script::Tunnel);
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let mut config = sidecar_config(backend.address(), pairing.backend);
        config.drain_timeout = Duration::from_secs(60);
        config.access_log = tidegate_proxy::telemetry::LogTarget::File(log.clone());
        let proxy = Proxy::start(config).unwrap();
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let mut tunnel = opened(client.send(websocket(pairing)).await.unwrap()).await;
        proxy.shutdown();
        let waiting = tokio::spawn(proxy.wait());
        for _ in 0..100 {
            tunnel.write_all(b"ping").await.unwrap();
            let mut back = [0; 4];
            tunnel.read_exact(&mut back).await.unwrap();
        }
        drop((tunnel, client));
        waiting.await.unwrap();
        let line: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(log).unwrap()).unwrap();
        let (received, sent) = (&line["http.request.body.size"], &line["http.response.body.size"]);
        assert_eq!((received, sent), (&400.into(), &400.into()), "{pairing:?} {line}");
    }
}

#[tokio::test]
async fn a_backend_that_says_no_is_heard() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start_with_tunnels().await;
        backend.always(Reply::status(403).into());
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let answer = client.call(websocket(pairing)).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (403, None), "{pairing:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_switched_to_is_refused_with_a_reason() {
    for pairing in pairings::ALL {
        // One that takes no WebSockets over HTTP/2, and says so by saying nothing.
        let backend = FaultBackend::start().await;
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let refused = |answer: &Answer| (answer.status.as_u16(), answer.reason().map(str::to_owned));
        let unsupported = (501, Some(String::from("upgrade_unsupported")));
        if pairing.backend == AppProtocol::H2c {
            assert_eq!(refused(&client.call(websocket(pairing)).await), unsupported, "{pairing:?}");
        }
        if pairing.http2 || pairing.backend == AppProtocol::H2c {
            let other = extended_or_upgrade(pairing, "connect-udp");
            assert_eq!(refused(&client.call(other).await), unsupported, "{pairing:?}");
        }
        assert_eq!(backend.counts().requests, 0, "{pairing:?}");
    }
}

#[tokio::test]
async fn an_agreement_that_does_not_fit_is_the_backends_fault() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = sidecar(listener.local_addr().unwrap());
        let mut client = Client::http2(proxy.inbound().unwrap()).await;
        let serving = async {
            let mut server = RawClient::from(listener.accept().await.unwrap().0);
            server.read_until("\r\n\r\n").await;
            server.write(answer).await;
            server
        };
        let (answer, _server) = tokio::join!(client.call(websocket(pairings::ALL[2])), serving);
        assert_eq!((answer.status.as_u16(), answer.reason()), (502, Some("upstream_protocol")));
    }
}

/// A route with a match of its own for CONNECT, as the Gateway API writes it.
fn connect_route() -> Route {
    let mut route = route("v1");
    route.rules[0].matches[0].method = Some(Method::CONNECT);
    route
}

#[tokio::test]
async fn connect_is_refused_unless_a_rule_asks_for_it() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        backend.always(Script::Tunnel);
        let gateway = pairing.gateway(backend.address(), route("v1")).await;
        let proxy = pairing.sidecar(backend.address());
        for address in [gateway.address().await, proxy.inbound().unwrap()] {
            let answer = pairing.client(address).await.call(connect("db.shop:5432")).await;
            assert_eq!(
                (answer.status.as_u16(), answer.reason()),
                (403, Some("connect_refused")),
                "{pairing:?}"
            );
        }
        assert_eq!(backend.counts().requests, 0);
    }
}

#[tokio::test]
async fn connect_opens_a_tunnel_where_a_rule_asks_for_it() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        backend.push(Script::Tunnel).push(Reply::status(407).into()).push(Reply::status(204).into());
        let gateway = pairing.gateway(backend.address(), connect_route()).await;
        let mut client = pairing.client(gateway.address().await).await;
        let response = client.send(connect("db.shop:5432")).await.unwrap();
        assert_eq!(response.status(), 200, "{pairing:?}");
        let seen = &backend.seen()[0];
        assert_eq!((&seen.method, seen.uri.to_string().as_str()), (&Method::CONNECT, "db.shop:5432"));
        used(opened(response).await, &backend).await;
        let mut client = pairing.client(gateway.address().await).await;
        assert_eq!(client.call(connect("db.shop:5432")).await.status, 407, "{pairing:?}");
    }
}

#[tokio::test]
async fn connect_without_a_port_is_no_request() {
    let backend = FaultBackend::start().await;
    let gateway = pairings::ALL[0].gateway(backend.address(), connect_route()).await;
    for target in ["db.shop", "/", "http://db.shop:5432/", "db.shop:0"] {
        let mut client = RawClient::connect(gateway.address().await).await;
        client.write(format!("CONNECT {target} HTTP/1.1\r\nhost: db.shop\r\n\r\n")).await;
        let answer = client.read_until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    assert_eq!(backend.counts().requests, 0);
}

#[tokio::test]
async fn an_application_reaches_its_forward_proxy_by_connect() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Tunnel);
    let sidecar = Sidecar::start();
    let mut client = sidecar.http1(&backend.address().to_string()).await;
    let response = client.send(connect("example.com:443")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(backend.seen()[0].uri, "example.com:443");
    used(opened(response).await, &backend).await;
}
