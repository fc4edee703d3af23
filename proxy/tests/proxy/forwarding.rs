//! Requests that go through: bodies, trailers, headers and protocols, as they should arrive on the other side.

use crate::mesh;
use crate::mesh::{Gateway, get, post, service_at, sidecar, sidecar_config};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt;
use tidegate_policy::model::AppProtocol;
use tidegate_proxy::Proxy;
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{empty, full, streaming};
use tidegate_testkit::client::{Answer, Client, RawClient};

#[tokio::test]
async fn a_thousand_requests_in_a_row_use_one_connection() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("hello").into());
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    for _ in 0..1_000 {
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    }
    assert_eq!((backend.counts().connections, backend.counts().requests), (1, 1_000));
}

#[tokio::test]
async fn bodies_stream_both_ways_without_waiting_for_their_end() {
    for (http2_down, protocol) in [
        (false, AppProtocol::Http1),
        (false, AppProtocol::H2c),
        (true, AppProtocol::Http1),
        (true, AppProtocol::H2c),
    ] {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = Proxy::start(sidecar_config(backend.address(), protocol)).unwrap();
        let address = proxy.inbound().unwrap();
        let mut client = if http2_down { Client::http2(address).await } else { Client::http1(address).await };
        let (frames, body) = streaming();
        frames.data("first").await;
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        let mut body = response.into_body();
        for chunk in ["first", "second", "third"] {
            // The backend has answered the last chunk before the client sends the next.
            if chunk != "first" {
                frames.data(chunk).await;
            }
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), chunk, "{http2_down} {protocol:?}");
        }
        drop(frames);
        assert!(body.collect().await.unwrap().to_bytes().is_empty());
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_in_every_pairing() {
    for (http2_down, protocol) in [
        (false, AppProtocol::Http1),
        (false, AppProtocol::H2c),
        (true, AppProtocol::Http1),
        (true, AppProtocol::H2c),
    ] {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = Proxy::start(sidecar_config(backend.address(), protocol)).unwrap();
        let address = proxy.inbound().unwrap();
        let mut client = if http2_down { Client::http2(address).await } else { Client::http1(address).await };
        let (frames, body) = streaming();
        let request =
            Request::post("/").header("te", "trailers").header("trailer", "x-sum").body(body).unwrap();
        let sending = async {
            frames.data("body").await;
            frames.trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())])).await;
            drop(frames);
        };
        let (answer, ()) = tokio::join!(client.call(request), sending);
        assert_eq!(answer.body, "body");
        assert_eq!(
            answer.trailers.get("x-sum"),
            Some(&HeaderValue::from_static("42")),
            "{http2_down} {protocol:?}"
        );
    }
}

#[tokio::test]
async fn grpc_goes_out_as_http_2_and_its_status_comes_back_in_trailers() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::grpc("message", 5).into());
    let proxy = sidecar(backend.address());
    let mut client = Client::http2(proxy.inbound().unwrap()).await;
    let request = Request::post("/shop.Cart/Get")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(full("request"))
        .unwrap();
    let answer = client.call(request).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"message"[..]));
    assert_eq!(answer.trailers["grpc-status"], "5");
    let seen = &backend.seen()[0];
    assert_eq!(seen.version, http::Version::HTTP_2);
    assert_eq!(seen.uri.authority().unwrap(), "test");
    assert_eq!(seen.headers["te"], "trailers");
}

#[tokio::test]
async fn requests_over_http_2_share_one_connection_on_each_thread() {
    let backend = FaultBackend::start().await;
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    backend.always(Script::After(go.clone(), Box::default()));
    let config = sidecar_config(backend.address(), AppProtocol::H2c);
    let threads = config.workers;
    let proxy = Proxy::start(config).unwrap();
    let address = proxy.inbound().unwrap();
    let calls: Vec<_> = (0..50)
        .map(|_| tokio::spawn(async move { Client::http1(address).await.get("/").await.status }))
        .collect();
    backend.until(|c| c.requests == 50).await;
    assert_eq!(backend.counts().connections, threads);
    go.notify_waiters();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn the_backend_sees_the_client_and_no_header_that_was_for_us() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("x").header("keep-alive", "timeout=9").header("x-kept", "1").into());
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client
        .write(
            "GET /a?b=c HTTP/1.1\r\nHost: cart\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
             TE: gzip\r\nProxy-Connection: x\r\nX-Forwarded-For: 10.0.0.9\r\nX-Kept: 1\r\n\r\n",
        )
        .await;
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("keep-alive") && answer.contains("x-kept"), "{answer}");
    let seen = &backend.seen()[0];
    assert_eq!(seen.uri, "/a?b=c");
    assert_eq!(seen.headers["host"], "cart");
    assert_eq!(seen.headers["x-forwarded-for"], "10.0.0.9, 127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
    assert!(seen.headers.contains_key("x-request-id"));
    assert!(!seen.headers.contains_key("traceparent"), "of a trace that nobody records");
    assert!(seen.headers.contains_key("x-kept"));
    for gone in ["x-mine", "keep-alive", "te", "proxy-connection", "via"] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn a_head_request_keeps_the_length_and_gets_no_body() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::default().header("content-length", "1234").into());
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    for _ in 0..2 {
        let answer = client.call(Request::head("/").body(empty()).unwrap()).await;
        assert_eq!(answer.headers["content-length"], "1234");
        assert!(answer.body.is_empty());
    }
    assert_eq!(backend.counts().connections, 1);
}

