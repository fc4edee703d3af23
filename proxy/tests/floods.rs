//! Clients that send much that means nothing, or hold much open: they are cut off or pushed back, others are served
//! meanwhile, and memory stays bounded. Alone in their process, one after another, because memory is the process's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its set-up too")]

#[path = "proxy/mesh.rs"]
mod mesh;

use std::net::SocketAddr;
use std::time::Duration;

use mesh::sidecar_config;
use tidegate_policy::model::AppProtocol;
use tidegate_proxy::{Proxy, Running};
use tidegate_testkit::backend::{FaultBackend, Reply, Script};
use tidegate_testkit::client::{Client, RawClient};
use tidegate_testkit::frames::*;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// One flood at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
/// A write that waits for longer is held back by the proxy: it reads no more.
const HELD_BACK: Duration = Duration::from_millis(300);
/// Of one flood.
const MOST: usize = 40_000_000;
/// Streams have 31 bits.
const MOST_TURNS: u32 = 1 << 29;
/// What the proxy may grow by under any of them: much less than what is sent or what it would become.
const BOUND: usize = 24_000_000;

/// What became of a flood.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The connection was closed.
    Closed,
    /// The proxy stopped reading.
    HeldBack,
    /// All of it was taken.
    Taken,
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: usize = line.trim_end_matches("kB").trim().parse().unwrap();
    kilobytes * 1024
}

async fn site(script: Script) -> (FaultBackend, Running) {
    let backend = FaultBackend::start().await;
    backend.always(script);
    let proxy = Proxy::start(sidecar_config(backend.address(), AppProtocol::H2c)).unwrap();
    (backend, proxy)
}

