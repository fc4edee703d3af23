//! PROXY protocol headers that a load balancer puts before a connection: its client is the one that counts.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_policy::model::*;
use tidegate_proxy::config::HeaderSite;
use tidegate_proxy::telemetry::{LogTarget, Scrape};
use tidegate_proxy::{Proxy, ProxyConfig, Running};
use tidegate_testkit::backend::FaultBackend;
use tidegate_testkit::client::Client;
use tidegate_testkit::proxy_header::{v1, v2, v2_raw};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::mesh::{self, Gateway, PORT, get, service_at, sidecar_config};
use crate::streams::{
    connector, echo, greeting, is_refused, passthrough, say, signed, stream_listener, tcp_route, tls_echo,
    tls_route,
};

const CLIENT: &str = "192.0.2.9:4321";
const REACHED: &str = "198.51.100.7:443";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a load balancer sends for `client`.
fn of(client: &str) -> Vec<u8> {
    v2(address(client), address(REACHED), b"\x04\0\x02ab")
}

fn expecting(config: &mut ProxyConfig) {
    config.accept_proxy_protocol.sites = vec![HeaderSite::Gateway, HeaderSite::Inbound];
}

/// How often connections were closed for their header.
fn refused(running: &Running) -> String {
    let told = running.state().telemetry.render_metrics(&Scrape::default());
    let line = told.lines().find(|line| line.contains(r#"refused_total{result="proxy_header"}"#));
    line.unwrap().rsplit(' ').next().unwrap().to_owned()
}

fn forwarded_for(backend: &FaultBackend) -> Vec<String> {
    let header = |head: &http::request::Parts| head.headers["x-forwarded-for"].to_str().unwrap().to_owned();
    backend.seen().iter().map(header).collect()
}

#[tokio::test]
async fn the_source_of_the_header_is_the_client_and_who_speaks_for_itself_is_its_own() {
    let backend = FaultBackend::start().await;
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    expecting(&mut config);
    let sidecar = Proxy::start(config).unwrap();
    let gateway = Gateway::with(expecting).to(&[backend.address()]).await;
    for at in [sidecar.inbound().unwrap(), gateway.address().await] {
        let seen = backend.seen().len();
        for header in [
            of(CLIENT),
            v1(address(CLIENT), address(REACHED)),
            v2(address("[2001:db8::9]:1"), address("[2001:db8::7]:2"), b""),
            v2_raw(0x20, 0, b""),
            b"PROXY UNKNOWN\r\n".to_vec(),
        ] {
            assert_eq!(Client::http1_after(&header, at).await.get("/").await.status, 200);
        }
        assert_eq!(Client::http2_after(&of(CLIENT), at).await.get("/").await.status, 200);
        let want = ["192.0.2.9", "192.0.2.9", "2001:db8::9", "127.0.0.1", "127.0.0.1", "192.0.2.9"];
        assert_eq!(forwarded_for(&backend)[seen..], want);
    }
}

#[tokio::test]
async fn limits_count_the_clients_of_the_headers_apart() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::with(expecting).to(&[backend.address()]).await;
    let limit =
        json!({"limits": [{"name": "each", "requests": 1, "per": "1h", "key": [{"type": "ClientAddress"}]}]});
    gateway.apply(vec![mesh::policy("RateLimitPolicy", (TargetKind::Gateway, "edge"), limit)]);
    let at = gateway.address().await;
    let mut statuses = Vec::new();
    for client in ["192.0.2.1:1", "192.0.2.2:1", "192.0.2.1:2", "192.0.2.2:2"] {
        let answer = Client::http1_after(&of(client), at).await.call(get("/")).await;
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[tokio::test]
async fn a_connection_without_a_header_that_can_be_read_is_closed_and_counted() {
    let backend = FaultBackend::start().await;
    let gateway = Gateway::with(expecting).to(&[backend.address()]).await;
    let at = gateway.address().await;
    for bytes in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PROXY TCP9 what ever\r\n", &[0x16; 64]] {
        assert!(is_refused(at, bytes).await, "{bytes:?}");
    }
    assert_eq!(refused(&gateway.running), "3");
    assert_eq!(backend.counts().requests, 0);
    let unexpected = Gateway::start().to(&[backend.address()]).await;
    let at = unexpected.address().await;
    let answer = Client::http1_after(&v1(address(CLIENT), address(REACHED)), at).await.send(get("/")).await;
    assert!(answer.is_err() || answer.unwrap().status() == 400, "a header is no request");
    assert_eq!(backend.counts().requests, 0);
}

#[tokio::test]
async fn only_those_who_may_send_a_header_are_believed_and_all_others_are_closed() {
    let backend = FaultBackend::start().await;
    let from = |nets: [&str; 2]| {
        let nets = nets.map(|net| net.parse().unwrap());
        Gateway::with(move |config| {
            expecting(config);
            config.accept_proxy_protocol.from = nets.into();
        })
    };
    let trusting = from(["10.0.0.0/8", "127.0.0.0/8"]).to(&[backend.address()]).await;
    let at = trusting.address().await;
    assert_eq!(Client::http1_after(&of(CLIENT), at).await.get("/").await.status, 200);
    let wary = from(["10.0.0.0/8", "2001:db8::/32"]).to(&[backend.address()]).await;
    assert!(is_refused(wary.address().await, &of(CLIENT)).await);
    assert_eq!(refused(&wary.running), "1");
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn tls_follows_the_header_and_its_server_name_says_where_it_goes() {
    let shown = signed("a.example.com");
    let (to, mut gateway) = (tls_echo("a", &shown).await, Gateway::with(expecting));
    let mut all = service_at("a", AppProtocol::Http1, &[to]);
    all.push(passthrough("tls", PORT, "*.example.com"));
    all.push(tls_route("a", "tls", "a.example.com", "a"));
    gateway.apply(all);
    let mut stream = TcpStream::connect(gateway.address().await).await.unwrap();
    stream.write_all(&of(CLIENT)).await.unwrap();
    let name = "a.example.com".try_into().unwrap();
    let mut client = connector(&[&shown]).connect(name, stream).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "a");
    assert_eq!(say(&mut client, "hello").await, "hello bye");
}

#[tokio::test]
async fn https_ends_behind_the_header() {
    let (backend, shown) = (FaultBackend::start().await, signed("shop.example.com"));
    let mut gateway = Gateway::with(expecting);
    let mut all = mesh::everything_to("v1", &[backend.address()]);
    let tls = Some(vec![shown.certificate.clone()]);
    all.push(stream_listener("http", PORT, Accepts::Http { hostname: HostPattern::Any, tls }));
    gateway.apply(all);
    let mut stream = TcpStream::connect(gateway.address().await).await.unwrap();
    stream.write_all(&of(CLIENT)).await.unwrap();
    let name = "shop.example.com".try_into().unwrap();
    let client = connector(&[&shown]).connect(name, stream).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(client),
    )
    .await
    .unwrap();
    let request = http::Request::get("https://shop.example.com/").body(tidegate_testkit::body::empty());
    let answered = tokio::select! {
        answer = sender.send_request(request.unwrap()) => answer.unwrap().status(),
        ended = connection => panic!("{ended:?}"),
    };
    assert_eq!(answered, 200);
    assert_eq!(forwarded_for(&backend), ["192.0.2.9"]);
}

#[tokio::test]
async fn a_connection_that_is_carried_is_told_with_the_addresses_of_its_header() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut gateway = Gateway::with(|config| {
        expecting(config);
        config.access_log = LogTarget::File(log.path().into());
    });
    let mut all = service_at("cart", AppProtocol::Http1, &[echo("cart").await]);
    all.push(stream_listener("tcp", PORT, Accepts::Tcp));
    all.push(tcp_route("r", "tcp", &[("cart", 1)]));
    gateway.apply(all);
    let mut client = TcpStream::connect(gateway.address().await).await.unwrap();
    client.write_all(&of(CLIENT)).await.unwrap();
    assert_eq!(greeting(&mut client).await.unwrap(), "cart");
    assert_eq!(say(&mut client, "hello").await, "hello bye");
    gateway.running.shutdown();
    gateway.running.wait().await;
    let line: Value = serde_json::from_str(std::fs::read_to_string(log.path()).unwrap().trim()).unwrap();
    assert_eq!(line["client.address"], "192.0.2.9");
    assert_eq!((&line["server.address"], &line["server.port"]), (&json!("198.51.100.7"), &json!(443)));
    assert_eq!(line["tidegate.bytes.received"], 5, "the header is not part of it");
}
