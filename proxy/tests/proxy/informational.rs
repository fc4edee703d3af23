//! 1xx answers: `expect: 100-continue`, and backends that have much to say before they answer.

use std::time::Duration;

use crate::mesh::sidecar_config;
use crate::pairings;
use http::Request;
use tidegate_policy::model::AppProtocol;
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::streaming;
use tidegate_testkit::client::RawClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const EXPECTING: &str = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";

#[tokio::test]
async fn a_client_that_expects_to_be_asked_is_asked_and_answered() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        backend.always(Script::Echo);
        let proxy = pairing.sidecar(backend.address());
        if pairing.http2 {
            // Nothing asks for a body in HTTP/2: it comes when the client is tired of waiting.
            let (frames, body) = streaming();
            let request = Request::post("/").header("expect", "100-continue").body(body).unwrap();
            let mut client = pairing.client(proxy.inbound().unwrap()).await;
            let sending = async {
                frames.data("body").await;
                drop(frames);
            };
            let (answer, ()) = tokio::join!(client.call(request), sending);
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"body"[..]), "{pairing:?}");
            continue;
        }
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(EXPECTING).await;
        assert!(client.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 100"), "{pairing:?}");
        client.write("body").await;
        assert!(client.read_until("body").await.starts_with("HTTP/1.1 200"), "{pairing:?}");
    }
}

#[tokio::test]
async fn nobody_is_asked_for_a_body_that_goes_nowhere() {
    let backend = FaultBackend::start().await;
    let nobody = backend.address();
    drop(backend);
    for pairing in pairings::ALL.into_iter().filter(|pairing| !pairing.http2) {
        let proxy = pairing.sidecar(nobody);
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(EXPECTING).await;
        let answer = client.read_until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{pairing:?}: {answer}");
    }
}

#[tokio::test]
async fn a_backend_that_answers_without_the_body_lets_no_client_wait() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        backend.always(Reply::status(417).into());
        let proxy = pairing.sidecar(backend.address());
        if pairing.http2 {
            let (_frames, body) = streaming();
            let request = Request::post("/").header("expect", "100-continue").body(body).unwrap();
            let mut client = pairing.client(proxy.inbound().unwrap()).await;
            assert_eq!(client.send(request).await.unwrap().status(), 417, "{pairing:?}");
            continue;
        }
        let mut client = RawClient::connect(proxy.inbound().unwrap()).await;
        client.write(EXPECTING).await;
        let answer = client.read_until("417").await;
        assert!(answer.ends_with("HTTP/1.1 417"), "{pairing:?}: {answer}");
    }
}

/// A sidecar of an application that is a socket, and gives up on it soon.
async fn in_front_of_a_socket(request_timeout: Duration) -> (TcpListener, Running) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = sidecar_config(listener.local_addr().unwrap(), AppProtocol::Http1);
    config.request_timeout = Some(request_timeout);
    (listener, Proxy::start(config).unwrap())
}

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";

#[tokio::test]
async fn hints_before_an_answer_do_not_harm_it() {
    for pairing in pairings::ALL.into_iter().filter(|pairing| pairing.backend == AppProtocol::Http1) {
        let (listener, proxy) = in_front_of_a_socket(Duration::from_secs(60)).await;
        let serving = async {
            let mut server = RawClient::from(listener.accept().await.unwrap().0);
            for _ in 0..2 {
                server.read_until("\r\n\r\n").await;
                server.write(HINT.repeat(200)).await;
                server
                    .write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await;
            }
            server
        };
        let asking = async {
            let mut client = pairing.client(proxy.inbound().unwrap()).await;
            for _ in 0..2 {
                let answer = client.get("/").await;
                assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok"[..]), "{pairing:?}");
            }
        };
        tokio::join!(serving, asking);
    }
}

#[tokio::test]
async fn hints_without_end_are_ended_by_the_request_timeout() {
    for pairing in pairings::ALL.into_iter().filter(|pairing| pairing.backend == AppProtocol::Http1) {
        let (listener, proxy) = in_front_of_a_socket(Duration::from_millis(300)).await;
        let hinting = async {
            let mut stream = listener.accept().await.unwrap().0;
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0, "the request");
            while stream.write_all(HINT.as_bytes()).await.is_ok() {}
        };
        let asking = async {
            let mut client = pairing.client(proxy.inbound().unwrap()).await;
            let answer = client.get("/").await;
            assert_eq!(
                (answer.status.as_u16(), answer.reason()),
                (504, Some("request_timeout")),
                "{pairing:?}"
            );
        };
        tokio::join!(hinting, asking);
    }
}
