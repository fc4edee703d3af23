//! Endpoints that speak HTTP/2 badly, by mistake or on purpose: our client gets a clear answer, and the next request its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tidegate_policy::model::AppProtocol;
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::body::full;
use tidegate_testkit::client::{Answer, Client};
use tidegate_testkit::frames::*;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::mesh::{get, sidecar_config};

const BEHAVES: &str = "good";

/// What an endpoint sends when it has been asked: the frames for this stream.
type Mischief = fn(u32) -> Vec<Frame>;

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    /// An answer of ours that names the endpoint as the one at fault.
    Refused,
    /// The head of an answer, and a body that breaks off.
    Cut,
    /// The endpoint's answer as it would be without the mischief.
    Answered,
}

fn ok() -> Vec<u8> {
    block(&[(":status", "200"), ("x-from", "the endpoint")])
}

fn ok_with(more: &[(&str, &str)]) -> Vec<u8> {
    [ok(), block(more)].concat()
}

fn answer(stream: u32, body: &str) -> Vec<Frame> {
    vec![Frame::new(HEADERS, END_HEADERS, stream, ok()), Frame::new(DATA, END_STREAM, stream, body)]
}

/// The second request of all gets the mischief, so that it meets a pool that has been used; the others are answered well.
async fn endpoint(mischief: Mischief) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<AtomicU32>::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, mischief, asked.clone()));
        }
    });
    address
}

async fn serve(stream: TcpStream, mischief: Mischief, asked: Arc<AtomicU32>) {
    let Some(mut server) = FrameConnection::server(stream, &Frame::settings(&[])).await else { return };
    while let Some(frame) = server.next().await {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => _ = server.send(&Frame::new(SETTINGS, ACK, 0, [])).await,
            PING if frame.flags & ACK == 0 => _ = server.send(&Frame { flags: ACK, ..frame }).await,
            HEADERS => {
                let now = asked.fetch_add(1, Ordering::Relaxed) == 1;
                let frames = if now { mischief(frame.stream) } else { answer(frame.stream, BEHAVES) };
                let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
                server.write(&bytes).await;
            }
            _ => {}
        }
    }
}

fn proxy(endpoint: SocketAddr) -> Running {
    let mut config = sidecar_config(endpoint, AppProtocol::H2c);
    config.request_timeout = Some(Duration::from_secs(4));
    config.stall_timeout = Some(Duration::from_secs(4));
    Proxy::start(config).unwrap()
}

async fn told(client: &mut Client) -> Want {
    let Ok(response) = client.send(Request::post("/").body(full("x")).unwrap()).await else {
        return Want::Cut;
    };
    let Ok(answer) = Answer::read(response).await else { return Want::Cut };
    if answer.status == 200 && answer.headers.contains_key("x-from") {
        return Want::Answered;
    }
    let reason = answer.reason().unwrap_or_default();
    assert!(["upstream_protocol", "upstream_reset", "request_timeout"].contains(&reason), "{answer:?}");
    assert!(answer.status.is_server_error(), "{answer:?}");
    Want::Refused
}

