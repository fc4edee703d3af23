//! gRPC-Web clients of gRPC backends.

use crate::mesh::{Gateway, route, sidecar};
use crate::pairings::{self, Pairing};
use http::{HeaderMap, HeaderValue, Request, Version};
use http_body_util::BodyExt;
use tidegate_policy::model::*;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{TestBody, empty, full, streaming};
use tidegate_testkit::client::{Answer, Client};

/// A message of two bytes, and the same in base64.
const HI: &str = "\0\0\0\0\u{2}hi";
const HI_TEXT: &str = "AAAAAAJoaQ==";
const TEXT: &str = "application/grpc-web-text";
const BINARY: &str = "application/grpc-web+proto";

fn call(content_type: &str, body: TestBody) -> Request<TestBody> {
    let request = Request::post("/shop.Cart/Get").header("content-type", content_type);
    request.header("x-grpc-web", "1").header("accept", "*/*").body(body).unwrap()
}

async fn grpc_route(pairing: Pairing, backend: &FaultBackend) -> Gateway {
    pairing.gateway(backend.address(), Route { kind: RouteKind::Grpc, ..route("v1") }).await
}

/// `grpc-status` in a binary frame of trailers at the end of a body.
fn status(answer: &Answer) -> Option<String> {
    let body = &answer.body[..];
    let at = body.windows(2).rposition(|bytes| bytes == [0x80, 0])?;
    let lines = String::from_utf8_lossy(body.get(at + 5..)?).into_owned();
    lines.split("\r\n").find_map(|line| line.strip_prefix("grpc-status: ").map(str::to_owned))
}

#[tokio::test]
async fn a_call_reaches_its_backend_as_grpc_and_its_trailers_come_back_as_a_frame() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        backend.always(Reply::grpc(HI, 5).into());
        let gateway = grpc_route(pairing, &backend).await;
        let mut client = pairing.client(gateway.address().await).await;
        let answer = client.call(call(BINARY, full(HI))).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.headers["content-type"]),
            (200, &HeaderValue::from_static(BINARY))
        );
        let whole = [HI.as_bytes(), b"\x80\0\0\0\x10grpc-status: 5\r\n"].concat();
        assert_eq!(answer.body, whole, "{pairing:?}");
        let answer = client.call(call(TEXT, full(HI_TEXT))).await;
        assert_eq!(answer.headers["content-type"], "application/grpc-web-text+proto");
        assert_eq!(answer.body, format!("{HI_TEXT}gAAAABBncnBjLXN0YXR1czogNQ0K"), "{pairing:?}");
        for seen in backend.seen() {
            let content_type = seen.headers["content-type"].to_str().unwrap();
            assert!(["application/grpc", "application/grpc+proto"].contains(&content_type), "{content_type}");
            assert_eq!(seen.version, Version::HTTP_2);
            assert_eq!(seen.headers["te"], "trailers");
            assert!(!seen.headers.contains_key("x-grpc-web") && !seen.headers.contains_key("content-length"));
        }
    }
}

#[tokio::test]
async fn messages_stream_both_ways_whatever_their_coding() {
    for pairing in pairings::ALL {
        for (content_type, pieces) in [(BINARY, ["\0\0\0\0\u{2}h", "i"]), (TEXT, ["AAAAAAJo", "aQ=="])] {
            let backend = FaultBackend::start().await;
            backend.always(Script::Echo);
            let gateway = grpc_route(pairing, &backend).await;
            let mut client = pairing.client(gateway.address().await).await;
            let (frames, body) = streaming();
            frames.data(pieces[0]).await;
            let mut answer = client.send(call(content_type, body)).await.unwrap().into_body();
            for piece in pieces {
                if piece == pieces[1] {
                    frames.data(piece).await;
                }
                // Each piece comes back before the next one is sent.
                let data = answer.frame().await.unwrap().unwrap().into_data().unwrap();
                assert_eq!(data, piece, "{pairing:?}");
            }
            drop(frames);
            let last = answer.collect().await.unwrap().to_bytes();
            // The backend ended without a status, so the mesh says what that is: INTERNAL.
            let told = if content_type == TEXT {
                last.starts_with(b"gAAAA")
            } else {
                last.starts_with(b"\x80\0\0\0")
            };
            assert!(told, "{pairing:?} {last:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_trailers_only_stays_in_the_head() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        let only = Reply::default().header("content-type", "application/grpc").header("grpc-status", "7");
        backend.always(only.header("grpc-message", "no").into());
        let gateway = grpc_route(pairing, &backend).await;
        let answer = pairing.client(gateway.address().await).await.call(call(BINARY, full(HI))).await;
        assert_eq!((&answer.headers["grpc-status"], answer.body.len()), (&HeaderValue::from_static("7"), 0));
        assert_eq!(answer.headers["content-type"], BINARY);
    }
}

#[tokio::test]
async fn the_meshs_own_answers_are_grpc_web_too() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        let mut only = Route { kind: RouteKind::Grpc, ..route("v1") };
        only.rules[0].matches[0].path = PathMatch::Exact("/shop.Cart/Put".into());
        let gateway = pairing.gateway(backend.address(), only).await;
        let mut client = pairing.client(gateway.address().await).await;
        let answer = client.call(call(BINARY, full(HI))).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (200, Some("no_route")));
        assert_eq!(
            (status(&answer).as_deref(), &answer.headers["content-type"]),
            (Some("12"), &HeaderValue::from_static(BINARY))
        );
        let nobody = backend.address();
        drop(backend);
        let gateway = pairing.gateway(nobody, Route { kind: RouteKind::Grpc, ..route("v1") }).await;
        let answer = pairing.client(gateway.address().await).await.call(call(BINARY, full(HI))).await;
        assert_eq!((answer.reason(), status(&answer).as_deref()), (Some("connect_failed"), Some("14")));
    }
}

