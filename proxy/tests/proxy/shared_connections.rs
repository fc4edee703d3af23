//! HTTP/2 connections to backends as many requests share them: refused streams, goodbyes, and clients that do not read.

use crate::mesh::{get, post, sidecar_config};
use crate::pairings::{self, Pairing};
use http::Request;
use http_body_util::BodyExt;
use tidegate_policy::model::AppProtocol;
use tidegate_proxy::Proxy;
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::body::{empty, streaming};
use tidegate_testkit::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// The server's end of an HTTP/2 connection, frame by frame (RFC 9113, section 4.1).
struct Server(TcpStream);

impl Server {
    async fn accept(listener: &TcpListener) -> Self {
        let mut server = Self(listener.accept().await.unwrap().0);
        server.0.read_exact(&mut [0; PREFACE]).await.unwrap();
        server.write(SETTINGS, 0, 0, &[]).await;
        server
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The stream of the next request.
    async fn request(&mut self) -> u32 {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            self.0.read_exact(&mut vec![0; length]).await.unwrap();
            if head[3] == HEADERS {
                return u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            }
        }
    }

    /// `:status: 200`, and the end: END_STREAM and END_HEADERS.
    async fn ok(&mut self, stream: u32) {
        self.write(HEADERS, 5, stream, &[0x88]).await;
    }

    async fn goodbye(&mut self, last: u32) {
        self.write(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &[0; 4]].concat()).await;
    }
}

async fn in_front_of_a_socket() -> (TcpListener, tidegate_proxy::Running) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = sidecar_config(listener.local_addr().unwrap(), AppProtocol::H2c);
    // Each thread has a connection of its own, and these tests are about one that is shared.
    config.workers = 1;
    (listener, Proxy::start(config).unwrap())
}

#[tokio::test]
async fn a_goodbye_lets_the_first_request_finish_and_the_second_one_move() {
    let (listener, proxy) = in_front_of_a_socket().await;
    let address = proxy.inbound().unwrap();
    let ask = || {
        tokio::spawn(async move {
            Client::http1(address).await.call(Request::patch("/").body(empty()).unwrap()).await.status
        })
    };
    let first = ask();
    let mut old = Server::accept(&listener).await;
    let one = old.request().await;
    let second = ask();
    // Not safe to send twice, but this endpoint says that it was not sent once.
    let two = old.request().await;
    assert!(one < two);
    old.goodbye(one).await;
    let mut new = Server::accept(&listener).await;
    let again = new.request().await;
    new.ok(again).await;
    assert_eq!(second.await.unwrap(), 200);
    old.ok(one).await;
    assert_eq!(first.await.unwrap(), 200);
}

#[tokio::test]
async fn a_refused_stream_is_asked_for_once_more_and_not_for_ever() {
    let (listener, proxy) = in_front_of_a_socket().await;
    let address = proxy.inbound().unwrap();
    let asking = tokio::spawn(async move { Client::http1(address).await.get("/").await });
    for _ in 0..2 {
        let mut server = Server::accept(&listener).await;
        let stream = server.request().await;
        server.write(RST_STREAM, 0, stream, &REFUSED_STREAM).await;
        tokio::spawn(async move { while server.0.read_u8().await.is_ok() {} });
    }
    assert_eq!(asking.await.unwrap().reason(), Some("upstream_reset"));
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_endpoint_allows() {
    let (listener, proxy) = in_front_of_a_socket().await;
    let address = proxy.inbound().unwrap();
    let ask = || tokio::spawn(async move { Client::http1(address).await.get("/").await.status });
    let first = ask();
    let mut one = Server::accept(&listener).await;
    // SETTINGS_MAX_CONCURRENT_STREAMS: 1.
    one.write(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]).await;
    let stream = one.request().await;
    one.ok(stream).await;
    assert_eq!(first.await.unwrap(), 200);
    let (second, third) = (ask(), ask());
    let held = one.request().await;
    // The other one is on a connection of its own, or waits for this one to end.
    let other = async {
        let mut two = Server::accept(&listener).await;
        let stream = two.request().await;
        two.ok(stream).await;
        two
    };
    let waiting = async {
        let _two = tokio::select! {
            two = other => Some(two),
            next = one.request() => panic!("stream {next} beyond the limit"),
        };
        one.ok(held).await;
        (second.await.unwrap(), third.await.unwrap())
    };
    assert_eq!(waiting.await, (http::StatusCode::OK, http::StatusCode::OK));
}

#[tokio::test]
async fn clients_that_do_not_read_hold_up_nobody_who_shares_their_connections() {
    for pairing in pairings::ALL {
        let backend = FaultBackend::start().await;
        let large = Reply { body: vec![7; 4_000_000].into(), ..Reply::default() };
        for _ in 0..40 {
            backend.push(large.clone().into());
        }
        backend.always(Reply::text("small").into());
        let proxy = pairing.sidecar(backend.address());
        let address = proxy.inbound().unwrap();
        let mut unread = Vec::new();
        for _ in 0..40 {
            let mut client = pairing.client(address).await;
            let mut response = client.send(get("/")).await.unwrap();
            assert!(response.body_mut().frame().await.is_some());
            unread.push((client, response));
        }
        let mut fresh = pairing.client(address).await;
        assert_eq!(fresh.get("/").await.body, "small", "{pairing:?}");
    }
}

#[tokio::test]
async fn a_client_that_reads_one_answer_can_leave_another_one_on_the_same_connection() {
    for pairing in [pairings::ALL[2], pairings::ALL[3]] {
        let backend = FaultBackend::start().await;
        backend.push(Reply { body: vec![7; 4_000_000].into(), ..Reply::default() }.into());
        backend.always(Reply::text("small").into());
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let _unread = client.send(get("/")).await.unwrap();
        for _ in 0..20 {
            assert_eq!(client.get("/").await.body, "small", "{pairing:?}");
        }
    }
}

#[tokio::test]
async fn bodies_that_a_backend_does_not_read_hold_up_no_other_on_the_clients_connection() {
    for backend in [AppProtocol::Http1, AppProtocol::H2c] {
        let pairing = Pairing { http2: true, backend };
        let backend = FaultBackend::start().await;
        for _ in 0..20 {
            backend.push(Script::Hang);
        }
        backend.always(Script::Echo);
        let proxy = pairing.sidecar(backend.address());
        let mut client = pairing.client(proxy.inbound().unwrap()).await;
        let mut stuck = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (frames, body) = streaming();
            // The answer never comes, so what is sent is a future that is never done.
            let sent = client.start(Request::post("/").body(body).unwrap());
            stuck.spawn(sent);
            stuck.spawn(async move {
                loop {
                    frames.data(vec![7; 16 * 1024]).await;
                }
            });
        }
        backend.until(|counts| counts.requests == 20).await;
        assert_eq!(client.call(post("/", "through")).await.body, "through", "{pairing:?}");
    }
}
