//! HTTP/3 at a gateway's HTTPS listeners: the same requests, the same policies, the same answers.

mod lifecycle;
mod limits;
mod support;

use std::time::Duration;

use bytes::Bytes;
use h3::error::{Code, StreamError};
use http::{HeaderMap, Request};
use serde_json::json;
use tidegate_policy::model::*;
use tidegate_proxy::telemetry::LogTarget;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{full, streaming};
use tidegate_testkit::http3::cancel;
use tokio::sync::Notify;

use self::support::{HOST, Site, get, head, url};
use crate::mesh::{backend_name, policy, route, service_at};

#[tokio::test]
async fn a_request_reaches_the_backend_as_one_by_https_does() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::text("hello").header("x-from", "backend").into());
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let answer = client.call(get("/a/../b?c=d")).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"hello"[..]));
    assert_eq!(answer.headers["x-from"], "backend");
    assert_eq!(answer.headers["content-length"], "5");
    let seen = &backend.seen()[0];
    assert_eq!((seen.uri.to_string().as_str(), &seen.headers["host"]), ("/b?c=d", &HOST.parse().unwrap()));
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert!(!seen.headers.contains_key("transfer-encoding"), "it had no body");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_with_and_without_a_length() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let body = Bytes::from((0..5_000_000u32).map(|n| n as u8).collect::<Vec<_>>());
    for length in [None, Some(body.len())] {
        let mut request = Request::post(url("/")).body(full(body.clone())).unwrap();
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.into());
        }
        let answer = client.call(request).await;
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    }
    assert_eq!(backend.seen()[1].headers["content-length"], "5000000");
}

#[tokio::test]
async fn many_small_pieces_of_a_body_arrive_in_order() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let (frames, body) = streaming();
    let feeding = tokio::spawn(async move {
        for n in 0..20_000u32 {
            frames.data(Bytes::from(vec![n as u8])).await;
        }
    });
    let answer = client.call(Request::post(url("/")).body(body).unwrap()).await;
    feeding.await.unwrap();
    let sent: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    assert!(answer.body == sent, "{} bytes came back", answer.body.len());
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let site = Site::with(&backend, AppProtocol::H2c, |_| {}).await;
    let mut client = site.connect().await;
    let (frames, body) = streaming();
    let feeding = tokio::spawn(async move {
        frames.data("abc").await;
        frames.trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "3".parse().unwrap())])).await;
    });
    let answer = client.call(Request::post(url("/")).body(body).unwrap()).await;
    feeding.await.unwrap();
    assert_eq!((&*answer.body, &answer.trailers["x-sum"]), (&b"abc"[..], &"3".parse().unwrap()));
}

#[tokio::test]
async fn grpc_passes_to_a_backend_that_speaks_http2() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::grpc("message", 5).into());
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let request = Request::post(url("/shop.Cart/Get"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(full("question"))
        .unwrap();
    let answer = client.call(request).await;
    assert_eq!((&*answer.body, &answer.trailers["grpc-status"]), (&b"message"[..], &"5".parse().unwrap()));
    let seen = &backend.seen()[0];
    assert_eq!((seen.version, &seen.headers["te"]), (http::Version::HTTP_2, &"trailers".parse().unwrap()));
}

#[tokio::test]
async fn policies_decide_as_over_tcp_and_count_with_it() {
    let backend = FaultBackend::start().await;
    let mut site = Site::to(&backend).await;
    let spec = json!({ "limits": [{ "name": "all", "requests": 2, "per": "1h" }] });
    site.gateway.apply(vec![policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), spec)]);
    let mut client = site.connect().await;
    assert_eq!(site.get2().await.status, 200);
    assert_eq!(client.call(get("/")).await.status, 200);
    let refused = client.call(get("/")).await;
    assert_eq!((refused.status.as_u16(), refused.reason()), (429, Some("rate_limited")));
    assert_eq!(refused.headers["ratelimit-policy"], "\"all\";q=2;w=3600");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(backend.counts().requests, 2);
}