#[tokio::test]
async fn expect_100_continue_is_answered_and_the_body_follows() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client.write("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await;
    assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    client.write("body").await;
    assert!(client.read_until("body").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_path_is_forwarded_in_the_one_way_in_which_it_is_matched() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client.write("GET /a/%2e%2E/b%7e//c%2fd/.?q=/../#x HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.read_until("\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(backend.seen()[0].uri, "/b~/c%2Fd/?q=/../");
    for target in ["/a/..;/b", "/a%2f../b", "/%c3%a", "/a%00"] {
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        let answer = client.read_until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{target}: {answer}");
    }
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn a_length_beside_chunked_is_never_passed_on() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client
        .write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
        .await;
    let answer = client.read_until("\r\n\r\n").await;
    // Either is right (RFC 9112 6.3): refuse, or believe the chunks alone.
    if answer.starts_with("HTTP/1.1 200") {
        assert!(!backend.seen()[0].headers.contains_key("content-length"));
    } else {
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test]
async fn a_websocket_becomes_a_tunnel() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = sidecar(listener.local_addr().unwrap());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client.write("GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let mut server = RawClient::from(listener.accept().await.unwrap().0);
    let head = server.read_until("\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
    server
        .write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
        .await;
    let answer = client.read_until("hello").await;
    assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("hello"), "{answer}");
    client.write("ping").await;
    assert_eq!(server.read_until("ping").await, "ping");
    drop(client);
    assert_eq!(server.read_to_end().await, "");
}

#[tokio::test]
async fn a_gateway_sends_requests_to_every_endpoint() {
    let (a, b) = (FaultBackend::start().await, FaultBackend::start().await);
    let gateway = Gateway::start().to(&[a.address(), b.address()]).await;
    let mut client = Client::http1(gateway.address().await).await;
    for _ in 0..200 {
        assert_eq!(client.get("/").await.status, 200);
    }
    // By latency: of requests that come one after the other, one may get nearly all.
    assert!(a.counts().requests > 0 && b.counts().requests > 0, "{:?} {:?}", a.counts(), b.counts());
}

#[tokio::test]
async fn outbound_requests_go_to_the_service_that_the_host_names() {
    let backend = FaultBackend::start().await;
    let mut gateway = Gateway::with(|config| {
        config.outbound = Some(mesh::loopback(0));
        config.local.namespace = "shop".into();
    });
    gateway.apply(service_at("cart", AppProtocol::Http1, &[backend.address()]));
    let mut client = Client::http1(gateway.running.outbound().unwrap()).await;
    let to = |host: &'static str| Request::get("/").header("host", host).body(empty()).unwrap();
    assert_eq!(client.call(to("cart")).await.status, 200);
    assert_eq!(client.call(to("cart.shop.svc.cluster.local:80")).await.status, 200);
    assert_eq!(client.call(to("nobody")).await.reason(), Some("no_route"));
}

#[tokio::test]
async fn a_request_body_of_known_length_keeps_its_length() {
    let backend = FaultBackend::start().await;
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    assert_eq!(client.call(post("/", "12345")).await.status, 200);
    let response = client.send(get("/")).await.unwrap();
    assert_eq!(Answer::read(response).await.unwrap().status, 200);
    assert_eq!(backend.seen()[0].headers["content-length"], "5");
    assert!(!backend.seen()[1].headers.contains_key("content-length"));
}

#[tokio::test]
async fn ten_megabytes_pass_both_ways_unharmed_in_every_pairing() {
    let sent: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 251) as u8).collect();
    for (http2_down, protocol) in [
        (false, AppProtocol::Http1),
        (false, AppProtocol::H2c),
        (true, AppProtocol::Http1),
        (true, AppProtocol::H2c),
    ] {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = Proxy::start(sidecar_config(backend.address(), protocol)).unwrap();
        let address = proxy.inbound().unwrap();
        let mut client = if http2_down { Client::http2(address).await } else { Client::http1(address).await };
        let answer = client.call(Request::post("/").body(full(sent.clone())).unwrap()).await;
        assert!(answer.body == sent, "{http2_down} {protocol:?}");
    }
}

#[tokio::test]
async fn an_upgrade_that_the_backend_declines_is_a_plain_answer() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::status(426).into());
    let proxy = sidecar(backend.address());
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    for _ in 0..2 {
        let request = Request::get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
        assert_eq!(client.call(request.body(empty()).unwrap()).await.status, 426);
    }
    assert_eq!(backend.counts().connections, 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let backend = FaultBackend::start().await;
    backend.push(Reply::text("first").into()).push(Reply::text("second").into());
    let proxy = sidecar(backend.address());
    let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
    client.write("GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(client.read_until("first").await.starts_with("HTTP/1.1 200"));
    assert!(client.read_until("second").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_access_log_tells_the_id_that_the_backend_was_told_whoever_made_it() {
    let (log, backend) = (tempfile::NamedTempFile::new().unwrap(), FaultBackend::start().await);
    let mut config = sidecar_config(backend.address(), AppProtocol::Http1);
    config.access_log = LogTarget::File(log.path().into());
    let proxy = Proxy::start(config).unwrap();
    let mut client = Client::http1(proxy.inbound().unwrap()).await;
    client.call(Request::get("/").header("x-request-id", "mine-7").body(empty()).unwrap()).await;
    client.call(get("/")).await;
    proxy.shutdown();
    proxy.wait().await;
    let text = std::fs::read_to_string(log.path()).unwrap();
    let logged: Vec<String> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let told: Vec<_> =
        backend.seen().iter().map(|seen| seen.headers["x-request-id"].to_str().unwrap().to_owned()).collect();
    assert_eq!(logged, told);
    assert_eq!(logged[0], "mine-7");
}
