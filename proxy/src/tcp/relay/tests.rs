use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;

/// Only a relay that is broken takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn relay(idle_timeout: Option<Duration>) -> Relay {
    through(Pipes::of_this_process(), idle_timeout)
}

pub(in crate::tcp) fn through(pipes: &'static Pipes, idle_timeout: Option<Duration>) -> Relay {
    let drain = CancellationToken::new();
    Relay { idle_timeout, drain, drain_timeout: Duration::from_secs(10), pipes }
}

/// What a relay stands between, in memory or on sockets.
struct Ends<S> {
    client: S,
    downstream: S,
    upstream: S,
    server: S,
}

fn in_memory(near: usize, far: usize) -> Ends<DuplexStream> {
    let ((client, downstream), (upstream, server)) = (duplex(near), duplex(far));
    Ends { client, downstream, upstream, server }
}

async fn on_sockets() -> Ends<TcpStream> {
    let ((client, downstream), (upstream, server)) = (socket_pair().await, socket_pair().await);
    Ends { client, downstream, upstream, server }
}

pub(in crate::tcp) async fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// Long enough to be moved by the pipeful, where that can be.
fn long(byte: u8) -> Vec<u8> {
    (0..10 * CHUNK).map(|at| byte.wrapping_add((at % 251) as u8)).collect()
}

#[tokio::test]
async fn the_end_of_one_half_is_passed_on_and_the_other_half_lives_on() {
    half_closed(in_memory(64, 64)).await;
    half_closed(on_sockets().await).await;
}

async fn half_closed<S: AsyncRead + AsyncWrite + Raw + Unpin>(ends: Ends<S>) {
    let Ends { mut client, mut downstream, mut upstream, mut server } = ends;
    let (question, answer) = (long(1), long(2));
    let passed = Passed::default();
    let talk = async {
        assert!(told(&mut client, &mut server, &question).await == question);
        assert!(told(&mut server, &mut client, &answer).await == answer);
    };
    let relay = relay(None);
    let relaying = relay.run(&mut downstream, &mut upstream, &passed);
    let both = async { tokio::join!(relaying, talk) };
    let (ended, ()) = tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    let length = question.len() as u64;
    assert_eq!((passed.received(), passed.sent()), (length, length));
}

