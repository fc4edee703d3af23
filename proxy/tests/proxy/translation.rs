//! What HTTP/1.1 and HTTP/2 say differently, said right in every pairing.

use crate::mesh::get;
use crate::pairings;
use http::{HeaderMap, Method, Request, Version};
use http_body_util::BodyExt;
use tidegate_policy::model::AppProtocol;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{empty, streaming};
use tidegate_testkit::client::RawClient;
use tokio::net::TcpListener;

#[tokio::test]
async fn cookies_that_come_in_pieces_reach_http_1_in_one() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        let proxy = pairing.sidecar(backend.address());
        let request =
            Request::get("/").header("cookie", "a=1").header("cookie", "b=2; c=3").header("cookie", "d=4");
        let answer =
            pairing.client(proxy.inbound().unwrap()).await.call(request.body(empty()).unwrap()).await;
        assert_eq!(answer.status, 200);
        let seen = &backend.seen()[0];
        let cookies: Vec<_> = seen.headers.get_all("cookie").iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(cookies.join("; "), "a=1; b=2; c=3; d=4", "{pairing:?}");
        assert!(cookies.len() == 1 || pairing.backend == AppProtocol::H2c, "{pairing:?} {cookies:?}");
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_what_they_say_of_its_length() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        let long = Reply::default().header("content-length", "1234");
        backend.push(long.into());
        for reply in [Reply::status(304), Reply::status(204), Reply::text("whole")] {
            backend.push(reply.into());
        }
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let head = client.call(Request::head("/").body(empty()).unwrap()).await;
        assert_eq!(
            (head.status.as_u16(), &head.headers["content-length"], head.body.len()),
            (200, &"1234".parse().unwrap(), 0),
            "{pairing:?}"
        );
        let unmodified = client.get("/").await;
        assert_eq!((unmodified.status.as_u16(), unmodified.body.len()), (304, 0), "{pairing:?}");
        let nothing = client.get("/").await;
        assert_eq!(
            (nothing.status.as_u16(), nothing.headers.get("content-length"), nothing.body.len()),
            (204, None, 0),
            "{pairing:?}"
        );
        let whole = client.get("/").await;
        assert_eq!(
            (&whole.headers["content-length"], &whole.body[..]),
            (&"5".parse().unwrap(), &b"whole"[..]),
            "{pairing:?}"
        );
        assert_eq!(backend.counts().connections, 1, "{pairing:?}");
    }
}

#[tokio::test]
async fn a_length_where_there_can_be_no_body_is_not_waited_for() {
    for pairing in pairings::ALL.into_iter().filter(|pairing| pairing.backend == AppProtocol::Http1) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = pairing.sidecar(listener.local_addr().unwrap());
        let statuses = [304, 204, 200];
        let serving = async {
            let mut server = RawClient::from(listener.accept().await.unwrap().0);
            for status in statuses {
                server.read_until("\r\n\r\n").await;
                let body = if status == 200 { "1234" } else { "" };
                server.write(format!("HTTP/1.1 {status} Fine\r\ncontent-length: 4\r\n\r\n{body}")).await;
            }
            server
        };
        let asking = async {
            let mut client = pairing.client(proxy.inbound().unwrap()).await;
            for status in statuses {
                let answer = client.get("/").await;
                assert_eq!(answer.status, status, "{pairing:?}");
                assert_eq!(answer.body.len(), if status == 200 { 4 } else { 0 }, "{pairing:?}");
            }
        };
        tokio::join!(serving, asking);
    }
}

#[tokio::test]
async fn no_field_of_a_connection_reaches_the_next_one() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        let own = Reply::text("x").header("x-kept", "1");
        let own = if pairing.backend == AppProtocol::Http1 {
            own.header("connection", "x-mine, close").header("x-mine", "1")
        } else {
            own
        };
        backend.always(own.into());
        let proxy = pairing.sidecar(backend.address());
        let request = Request::get("/").header("te", "trailers");
        let request = if pairing.http2 {
            request
        } else {
            request.header("connection", "x-hop, te").header("x-hop", "1").header("keep-alive", "3")
        };
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let answer = client.call(request.body(empty()).unwrap()).await;
        for gone in ["connection", "x-mine", "keep-alive", "transfer-encoding"] {
            assert!(!answer.headers.contains_key(gone), "{pairing:?} {gone}");
        }
        assert!(answer.headers.contains_key("x-kept"));
        // What the backend closes is its own connection, and not the client's.
        assert_eq!(client.get("/").await.status, 200, "{pairing:?}");
        let seen = &backend.seen()[0];
        assert_eq!(seen.headers["te"], "trailers", "{pairing:?}");
        let connection = (pairing.backend == AppProtocol::Http1).then_some("te");
        assert_eq!(seen.headers.get("connection").map(|v| v.to_str().unwrap()), connection, "{pairing:?}");
        assert!(!seen.headers.contains_key("x-hop") && !seen.headers.contains_key("keep-alive"));
    }
}

