//! What no client may make of HTTP/3: too much of anything, or one request into two.

use std::net::Ipv4Addr;

use futures_util::future::poll_immediate;
use h3::error::Code;
use http::Request;
use quinn::{ConnectionError, Endpoint, VarInt};
use tidegate_policy::model::AppProtocol;
use tidegate_proxy::telemetry::Scrape;
use tidegate_testkit::backend::{FaultBackend, Script};
use tidegate_testkit::body::full;
use tidegate_testkit::http3::{Http3Client, cancel, quic_config};
use tidegate_testkit::pki::client;
use tokio::net::UdpSocket;

use super::support::{HOST, Site, get, head, url};

const HEADERS: u64 = 1;
const DATA: u64 = 0;
/// In the static table of QPACK.
const GET: u8 = 17;
const POST: u8 = 20;

fn code(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap()
}

/// The beginning of a frame.
fn frame(kind: u64, length: usize) -> Vec<u8> {
    let length = u32::try_from(length).unwrap() | 0x8000_0000;
    [&[u8::try_from(kind).unwrap()][..], &length.to_be_bytes()].concat()
}

/// A request as no client would write it, with a header of this many bytes (RFC 9204, without the dynamic table).
fn written_head(method: u8, big: usize) -> Vec<u8> {
    // :method, :scheme https and :path / from the static table, :authority by its name there.
    let mut block = vec![0, 0, 0xc0 | method, 0xc0 | 23, 0xc0 | 1, 0x50, u8::try_from(HOST.len()).unwrap()];
    block.extend(HOST.as_bytes());
    block.extend(b"\x25x-big");
    match big.checked_sub(127) {
        None => block.push(u8::try_from(big).unwrap()),
        Some(mut rest) => {
            block.push(127);
            while rest >= 128 {
                block.push((rest % 128) as u8 | 0x80);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
    block.extend(vec![b'a'; big]);
    [frame(HEADERS, block.len()), block].concat()
}

/// Sends these bytes as a request, whole; returns the bytes of the answer.
async fn say(client: &Http3Client, bytes: &[u8]) -> Result<Vec<u8>, quinn::ReadToEndError> {
    let (mut send, mut receive) = client.quic().open_bi().await.unwrap();
    // It may be stopped by then.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    receive.read_to_end(1 << 20).await
}

#[tokio::test]
async fn headers_of_more_than_64_kib_are_refused() {
    let backend = FaultBackend::start().await;
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    assert!(!say(&client, &written_head(GET, 60_000)).await.unwrap().is_empty());
    assert_eq!(backend.counts().requests, 1);
    let refusal = say(&client, &written_head(GET, 70_000)).await.unwrap();
    assert!(!refusal.is_empty(), "it is told why");
    assert_eq!(backend.counts().requests, 1);
    assert_eq!(client.call(get("/")).await.status, 200, "the connection lives on");
}

#[tokio::test]
async fn a_frame_that_claims_to_be_large_is_refused_before_it_is_there() {
    let backend = FaultBackend::start().await;
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    for kind in [HEADERS, 0x21] {
        let (mut send, mut receive) = client.quic().open_bi().await.unwrap();
        send.write_all(&frame(kind, 0x3fff_ffff)).await.unwrap();
        assert_eq!(send.stopped().await.unwrap(), Some(code(Code::H3_EXCESSIVE_LOAD)));
        assert!(receive.read_to_end(1 << 20).await.is_err(), "no answer in order");
    }
    assert_eq!(client.call(get("/")).await.status, 200, "the connection lives on");
    let mut control = client.quic().open_uni().await.unwrap();
    control.write_all(&[&[0][..], &frame(0x21, 0x3fff_ffff)].concat()).await.unwrap();
    assert_eq!(control.stopped().await.unwrap(), Some(code(Code::H3_EXCESSIVE_LOAD)));
    assert_eq!(backend.counts().requests, 1);
}

#[tokio::test]
async fn a_stream_that_ends_within_a_frame_is_no_whole_request() {
    let backend = FaultBackend::start().await;
    backend.always(Script::ReadThenReset);
    let site = Site::to(&backend).await;
    let client = site.connect().await;
    let bytes = [written_head(POST, 1), frame(DATA, 100), vec![b'x'; 50]].concat();
    // Whatever it is told, the proxy lives on and knows whose fault it was.
    let _ = say(&client, &bytes).await;
    let told = site.gateway.running.state().telemetry.render_metrics(&Scrape::default());
    assert!(told.contains("reason=\"bad_request\""), "{told}");
    backend.always(Script::default());
    assert_eq!(site.connect().await.call(get("/")).await.status, 200);
}

#[tokio::test]
async fn a_body_is_as_long_as_it_says_or_the_request_is_not_made() {
    let backend = FaultBackend::start().await;
    backend.always(Script::ReadThenReset);
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    for (length, body) in [("10", "12345"), ("10", "0123456789GET / HTTP/1.1\r\n")] {
        let request = Request::post(url("/")).header("content-length", length).body(full(body)).unwrap();
        let answer = client.call(request).await;
        assert_eq!((answer.status.as_u16(), answer.reason()), (400, Some("bad_request")), "{length} {body}");
    }
    let none = Request::post(url("/")).header("content-length", "0").body(full("12345")).unwrap();
    assert!(client.try_call(none).await.is_err());
    let twice = Request::post(url("/")).header("content-length", "5").header("content-length", "5");
    assert!(client.try_call(twice.body(full("12345")).unwrap()).await.is_err());
}

#[tokio::test]
async fn no_more_than_100_requests_are_taken_at_a_time() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut request = client.open(head("/")).await.unwrap();
        request.finish().await.unwrap();
        open.push(request);
    }
    backend.until(|counts| counts.requests == 100).await;
    let mut one_more = Box::pin(client.open(head("/")));
    assert!(poll_immediate(&mut one_more).await.is_none());
    // Room is made known in portions.
    open.drain(..50).for_each(cancel);
    let mut last = one_more.await.unwrap();
    last.finish().await.unwrap();
    backend.until(|counts| counts.requests == 101).await;
}

#[tokio::test]
async fn connections_count_against_the_limit_and_one_too_many_is_refused() {
    let backend = FaultBackend::start().await;
    let site = Site::with(&backend, AppProtocol::Http1, |config| config.max_connections = 1).await;
    let mut first = site.connect().await;
    assert_eq!(first.call(get("/")).await.status, 200);
    let refused = site.try_connect(HOST, None).await.unwrap_err();
    assert!(matches!(refused, ConnectionError::ConnectionClosed(_)), "{refused:?}");
    drop(first);
    while site.try_connect(HOST, None).await.is_err() {}
}

#[tokio::test]
async fn who_takes_most_requests_back_at_once_loses_the_connection() {
    let backend = FaultBackend::start().await;
    backend.always(Script::Hang);
    let site = Site::to(&backend).await;
    let mut client = site.connect().await;
    let closed = client.quic().clone();
    let abuse = async {
        loop {
            let seen = backend.counts().requests;
            let Ok(mut request) = client.open(head("/")).await else { return };
            if request.finish().await.is_err() {
                return;
            }
            backend.until(|counts| counts.requests > seen).await;
            cancel(request);
        }
    };
    let reason = tokio::select! {
        reason = closed.closed() => reason,
        () = abuse => closed.closed().await,
    };
    match reason {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!(close.error_code, code(Code::H3_EXCESSIVE_LOAD));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn when_many_handshakes_are_under_way_a_client_must_show_that_its_address_is_its_own() {
    let backend = FaultBackend::start().await;
    let site = Site::to(&backend).await;
    // First messages of clients that will never say a second.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = quic_config(client(&site.servers, None, b"h3"));
    let (mut datagram, mut retried, mut silent) = ([0; 2048], false, Vec::new());
    while !retried {
        let to = socket.local_addr().unwrap();
        silent.push(endpoint.connect_with(config.clone(), to, HOST).unwrap());
        let size = loop {
            let (size, from) = socket.recv_from(&mut datagram).await.unwrap();
            if from != site.address {
                break size;
            }
            // The last two bits of a long header's type: a Retry (RFC 9000, section 17.2.5).
            retried |= datagram[0] & 0xf0 == 0xf0;
        };
        socket.send_to(&datagram[..size], site.address).await.unwrap();
    }
    assert!(silent.len() > 64, "only {}", silent.len());
    // One that is there gets through.
    assert_eq!(site.connect().await.call(get("/")).await.status, 200);
}
