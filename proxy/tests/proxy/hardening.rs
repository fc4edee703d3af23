//! Requests made to confuse, and peers that stop in the middle: refused or given up, with nothing held for ever.

use crate::mesh;
use std::time::Duration;

use crate::mesh::{Gateway, everything_to, get, policy, post, sidecar, sidecar_config};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::json;
use tidegate_policy::model::{Address, AppProtocol, Endpoint, Endpoints, Resource, TargetKind};
use tidegate_proxy::Proxy;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{empty, full, streaming};
use tidegate_testkit::client::{Answer, Client, RawClient};
use tokio::net::TcpListener;
use tokio::sync::Notify;

const STALL: Duration = Duration::from_millis(50);

fn stalling(app: std::net::SocketAddr, protocol: AppProtocol) -> tidegate_proxy::Running {
    let mut config = sidecar_config(app, protocol);
    config.stall_timeout = Some(STALL);
    Proxy::start(config).unwrap()
}

#[tokio::test]
async fn requests_whose_length_or_target_is_in_doubt_are_refused_and_reach_nobody() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let refused = [
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2, 2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -2\r\n\r\nhi",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nhi",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\rx-b: c\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\n x-a: b\r\nhost: a\r\n\r\n",
        "GET b:80 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET http://me@b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for request in refused {
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(request).await;
        let answer = client.read_to_end().await;
        assert!(
            answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"),
            "{request:?}: {answer}"
        );
    }
    assert_eq!(backend.seen().len(), 0);
}

#[tokio::test]
async fn heads_without_measure_are_431() {
    let proxy = sidecar(mesh::loopback(1));
    let many = "x-a: 1\r\n".repeat(200);
    let large = format!("x-a: {}\r\n", "a".repeat(70_000));
    for headers in [many, large] {
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n")).await;
        assert!(client.read_to_end().await.starts_with("HTTP/1.1 431"));
    }
}

#[tokio::test]
async fn what_follows_a_request_with_two_lengths_is_not_a_request() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client
        .write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    client.read_to_end().await;
    assert!(backend.seen().iter().all(|head| head.uri != "/smuggled"));
}

#[tokio::test]
async fn no_upgrade_leads_past_the_policies_into_another_http() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    for offer in ["h2c", "websocket, h2c", "HTTP/2.0"] {
        let mut client = Client::http1(proxy.inbound().unwrap()).await;
        let request = Request::get("/").header("connection", "upgrade").header("upgrade", offer);
        assert_eq!(client.call(request.body(empty()).unwrap()).await.status, 200);
    }
    assert!(backend.seen().iter().all(|head| !head.headers.contains_key("upgrade")));
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_not_asked_for_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = sidecar(listener.local_addr().unwrap());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    let server = tokio::spawn(async move {
        let mut server = RawClient::from(listener.accept().await.unwrap().0);
        server.read_until("\r\n\r\n").await;
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        server.read_until("\r\n\r\n").await;
        server.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok").await;
        listener
    });
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(client.get("/").await.reason(), Some("upstream_protocol"));
    let again = tokio::time::timeout(STALL, server.await.unwrap().accept()).await;
    assert!(again.is_err(), "a second connection was opened");
}

#[tokio::test]
async fn what_an_endpoint_sends_beyond_its_answer_answers_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = sidecar(listener.local_addr().unwrap());
    let two =
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngoodHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut server = RawClient::from(stream);
            server.read_until("\r\n\r\n").await;
            server.write(two).await;
            tokio::spawn(async move { server.read_to_end().await });
        }
    });
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    for _ in 0..100 {
        assert_eq!(client.get("/").await.body, "good");
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[backend.address()]);
    let spec = json!({"limits": [{"name": "one", "requests": 1, "per": "1h"}]});
    all.push(policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), spec));
    gateway.apply(all);
    let address = gateway.address().await;
    assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    for _ in 0..20 {
        let mut client = RawClient::connect(address).await;
        client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4000000\r\n\r\n").await;
        client.write(vec![b'x'; 4_000_000]).await;
        assert!(client.read_to_end().await.starts_with("HTTP/1.1 429"));
    }
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_body_is_408() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let backend = FaultBackend::start().await;
        backend.always(Script::ReadThenReset);
        let proxy = stalling(backend.address(), protocol);
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").await;
        let answer = client.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("client_stalled"), "{answer}");
        backend.until(|c| c.cancelled == 1).await;
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_read_the_body_is_504() {
    for (protocol, script) in [(AppProtocol::Http1, Script::Hang), (AppProtocol::H2c, Script::Hang)] {
        let backend = FaultBackend::start().await;
        backend.always(script);
        let proxy = stalling(backend.address(), protocol);
        let (frames, body) = streaming();
        let mut client = Client::http2(proxy.inbound().unwrap()).await;
        let sending = tokio::spawn(async move {
            for _ in 0..1_000 {
                frames.data(vec![0; 100_000]).await;
            }
        });
        let answer = client.call(Request::post("/").body(body).unwrap()).await;
        assert_eq!(answer.reason(), Some("request_timeout"), "{protocol:?}");
        sending.abort();
    }
}