/// All cases at one time: some of them wait for a timeout, which is so long that nothing else comes near it.
async fn hold(cases: &[(&'static str, Mischief, Want)]) {
    let all: JoinSet<_> = cases.iter().map(|case| seen(*case)).collect();
    let failures = all.join_all().await.concat();
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// A good request, the mischief, and good requests again: what was not as it should be.
async fn seen((what, mischief, want): (&'static str, Mischief, Want)) -> Vec<String> {
    let mut failures = Vec::new();
    let proxy = proxy(endpoint(mischief).await);
    let mut client = Client::http2(proxy.inbound().unwrap()).await;
    assert_eq!(client.get("/").await.body, BEHAVES, "{what}");
    let saw = told(&mut client).await;
    if saw != want {
        failures.push(format!("{what}: wanted {want:?}, saw {saw:?}"));
    }
    for _ in 0..3 {
        let answer = client.get("/").await;
        if answer.body != BEHAVES {
            failures.push(format!("{what}: afterwards {answer:?}"));
        }
    }
    failures
}

#[tokio::test]
async fn an_answer_that_cannot_be_is_refused_and_the_next_request_gets_its_own() {
    hold(&[
        ("no status", |s| vec![Frame::new(HEADERS, END, s, block(&[("x-from", "a")]))], Want::Refused),
        (
            "a status that is none",
            |s| vec![Frame::new(HEADERS, END, s, block(&[(":status", "20")]))],
            Want::Refused,
        ),
        (
            "101, which HTTP/2 does not have",
            |s| vec![Frame::new(HEADERS, END, s, block(&[(":status", "101")]))],
            Want::Refused,
        ),
        (
            "a pseudo-header of requests",
            |s| vec![Frame::new(HEADERS, END, s, ok_with(&[(":path", "/")]))],
            Want::Refused,
        ),
        (
            "connection-specific fields",
            |s| vec![Frame::new(HEADERS, END, s, ok_with(&[("connection", "close")]))],
            Want::Refused,
        ),
        (
            "transfer-encoding",
            |s| vec![Frame::new(HEADERS, END, s, ok_with(&[("transfer-encoding", "chunked")]))],
            Want::Refused,
        ),
        (
            "a name with a capital letter",
            |s| vec![Frame::new(HEADERS, END, s, ok_with(&[("X-Bad", "a")]))],
            Want::Refused,
        ),
        (
            "a value with a line break",
            |s| vec![Frame::new(HEADERS, END, s, ok_with(&[("x-bad", "a\r\nx-more: b")]))],
            Want::Refused,
        ),
        (
            "a header that is too large",
            |s| {
                vec![
                    Frame::new(HEADERS, END_STREAM, s, ok()),
                    Frame::new(CONTINUATION, 0, s, block(&[("x-a", &"a".repeat(16_000))])),
                    Frame::new(CONTINUATION, 0, s, block(&[("x-b", &"b".repeat(16_000))])),
                    Frame::new(CONTINUATION, END_HEADERS, s, block(&[("x-c", &"c".repeat(16_000))])),
                ]
            },
            Want::Refused,
        ),
        ("DATA before any head", |s| vec![Frame::new(DATA, END_STREAM, s, "x")], Want::Refused),
        ("a reset instead of an answer", |s| vec![Frame::reset(s, 2)], Want::Refused),
        (
            "informational answers only",
            |s| vec![Frame::new(HEADERS, END, s, block(&[(":status", "103")]))],
            Want::Refused,
        ),
        ("nothing", |_| vec![], Want::Refused),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_that_goes_wrong_after_its_head_is_cut_and_the_next_request_gets_its_own() {
    hold(&[
        (
            "a reset after the head",
            |s| vec![Frame::new(HEADERS, END_HEADERS, s, ok()), Frame::reset(s, 2)],
            Want::Cut,
        ),
        (
            "less than the length",
            |s| {
                vec![
                    Frame::new(HEADERS, END_HEADERS, s, ok_with(&[("content-length", "9")])),
                    Frame::new(DATA, END_STREAM, s, "x"),
                ]
            },
            Want::Cut,
        ),
        (
            "more than the length",
            |s| {
                vec![
                    Frame::new(HEADERS, END_HEADERS, s, ok_with(&[("content-length", "1")])),
                    Frame::new(DATA, END_STREAM, s, "xyz"),
                ]
            },
            Want::Cut,
        ),
        (
            "two lengths",
            |s| {
                vec![
                    Frame::new(
                        HEADERS,
                        END_HEADERS,
                        s,
                        ok_with(&[("content-length", "1"), ("content-length", "3")]),
                    ),
                    Frame::new(DATA, END_STREAM, s, "xyz"),
                ]
            },
            Want::Refused,
        ),
        (
            "a body that stops",
            |s| vec![Frame::new(HEADERS, END_HEADERS, s, ok()), Frame::new(DATA, 0, s, "x")],
            Want::Cut,
        ),
        (
            "a pad as long as its DATA",
            |s| vec![Frame::new(HEADERS, END_HEADERS, s, ok()), Frame::new(DATA, PADDED, s, *b"\x02ab")],
            Want::Cut,
        ),
        (
            "trailers that do not end it",
            |s| {
                vec![
                    Frame::new(HEADERS, END_HEADERS, s, ok()),
                    Frame::new(HEADERS, END_HEADERS, s, block(&[("x-a", "b")])),
                ]
            },
            Want::Cut,
        ),
        (
            "DATA beyond the window",
            |s| {
                [
                    vec![Frame::new(HEADERS, END_HEADERS, s, ok())],
                    vec![Frame::new(DATA, 0, s, [0; 16_384]); 400],
                ]
                .concat()
            },
            Want::Cut,
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_ends_the_connection_ends_only_what_is_on_it() {
    hold(&[
        ("DATA on stream 0", |_| vec![Frame::new(DATA, 0, 0, "x")], Want::Refused),
        (
            "an answer on a stream that nobody opened",
            |s| vec![Frame::new(HEADERS, END, s + 2, ok())],
            Want::Refused,
        ),
        ("an answer on a stream of its own", |_| vec![Frame::new(HEADERS, END, 2, ok())], Want::Refused),
        (
            "PUSH_PROMISE that was ruled out",
            |s| {
                vec![Frame::new(
                    PUSH_PROMISE,
                    END_HEADERS,
                    s,
                    [&[0, 0, 0, 2][..], &request("GET", "/", &[])].concat(),
                )]
            },
            Want::Refused,
        ),
        (
            "a window that overflows",
            |_| vec![Frame::window(0, (1 << 31) - 1), Frame::window(0, (1 << 31) - 1)],
            Want::Refused,
        ),
        (
            "a block that cannot be decoded",
            |s| vec![Frame::new(HEADERS, END, s, [0xff, 0x00])],
            Want::Refused,
        ),
        (
            "a frame that is too large",
            |s| {
                vec![
                    Frame::new(HEADERS, END_HEADERS, s, ok()),
                    Frame::new(DATA, END_STREAM, s, vec![0; 100_000]),
                ]
            },
            Want::Cut,
        ),
        (
            "a block that is interrupted",
            |s| vec![Frame::new(HEADERS, 0, s, ok()), Frame::new(PING, 0, 0, [0; 8])],
            Want::Refused,
        ),
        (
            "a block without end",
            |s| {
                [
                    vec![Frame::new(HEADERS, 0, s, ok())],
                    vec![Frame::new(CONTINUATION, 0, s, block(&[("x-a", "b")])); 10_000],
                ]
                .concat()
            },
            Want::Refused,
        ),
        // It has a body, which has been read: only a request without one could be asked again.
        ("GOAWAY that leaves the request out", |_| vec![Frame::go_away(0, 0)], Want::Refused),
        ("GOAWAY with an error", |s| vec![Frame::go_away(s, 2)], Want::Refused),
        ("HTTP/1", |_| vec![Frame::new(b'H', b'T', 0x5450_2f31, *b".1 200 OK\r\n\r\n")], Want::Refused),
    ])
    .await;
}

#[tokio::test]
async fn an_endpoint_that_chatters_is_heard_out_or_left() {
    hold(&[
        (
            "SETTINGS again and again",
            |s| [vec![Frame::settings(&[(4, 65_535)]); 2_000], answer(s, "x")].concat(),
            Want::Answered,
        ),
        (
            "pings again and again",
            |s| [vec![Frame::new(PING, 0, 0, [0; 8]); 2_000], answer(s, "x")].concat(),
            Want::Answered,
        ),
        (
            "a window that opens by one",
            |s| [vec![Frame::window(s, 1); 2_000], answer(s, "x")].concat(),
            Want::Answered,
        ),
        (
            "empty DATA again and again",
            |s| {
                [
                    vec![Frame::new(HEADERS, END_HEADERS, s, ok())],
                    vec![Frame::new(DATA, 0, s, []); 100],
                    vec![Frame::new(DATA, END_STREAM, s, "x")],
                ]
                .concat()
            },
            Want::Answered,
        ),
        (
            "unknown frames again and again",
            |s| [vec![Frame::new(0x42, 0, 0, [0; 100]); 2_000], answer(s, "x")].concat(),
            Want::Answered,
        ),
        (
            "GOAWAY again and again",
            |s| [vec![Frame::go_away(s, 0); 100], answer(s, "x")].concat(),
            Want::Answered,
        ),
        (
            "a request taken into the window of nothing",
            |s| [vec![Frame::settings(&[(4, 0)])], answer(s, "x")].concat(),
            Want::Answered,
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_endpoint_whose_window_never_opens_holds_nobody_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = proxy(listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let shut = Frame::settings(&[(4, 0)]);
                let mut server = FrameConnection::server(stream, &shut).await?;
                server.until(|_| false).await
            });
        }
    });
    let mut client = Client::http2(proxy.inbound().unwrap()).await;
    let answer = client.call(Request::post("/").body(full(vec![0; 200_000])).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (504, Some("request_timeout")));
}

#[tokio::test]
async fn an_answer_without_end_waits_for_its_reader() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(sidecar_config(listener.local_addr().unwrap(), AppProtocol::H2c)).unwrap();
    let mut client = Client::http2(proxy.inbound().unwrap()).await;
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = FrameConnection::server(stream, &Frame::settings(&[])).await.unwrap();
        let asked = server.until(|frame| frame.kind == HEADERS).await.unwrap().stream;
        server.send(&Frame::new(HEADERS, END_HEADERS, asked, ok())).await;
        // As much as the window of the stream allows, with one that reads nothing on the other side.
        let (mut sent, mut window) = (0_usize, 65_535_usize);
        while let Ok(Some(frame)) = tokio::time::timeout(Duration::from_millis(200), server.next()).await {
            if frame.kind == WINDOW_UPDATE && frame.stream == asked {
                window += u32::from_be_bytes(frame.payload[..4].try_into().unwrap()) as usize;
            }
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                window = 256 * 1024;
            }
            while sent + 16_384 <= window {
                server.send(&Frame::new(DATA, 0, asked, [0; 16_384])).await;
                sent += 16_384;
            }
        }
        sent
    });
    let mut body = client.send(get("/")).await.unwrap().into_body();
    let sent = served.await.unwrap();
    // One window on either side, the client's own, and what is on its way.
    assert!(sent < 8_000_000, "{sent} bytes were taken for a client that reads nothing");
    assert!(body.frame().await.unwrap().is_ok());
}