#[tokio::test]
async fn what_is_no_grpc_web_is_refused_and_never_waited_for() {
    for pairing in pairings::ALL {
        for (content_type, body) in
            [(TEXT, "AAAAAAJ!"), (TEXT, "AAAAAAJoa"), (BINARY, "\0\0\0\0\u{2}h"), (BINARY, "{\"a\":1}")]
        {
            let backend = FaultBackend::start().await;
            backend.always(Script::ReadThenReset);
            let gateway = grpc_route(pairing, &backend).await;
            let answer =
                pairing.client(gateway.address().await).await.call(call(content_type, full(body))).await;
            assert_eq!(
                (answer.status.as_u16(), answer.reason()),
                (200, Some("bad_request")),
                "{pairing:?} {body}"
            );
        }
    }
}

#[tokio::test]
async fn a_plain_backend_behind_a_plain_route_gets_grpc_web_as_it_was_sent() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Echo);
    let proxy = sidecar(backend.address());
    for mut client in
        [Client::http1(proxy.inbound().unwrap()).await, Client::http2(proxy.inbound().unwrap()).await]
    {
        let answer = client.call(call(TEXT, full("anything at all"))).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"anything at all"[..]));
    }
    for seen in backend.seen() {
        assert_eq!(
            (seen.version, &seen.headers["content-type"]),
            (Version::HTTP_11, &HeaderValue::from_static(TEXT))
        );
        assert_eq!(
            (&seen.headers["content-length"], &seen.headers["x-grpc-web"]),
            (&HeaderValue::from_static("15"), &HeaderValue::from_static("1"))
        );
    }
}

#[tokio::test]
async fn an_application_that_speaks_http_2_gets_grpc_from_its_sidecar() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::grpc(HI, 0).into());
    let pairing = pairings::ALL[1];
    let proxy = pairing.sidecar(backend.address());
    let answer = pairing.client(proxy.inbound().unwrap()).await.call(call(TEXT, full(HI_TEXT))).await;
    assert_eq!(answer.body, format!("{HI_TEXT}gAAAABBncnBjLXN0YXR1czogMA0K"));
    assert_eq!(backend.seen()[0].headers["content-type"], "application/grpc");
}

#[tokio::test]
async fn a_browser_may_ask_first_and_read_the_status() {
    let backend = FaultBackend::start().await;
    let only = Reply::default().header("content-type", "application/grpc").header("grpc-status", "7");
    backend.always(only.into());
    let names = |all: &[&str]| Listed::Only(all.iter().map(|name| name.parse().unwrap()).collect());
    let cors = Cors {
        origins: Listed::Only(vec!["https://shop.test".parse().unwrap()]),
        methods: Listed::Only(vec![http::Method::POST]),
        headers: names(&["content-type", "x-grpc-web", "grpc-timeout"]),
        expose: names(&["grpc-status", "grpc-message"]),
        ..Cors::default()
    };
    let mut route = Route { kind: RouteKind::Grpc, ..route("v1") };
    route.rules[0].filters = vec![RouteFilter::Cors(cors)];
    // As the matches of a GRPCRoute are.
    route.rules[0].matches[0].method = Some(http::Method::POST);
    for pairing in pairings::ALL {
        let gateway = pairing.gateway(backend.address(), route.clone()).await;
        let mut client = pairing.client(gateway.address().await).await;
        let mut preflight = Request::options("/shop.Cart/Get").body(empty()).unwrap();
        let asked: HeaderMap = [
            ("origin", "https://shop.test"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-grpc-web"),
        ]
        .into_iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
        preflight.headers_mut().extend(asked);
        let answer = client.call(preflight).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (204, None), "{pairing:?}");
        assert!(answer.headers["access-control-allow-headers"].to_str().unwrap().contains("x-grpc-web"));
        let mut real = call(BINARY, full(HI));
        real.headers_mut().insert("origin", HeaderValue::from_static("https://shop.test"));
        let answer = client.call(real).await;
        assert_eq!(answer.headers["grpc-status"], "7");
        assert_eq!(answer.headers["access-control-expose-headers"], "grpc-status, grpc-message");
    }
}

#[tokio::test]
async fn metrics_tell_the_status_that_came_in_the_trailers() {
    let backend = FaultBackend::start().await;
    backend.always(Reply::grpc(HI, 5).into());
    let gateway = grpc_route(pairings::ALL[0], &backend).await;
    Client::http1(gateway.address().await).await.call(call(TEXT, full(HI_TEXT))).await;
    let metrics = Client::http1(gateway.running.admin()).await.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    assert!(text.lines().any(|line| line.contains("NOT_FOUND")), "{text}");
}