#[tokio::test]
async fn an_answer_that_stops_in_the_middle_is_cut_and_its_connection_closed() {
    for protocol in [AppProtocol::Http1, AppProtocol::H2c] {
        let backend = FaultBackend::start().await;
        backend.always(Script::Cut(Bytes::from_static(b"half"), Notify::new().into()));
        let proxy = stalling(backend.address(), protocol);
        for mut client in
            [Client::http1(proxy.inbound().unwrap()).await, Client::http2(proxy.inbound().unwrap()).await]
        {
            let body = client.send(get("/")).await.unwrap().into_body();
            assert!(body.collect().await.is_err(), "{protocol:?}");
        }
        if protocol == AppProtocol::Http1 {
            backend.until(|c| c.open == 0).await;
        }
    }
}

#[tokio::test]
async fn a_grpc_stream_may_be_silent() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let proxy = stalling(backend.address(), AppProtocol::H2c);
    let mut client = Client::http2(proxy.inbound().unwrap()).await;
    let (frames, body) = streaming();
    frames.data("first").await;
    let request = Request::post("/a.B/C").header("content-type", "application/grpc").body(body).unwrap();
    let response = client.send(request).await.unwrap();
    tokio::time::sleep(STALL * 3).await;
    frames.data("second").await;
    drop(frames);
    assert_eq!(Answer::read(response).await.unwrap().body, "firstsecond");
}

#[tokio::test]
async fn a_client_that_stops_reading_loses_its_connection_and_holds_none_upstream() {
    let backend = FaultBackend::start().await;
    let body = Bytes::from(vec![0; 50_000_000]);
    backend.always(Reply { body, ..Reply::default() }.into());
    let proxy = stalling(backend.address(), AppProtocol::Http1);
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client.write("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    backend.until(|c| c.requests == 1).await;
    backend.until(|c| c.open == 0).await;
}

#[tokio::test]
async fn above_the_cap_connections_wait_until_one_ends() {
    let backend = FaultBackend::start().await;
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    config.max_connections = 2;
    let proxy = Proxy::start(config).unwrap();
    let address = proxy.inbound().unwrap();
    let mut first = Client::http1(address).await;
    assert_eq!(first.get("/").await.status, 200);
    // Both have a request in flight, or just had one: neither is asked to leave.
    backend.push(Script::Hang);
    let mut second = RawClient::connect(address).await;
    second.write("GET /second HTTP/1.1\r\nhost: a\r\n\r\n").await;
    backend.until(|c| c.requests == 2).await;
    let mut third = RawClient::connect(address).await;
    third.write("GET /third HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // What is open goes on as if nothing were.
    for _ in 0..20 {
        assert_eq!(first.get("/").await.status, 200);
    }
    assert!(backend.seen().iter().all(|head| head.uri != "/third"));
    drop(second);
    assert!(third.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_that_ask_for_nothing_make_room_for_those_that_do() {
    let backend = FaultBackend::start().await;
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    config.max_connections = 4;
    let proxy = Proxy::start(config).unwrap();
    let address = proxy.inbound().unwrap();
    backend.push(Script::Hang);
    let mut working = RawClient::connect(address).await;
    working.write("GET /working HTTP/1.1\r\nhost: a\r\n\r\n").await;
    backend.until(|c| c.requests == 1).await;
    // Slowloris: a head that never ends, nothing at all, and one that asked once and stays.
    let mut slow = RawClient::connect(address).await;
    slow.write("GET /slow HTTP/1.1\r\nhost: a\r\n").await;
    let silent = RawClient::connect(address).await;
    let mut idle = Client::http1(address).await;
    assert_eq!(idle.get("/").await.status, 200);
    for _ in 0..3 {
        let mut other = Client::http1(address).await;
        assert_eq!(other.get("/other").await.status, 200);
    }
    let mut all = Vec::new();
    for _ in 0..3 {
        let mut other = Client::http1(address).await;
        assert_eq!(other.get("/other").await.status, 200);
        all.push(other);
    }
    assert_eq!(slow.read_to_end().await, "");
    drop(silent);
    // The one with a request in flight was left alone.
    assert_eq!(backend.counts().cancelled, 0);
}

#[tokio::test]
async fn a_client_that_takes_its_requests_back_at_once_is_shown_the_door() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let proxy = Proxy::start(sidecar_config(backend.address(), AppProtocol::H2c)).unwrap();
    let address = proxy.inbound().unwrap();
    let mut client = Client::http2(address).await;
    let mut made = 0;
    while !client.is_closed() && made < 2_000 {
        made += 1;
        let wanted = backend.counts().requests + 1;
        tokio::select! {
            _ = client.send(get("/")) => {}
            _ = backend.until(|c| c.requests >= wanted) => {}
        }
    }
    assert!(client.is_closed() && made > 100, "{made}");
    backend.always(Reply::default().into());
    assert_eq!(Client::http2(address).await.get("/").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_may_be_a_name() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::start();
    let mut all = everything_to("v1", &[]);
    let named = |host: &str| Endpoints {
        backend: mesh::backend_name("v1"),
        endpoints: vec![Endpoint::at(Address::Name { host: host.into(), port: backend.address().port() })],
    };
    all.push(Resource::Endpoints(named("localhost")));
    gateway.apply(all);
    let mut client = Client::http1(gateway.address().await).await;
    assert_eq!(client.call(post("/", "x")).await.status, 200);
    gateway.apply(vec![Resource::Endpoints(named("nobody.invalid"))]);
    assert!(matches!(client.get("/").await.reason(), Some("connect_failed" | "connect_timeout")));
    gateway.apply(vec![Resource::Endpoints(named("localhost"))]);
    assert_eq!(client.call(Request::put("/").body(full("x")).unwrap()).await.status, 200);
}