#[tokio::test]
async fn retries_and_mirrors_take_the_body_along() {
    let (backend, mirror) = (FaultBackend::start().await, FaultBackend::start().await);
    backend.push(Reply::status(503).into()).push(Script::Echo);
    let mut site = Site::to(&backend).await;
    let mut route = route("v1");
    route.rules[0].retry =
        Some(Retry { codes: [503][..].into(), attempts: 1, backoff: Some(Duration::ZERO) });
    let copies = Mirror { backend: backend_name("mirror"), share: Share::ALL };
    route.rules[0].filters = vec![RouteFilter::Mirror(copies)];
    site.gateway.apply(service_at("mirror", AppProtocol::Http1, &[mirror.address()]));
    site.gateway.apply(vec![Resource::Route(route)]);
    let mut client = site.connect().await;
    let request = Request::put(url("/")).header("content-length", "4").body(full("body")).unwrap();
    let answer = client.call(request).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"body"[..]));
    assert_eq!(backend.counts().requests, 2);
    mirror.until(|counts| counts.requests == 1).await;
    assert_eq!(mirror.seen()[0].headers["content-length"], "4");
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let backend = FaultBackend::start().await;
    let mut site = Site::to(&backend).await;
    let spec = json!({ "limits": [{ "name": "all", "requests": 1, "per": "1h" }] });
    site.gateway.apply(vec![policy("RateLimitPolicy", (TargetKind::HTTPRoute, "all"), spec)]);
    let mut client = site.connect().await;
    assert_eq!(client.call(get("/")).await.status, 200);
    let (frames, body) = streaming();
    let refused = client.call(Request::post(url("/")).body(body).unwrap()).await;
    assert_eq!((refused.status.as_u16(), refused.reason()), (429, Some("rate_limited")));
    // Nobody wants the rest.
    let endless = async {
        loop {
            frames.data(vec![0; 10_000]).await;
            // Where nobody reads any more, sending takes no time.
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = frames.closed() => {}
        () = endless => {}
    }
}

#[tokio::test]
async fn cookies_that_come_one_by_one_go_on_as_one() {
    let backend = FaultBackend::start().await;
    let site = Site::to(&backend).await;
    let mut request = get("/");
    for cookie in ["a=1", "b=2"] {
        request.headers_mut().append("cookie", cookie.parse().unwrap());
    }
    site.connect().await.call(request).await;
    let cookies: Vec<_> = backend.seen()[0].headers.get_all("cookie").iter().cloned().collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}

#[tokio::test]
async fn the_access_log_tells_the_version() {
    let (backend, directory) = (FaultBackend::start().await, tempfile::tempdir().unwrap());
    let path = directory.path().join("access.log");
    let site = Site::with(&backend, AppProtocol::Http1, |config| {
        config.access_log = LogTarget::File(path.clone());
    })
    .await;
    let mut client = site.connect().await;
    client.call(get("/seen")).await;
    drop(client);
    site.gateway.running.shutdown();
    site.gateway.running.wait().await;
    let line = std::fs::read_to_string(path).unwrap();
    assert!(line.contains("\"network.protocol.version\":\"3\""), "{line}");
    assert!(line.contains("\"url.scheme\":\"https\"") && line.contains("/seen"), "{line}");
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_taken_back_from_the_backend() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    // Nothing but the client may end it.
    let site = Site::with(&backend, AppProtocol::Http1, |config| config.request_timeout = None).await;
    let mut client = site.connect().await;
    let mut request = client.open(head("/")).await.unwrap();
    request.finish().await.unwrap();
    backend.until(|counts| counts.requests == 1).await;
    cancel(request);
    backend.until(|counts| counts.cancelled == 1).await;
    backend.always(Reply::text("still here").into());
    assert_eq!(client.call(get("/")).await.body, "still here");
}

#[tokio::test]
async fn a_client_that_is_gone_is_gone_for_the_backend() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    // Nothing but the client may end it.
    let site = Site::with(&backend, AppProtocol::Http1, |config| config.request_timeout = None).await;
    let mut client = site.connect().await;
    let mut request = client.open(head("/")).await.unwrap();
    request.finish().await.unwrap();
    backend.until(|counts| counts.requests == 1).await;
    client.quic().close(0u32.into(), b"");
    backend.until(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn half_an_answer_ends_in_an_error_of_its_stream() {
    let backend = FaultBackend::start().await;
    let cut = std::sync::Arc::new(Notify::new());
    backend.push(Script::Cut(Bytes::from_static(b"half"), cut.clone()));
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let mut request = client.open(head("/")).await.unwrap();
    request.finish().await.unwrap();
    assert_eq!(request.recv_response().await.unwrap().status(), 200);
    assert!(request.recv_data().await.unwrap().is_some());
    cut.notify_one();
    match request.recv_data().await.map(|data| data.is_some()) {
        Err(StreamError::RemoteTerminate { code, .. }) => assert_eq!(code, Code::H3_INTERNAL_ERROR),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.call(get("/")).await.status, 200, "the connection lives on");
}

#[tokio::test]
async fn a_request_for_another_listeners_host_is_421() {
    let backend = FaultBackend::start().await;
    let mut site = Site::to(&backend).await;
    let mut all = Vec::new();
    for (section, host) in [("http", HOST), ("other", "other.example.com")] {
        let mut listener = support::https(&site.servers, &[host], None).remove(0);
        if let Resource::Listener(listener) = &mut listener
            && let Accepts::Http { hostname, .. } = &mut listener.accepts
        {
            listener.name.section = section.into();
            *hostname = HostPattern::parse(host).unwrap();
        }
        all.push(listener);
    }
    site.gateway.apply(all);
    let mut client = site.connect().await;
    assert_eq!(client.call(get("/")).await.status, 200);
    let other = Request::get("https://other.example.com/").body(full("")).unwrap();
    let answer = client.call(other).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (421, Some("misdirected")));
    assert_eq!(backend.counts().requests, 1);
}