/// What `to` hears of all that `from` says before it ends its half.
async fn told(
    from: &mut (impl AsyncWrite + Unpin),
    to: &mut (impl AsyncRead + Unpin),
    words: &[u8],
) -> Vec<u8> {
    let saying = async {
        from.write_all(words).await.unwrap();
        from.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let ((), read) = tokio::join!(saying, to.read_to_end(&mut heard));
    read.unwrap();
    heard
}

#[tokio::test(start_paused = true)]
async fn standing_still_ends_it_and_every_byte_gives_it_more_time() {
    standing_still(in_memory(64, 64)).await;
    standing_still(on_sockets().await).await;
}

async fn standing_still<S: AsyncRead + AsyncWrite + Raw + Unpin>(ends: Ends<S>) {
    let Ends { mut client, mut downstream, mut upstream, mut server } = ends;
    let begun = Instant::now();
    let talk = async {
        for _ in 0..5 {
            sleep(Duration::from_secs(40)).await;
            server.write_all(b"x").await.unwrap();
            client.read_u8().await.unwrap();
        }
    };
    let (relay, passed) = (relay(Some(Duration::from_secs(60))), Passed::default());
    let (ended, ()) = tokio::join!(relay.run(&mut downstream, &mut upstream, &passed), talk);
    assert!(matches!(ended, Ended::Idle), "{ended:?}");
    assert_eq!(begun.elapsed().as_secs(), 5 * 40 + 60);
    assert_eq!(passed.sent(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_drain_leaves_time_for_what_is_under_way() {
    drained(in_memory(64, 64)).await;
    drained(on_sockets().await).await;
}

async fn drained<S: AsyncRead + AsyncWrite + Raw + Unpin>(ends: Ends<S>) {
    let Ends { mut client, mut downstream, mut upstream, mut server } = ends;
    let (relay, passed) = (relay(None), Passed::default());
    relay.drain.cancel();
    let begun = Instant::now();
    let talk = async {
        client.write_all(b"still").await.unwrap();
        let mut heard = [0; 5];
        server.read_exact(&mut heard).await.unwrap();
    };
    let (ended, ()) = tokio::join!(relay.run(&mut downstream, &mut upstream, &passed), talk);
    assert!(matches!(ended, Ended::Drained), "{ended:?}");
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn it_tells_which_side_broke() {
    let (relay, passed) = (relay(None), Passed::default());
    let (_client, mut downstream) = duplex(64);
    let ended = relay.run(&mut downstream, &mut Broken, &passed).await;
    assert!(matches!(ended, Ended::Upstream(_)), "{ended:?}");
    let (_server, mut upstream) = duplex(64);
    let ended = relay.run(&mut Broken, &mut upstream, &passed).await;
    assert!(matches!(ended, Ended::Downstream(_)), "{ended:?}");
}

#[tokio::test]
async fn a_sink_that_takes_nothing_stops_the_source_after_one_chunk() {
    let (mut client, mut downstream) = duplex(4 * CHUNK);
    let (mut upstream, _server) = duplex(1);
    client.write_all(&[7; 4 * CHUNK]).await.unwrap();
    let (relay, passed) = (relay(None), Passed::default());
    tokio::select! {
        biased;
        ended = relay.run(&mut downstream, &mut upstream, &passed) => panic!("{ended:?}"),
        () = std::future::ready(()) => {}
    }
    let mut left = Vec::new();
    drop(client);
    let left = downstream.read_to_end(&mut left).await.unwrap();
    assert!(left >= 3 * CHUNK, "only {left} bytes were left unread");
    assert_eq!(passed.received(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the sizes of writes and of the buffers in between, bytes come out whole and in order.
    #[test]
    fn bytes_pass_unchanged_in_both_directions(
        sent in proptest::collection::vec(any::<u8>(), 0..20_000),
        answered in proptest::collection::vec(any::<u8>(), 0..20_000),
        (near, far) in (1_usize..40_000, 1_usize..40_000),
    ) {
        exchanged(async || in_memory(near, far), &sent, &answered);
    }

    /// The same where they may be moved past this process.
    #[test]
    fn bytes_pass_unchanged_from_socket_to_socket(
        seed: u64,
        (sent, answered) in (0_usize..1_500_000, 0_usize..1_500_000),
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = |length| (0..length).map(|_| random.u8(..)).collect::<Vec<_>>();
        let (sent, answered) = (bytes(sent), bytes(answered));
        exchanged(on_sockets, &sent, &answered);
    }
}

fn exchanged<S: AsyncRead + AsyncWrite + Raw + Unpin>(
    ends: impl AsyncFnOnce() -> Ends<S>,
    sent: &[u8],
    answered: &[u8],
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let passed = Passed::default();
    let (heard, received) = runtime.block_on(async { exchange(ends().await, sent, answered, &passed).await });
    assert!(heard == sent && received == answered);
    assert_eq!(passed.received(), sent.len() as u64);
    assert_eq!(passed.sent(), answered.len() as u64);
}

/// Both ends of a connection: one sends `bytes` in pieces of any size and then ends its half, while the other's are
/// heard.
async fn speak(stream: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        let mut rest = bytes;
        let mut random = fastrand::Rng::with_seed(bytes.len() as u64);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(random.usize(1..=100_000).min(rest.len()));
            write.write_all(piece).await.unwrap();
            rest = after;
            if random.bool() {
                tokio::task::yield_now().await;
            }
        }
        write.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let ((), read) = tokio::join!(sending, read.read_to_end(&mut heard));
    read.unwrap();
    heard
}

/// What the server and the client hear.
async fn exchange<S: AsyncRead + AsyncWrite + Raw + Unpin>(
    ends: Ends<S>,
    sent: &[u8],
    answered: &[u8],
    passed: &Passed,
) -> (Vec<u8>, Vec<u8>) {
    let Ends { client, mut downstream, mut upstream, server } = ends;
    let relay = relay(None);
    let relaying = relay.run(&mut downstream, &mut upstream, passed);
    let all = async { tokio::join!(relaying, speak(client, sent), speak(server, answered)) };
    let (ended, received, heard) = tokio::time::timeout(PATIENCE, all).await.unwrap();
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    (heard, received)
}

impl Raw for DuplexStream {}

/// A connection that was reset.
struct Broken;

impl Raw for Broken {}

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