#[tokio::test]
async fn the_host_is_the_authority_in_every_form_of_target() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        assert_eq!(client.get("/").await.status, 200);
        let absolute = Request::get("http://cart.shop:8080/a?b").body(empty()).unwrap();
        assert_eq!(client.call(absolute).await.status, 200);
        let seen = backend.seen();
        for (head, want) in seen.iter().zip(["test", "cart.shop:8080"]) {
            let host = match head.version {
                Version::HTTP_2 => head.uri.authority().unwrap().as_str(),
                _ => head.headers["host"].to_str().unwrap(),
            };
            assert_eq!(
                (host, head.headers.get_all("host").iter().count()),
                (want, usize::from(head.version != Version::HTTP_2)),
                "{pairing:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_no_chunks_and_a_close() {
    for pairing in pairings::ALL.into_iter().filter(|pairing| !pairing.http2) {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = pairing.sidecar(backend.address());
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write("POST / HTTP/1.0\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody").await;
        // To the end: it is the close that ends the body.
        let answer = client.read_to_end().await.to_ascii_lowercase();
        assert!(answer.ends_with("\r\n\r\nbody"), "{pairing:?}: {answer}");
        assert!(!answer.contains("transfer-encoding"), "{pairing:?}: {answer}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_the_last_one_closes() {
    for pairing in pairings::ALL.into_iter().filter(|pairing| !pairing.http2) {
        let backend = FaultBackend::start().await;
        backend
            .push(Reply::text("first").into())
            .push(Reply::text("second").into())
            .push(Reply::text("third").into());
        let proxy = pairing.sidecar(backend.address());
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        let one = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
        client.write(format!("{one}{one}GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
        let all = client.read_to_end().await;
        let at = |text: &str| all.find(text).unwrap_or(usize::MAX);
        assert!(
            at("first") < at("second") && at("second") < at("third") && at("third") < usize::MAX,
            "{pairing:?}: {all}"
        );
        assert!(all.to_ascii_lowercase().contains("connection: close"), "{pairing:?}: {all}");
    }
}

#[tokio::test]
async fn events_are_flushed_one_by_one() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let (frames, body) = streaming();
        let request = Request::post("/").header("content-type", "text/event-stream").body(body).unwrap();
        frames.data("data: 0\n\n").await;
        let mut answer = client.send(request).await.unwrap().into_body();
        for number in 0..20 {
            if number > 0 {
                frames.data(format!("data: {number}\n\n")).await;
            }
            let event = answer.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(event, format!("data: {number}\n\n"), "{pairing:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_is_half_closed_early_is_answered_to_its_end() {
    for pairing in pairings::ALL.into_iter().filter(|pairing| pairing.backend == AppProtocol::H2c) {
        let backend = FaultBackend::start().await;
        let go = std::sync::Arc::new(tokio::sync::Notify::new());
        backend.always(Script::After(go.clone(), Box::new(Reply::grpc("late", 0).into())));
        let proxy = pairing.sidecar(backend.address());
        let request = Request::post("/shop.Cart/Watch")
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let request = request.body(tidegate_testkit::body::full("message")).unwrap();
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let going = async {
            backend.until(|counts| counts.requests == 1).await;
            go.notify_one();
        };
        let (answer, ()) = tokio::join!(client.call(request), going);
        assert_eq!((answer.body, answer.status.as_u16()), ("late".into(), 200), "{pairing:?}");
        // HTTP/1.1 has no trailers but those its head announces, and gRPC's does not; HTTP/2 has.
        assert_eq!(answer.trailers.get("grpc-status").is_some(), pairing.http2, "{pairing:?}");
    }
}

#[tokio::test]
async fn unannounced_trailers_of_a_request_harm_nothing() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let (frames, body) = streaming();
        let sending = async {
            frames.data("body").await;
            frames.trailers(HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())])).await;
            drop(frames);
        };
        let request = Request::builder().method(Method::POST).uri("/").body(body).unwrap();
        let (answer, ()) = tokio::join!(client.call(request), sending);
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"body"[..]), "{pairing:?}");
        assert_eq!(client.call(get("/")).await.status, 200);
    }
}