fn bytes(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

/// Sends `first`, then what `more` makes for the n-th time, and reads nothing: nobody waits for the answers.
async fn flood(
    address: SocketAddr,
    first: &[Frame],
    more: impl Fn(u32) -> Vec<Frame>,
) -> (End, FrameConnection) {
    let mut client = FrameConnection::client(address).await;
    client.write(&bytes(first)).await;
    let (mut sent, mut turn) = (0, 0);
    while sent < MOST && turn < MOST_TURNS {
        let mut batch = Vec::new();
        while batch.len() < 100_000 && turn < MOST_TURNS {
            batch.extend(bytes(&more(turn)));
            turn += 1;
        }
        match timeout(HELD_BACK, client.write(&batch)).await {
            Ok(true) => sent += batch.len(),
            Ok(false) => return (End::Closed, client),
            Err(_) => return (End::HeldBack, client),
        }
    }
    (End::Taken, client)
}

/// Floods while another client asks on; that one is answered, and memory stays in bounds.
async fn harmless(what: &str, proxy: &Running, first: &[Frame], more: impl Fn(u32) -> Vec<Frame>) -> End {
    let address = proxy.inbound().unwrap();
    let mut other = Client::http1(address).await;
    other.get("/").await;
    let before = resident();
    let asking = async {
        for _ in 0..50 {
            assert!(!other.get("/").await.status.is_server_error(), "{what}");
        }
    };
    let ((end, held), ()) = tokio::join!(flood(address, first, more), asking);
    let grown = resident().saturating_sub(before);
    assert!(grown < BOUND, "{what}: {grown} bytes more");
    drop(held);
    assert_eq!(Client::http1(address).await.get("/").await.status, 200, "{what}");
    end
}

fn get(stream: u32) -> Frame {
    Frame::new(HEADERS, END, stream, request("GET", "/", &[]))
}

fn post(stream: u32) -> Frame {
    Frame::new(HEADERS, END_HEADERS, stream, request("POST", "/", &[]))
}

/// The n-th stream of a client.
fn stream(turn: u32) -> u32 {
    turn * 2 + 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_mean_nothing_cost_nothing_but_their_sender() {
    let _alone = ALONE.lock().await;
    let (_backend, proxy) = site(Script::default()).await;
    let ping = || Frame::new(PING, 0, 0, [7; 8]);
    let unknown = || Frame::new(0x42, 0, 0, [0; 1_000]);
    let priority = |turn| Frame::new(PRIORITY, 0, stream(turn), [0, 0, 0, 0, 1]);
    // Each wants an answer: whoever does not read them is not read from either.
    assert_ne!(harmless("pings", &proxy, &[], |_| vec![ping()]).await, End::Taken);
    assert_ne!(harmless("settings", &proxy, &[], |_| vec![Frame::settings(&[(4, 1)])]).await, End::Taken);
    harmless("priorities", &proxy, &[], |turn| vec![priority(turn)]).await;
    harmless("unknown frames", &proxy, &[], |_| vec![unknown()]).await;
    harmless("windows", &proxy, &[post(1)], |_| vec![Frame::window(1, 1)]).await;
    harmless("go-aways", &proxy, &[], |_| vec![Frame::go_away(0, 0)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_blocks_without_end_or_content_are_cut_off() {
    let _alone = ALONE.lock().await;
    let (_backend, proxy) = site(Script::default()).await;
    let empty = |kind, flags| Frame::new(kind, flags, 1, []);
    let block = |name: &str| block(&[(name, "a")]);
    let unended = [Frame::new(HEADERS, END_STREAM, 1, request("GET", "/", &[]))];
    let continued =
        harmless("CONTINUATION", &proxy, &unended, |_| vec![Frame::new(CONTINUATION, 0, 1, block("x-a"))]);
    assert_eq!(continued.await, End::Closed);
    let nothing = harmless("empty CONTINUATION", &proxy, &unended, |_| vec![empty(CONTINUATION, 0)]);
    assert_eq!(nothing.await, End::Closed);
    let (_backend, hanging) = site(Script::Hang).await;
    let address = hanging.inbound().unwrap();
    let before = resident();
    let (end, _held) = flood(address, &[post(1)], |_| vec![empty(DATA, 0)]).await;
    assert_eq!(end, End::Closed);
    assert!(resident().saturating_sub(before) < BOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_made_to_be_thrown_away_end_the_connection() {
    let _alone = ALONE.lock().await;
    let (backend, proxy) = site(Script::default()).await;
    let rapid =
        harmless("rapid reset", &proxy, &[], |turn| vec![get(stream(turn)), Frame::reset(stream(turn), 8)]);
    assert_eq!(rapid.await, End::Closed);
    // Streams that we are made to reset: each is malformed behind its head (CVE-2025-8671).
    let seen = backend.counts().requests;
    let reset = harmless("made to reset", &proxy, &[], |turn| {
        let short = request("POST", "/", &[("content-length", "1")]);
        vec![
            Frame::new(HEADERS, END_HEADERS, stream(turn), short),
            Frame::new(DATA, END_STREAM, stream(turn), "xyz"),
        ]
    });
    assert_eq!(reset.await, End::Closed);
    assert!(backend.counts().requests - seen < 4_000, "{:?}", backend.counts());
    // Streams that are refused because they are too many.
    let (backend, hanging) = site(Script::Hang).await;
    let (_, held) = flood(hanging.inbound().unwrap(), &[], |turn| vec![get(stream(turn))]).await;
    assert!(backend.counts().requests <= 1_000, "{:?}", backend.counts());
    drop(held);
    backend.always(Reply::default().into());
    assert_eq!(Client::http1(hanging.inbound().unwrap()).await.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_block_that_stands_for_a_large_one_is_not_unpacked() {
    let _alone = ALONE.lock().await;
    let (backend, proxy) = site(Script::default()).await;
    // A field of 3,900 bytes goes into the table; each byte of the blocks after it stands for the whole of it.
    let large = [&b"\x40\x01a"[..], &string(&[b'v'; 3_900])].concat();
    let first = [Frame::new(HEADERS, END, 1, [request("GET", "/", &[]), large].concat())];
    let bomb = harmless("bomb", &proxy, &first, |turn| {
        let stands_for_much = vec![0xbe; 16_000];
        vec![Frame::new(
            HEADERS,
            END,
            stream(turn + 1),
            [request("GET", "/bomb", &[]), stands_for_much].concat(),
        )]
    });
    assert_ne!(bomb.await, End::Taken);
    assert!(backend.seen().iter().all(|head| head.uri.path() != "/bomb"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_that_say_little_cost_little_each() {
    const MANY: usize = 2_000;
    let _alone = ALONE.lock().await;
    let (backend, proxy) = site(Script::default()).await;
    let address = proxy.inbound().unwrap();
    let mut other = Client::http1(address).await;
    other.get("/").await;
    for (what, begins, each) in [
        ("nothing", &b""[..], 30_000),
        ("half a preface", &PREFACE[..10], 30_000),
        ("half a head", b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ", 60_000),
        ("a preface and no more", PREFACE, 100_000),
    ] {
        let before = resident();
        let mut held = Vec::new();
        for _ in 0..MANY {
            let mut client = RawClient::connect(address).await;
            client.write(begins).await;
            held.push(client);
        }
        for _ in 0..20 {
            assert_eq!(other.get("/").await.status, 200, "{what}");
        }
        // Both sides of each, with futures that are not optimised.
        let grown = resident().saturating_sub(before) / MANY;
        assert!(grown < each, "{what}: {grown} bytes for each");
    }
    assert_eq!(backend.counts().cancelled, 0);
}
