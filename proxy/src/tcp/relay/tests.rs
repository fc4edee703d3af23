use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn relay(idle_timeout: Option<Duration>) -> Relay {
    let drain = CancellationToken::new();
    Relay { idle_timeout, drain, drain_timeout: Duration::from_secs(10) }
}

#[tokio::test]
async fn the_end_of_one_half_is_passed_on_and_the_other_half_lives_on() {
    let (mut client, mut downstream) = duplex(64);
    let (mut upstream, mut server) = duplex(64);
    let passed = Passed::default();
    let talk = async {
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "question");
        server.write_all(b"a late answer").await.unwrap();
        server.shutdown().await.unwrap();
        heard.clear();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "a late answer");
    };
    let relay = relay(None);
    let (ended, ()) = tokio::join!(relay.run(&mut downstream, &mut upstream, &passed), talk);
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert_eq!((passed.received(), passed.sent()), (8, 13));
}

#[tokio::test(start_paused = true)]
async fn standing_still_ends_it_and_every_byte_gives_it_more_time() {
    let (mut client, mut downstream) = duplex(64);
    let (mut upstream, mut server) = duplex(64);
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
    let (mut client, mut downstream) = duplex(64);
    let (mut upstream, mut server) = duplex(64);
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
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let passed = Passed::default();
        let (heard, received) = runtime.block_on(exchange(&sent, &answered, (near, far), &passed));
        prop_assert!(heard == sent && received == answered);
        prop_assert_eq!(passed.received(), sent.len() as u64);
        prop_assert_eq!(passed.sent(), answered.len() as u64);
    }
}

/// Both ends of a connection: one sends `bytes` and then ends its half, while the other's are heard.
async fn speak(stream: DuplexStream, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = async {
        write.write_all(bytes).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let ((), read) = tokio::join!(sending, read.read_to_end(&mut heard));
    read.unwrap();
    heard
}

/// What the server and the client hear.
async fn exchange(
    sent: &[u8],
    answered: &[u8],
    (near, far): (usize, usize),
    passed: &Passed,
) -> (Vec<u8>, Vec<u8>) {
    let (client, mut downstream) = duplex(near);
    let (mut upstream, server) = duplex(far);
    let relay = relay(None);
    let relaying = relay.run(&mut downstream, &mut upstream, passed);
    let (ended, received, heard) = tokio::join!(relaying, speak(client, sent), speak(server, answered));
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    (heard, received)
}

/// A connection that was reset.
struct Broken;

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
