use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::tcp::relay::tests::{socket_pair, through};
use crate::tcp::relay::{Ended, Passed};

/// More than the buffers of all sockets on the way hold.
const MUCH: usize = 24 * 1024 * 1024;

fn pipes(most: usize) -> &'static Pipes {
    Box::leak(Box::new(Pipes::new(most)))
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// A relay at work, and what it stands between.
struct At {
    client: TcpStream,
    server: TcpStream,
    relaying: JoinHandle<Ended>,
}

async fn relaying(pipes: &'static Pipes) -> At {
    let ((client, mut near), (mut far, server)) = (socket_pair().await, socket_pair().await);
    let relaying =
        tokio::spawn(async move { through(pipes, None).run(&mut near, &mut far, &Passed::default()).await });
    At { client, server, relaying }
}

/// One whose server reads nothing.
struct Stalled {
    server: TcpStream,
    relaying: JoinHandle<Ended>,
}

/// Sends much while nobody reads, until a pipe is in use and nothing moves.
async fn stalled(at: At, pipes: &Pipes) -> (JoinHandle<TcpStream>, Stalled) {
    let At { mut client, server, relaying } = at;
    let sending = tokio::spawn(async move {
        // Fails where the test ends the connection.
        let _ = client.write_all(&bytes(MUCH)).await;
        client
    });
    until(|| pipes.lent() > 0).await;
    (sending, Stalled { server, relaying })
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap();
}

#[tokio::test]
async fn many_bytes_go_through_a_pipe_that_is_given_back_once_all_have_passed() {
    let pipes = pipes(2);
    let at = relaying(pipes).await;
    let (sending, Stalled { mut server, .. }) = stalled(at, pipes).await;
    let mut heard = vec![0; MUCH];
    server.read_exact(&mut heard).await.unwrap();
    assert!(heard == bytes(MUCH));
    let mut client = sending.await.unwrap();
    until(|| pipes.lent() == 0).await;
    // And it goes on, in small.
    client.write_all(b"small").await.unwrap();
    server.read_exact(&mut heard[..5]).await.unwrap();
    assert_eq!((&heard[..5], pipes.lent()), (&b"small"[..], 0));
}

#[tokio::test]
async fn who_is_cut_off_gives_its_pipe_back_and_leaves_no_byte_in_it_for_the_next() {
    let pipes = pipes(1);
    let (_sending, Stalled { relaying: cut, .. }) = stalled(relaying(pipes).await, pipes).await;
    cut.abort();
    assert!(cut.await.unwrap_err().is_cancelled());
    assert_eq!(pipes.lent(), 0);
    let (_sending, Stalled { mut server, .. }) = stalled(relaying(pipes).await, pipes).await;
    let mut heard = vec![0; MUCH];
    server.read_exact(&mut heard).await.unwrap();
    assert!(heard == bytes(MUCH));
}

#[tokio::test]
async fn a_side_that_breaks_is_told_and_no_pipe_is_kept() {
    let pipes = pipes(4);
    let (_sending, Stalled { server, relaying: broken }) = stalled(relaying(pipes).await, pipes).await;
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert!(matches!(broken.await.unwrap(), Ended::Upstream(_)));
    let At { mut client, mut server, relaying } = relaying(pipes).await;
    client.write_all(&bytes(100_000)).await.unwrap();
    server.read_exact(&mut [0; 100_000]).await.unwrap();
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert!(matches!(relaying.await.unwrap(), Ended::Downstream(_)));
    assert_eq!(pipes.lent(), 0);
}

#[tokio::test]
async fn the_end_of_the_data_comes_after_the_last_byte() {
    let pipes = pipes(1);
    let (sending, Stalled { mut server, relaying }) = stalled(relaying(pipes).await, pipes).await;
    let mut heard = Vec::new();
    let (read, mut client) = tokio::join!(server.read_to_end(&mut heard), async {
        let mut client = sending.await.unwrap();
        client.shutdown().await.unwrap();
        client
    });
    read.unwrap();
    assert!(heard == bytes(MUCH));
    server.write_all(b"late").await.unwrap();
    drop(server);
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "late");
    assert!(matches!(relaying.await.unwrap(), Ended::Closed));
    assert_eq!(pipes.lent(), 0);
}

#[tokio::test]
async fn without_a_pipe_bytes_are_copied() {
    let pipes = pipes(0);
    let At { mut client, mut server, .. } = relaying(pipes).await;
    let (sent, mut heard) = (bytes(MUCH), vec![0; MUCH]);
    let (sending, read) = tokio::join!(client.write_all(&sent), server.read_exact(&mut heard));
    sending.and(read.map(drop)).unwrap();
    assert!(heard == sent);
}

#[tokio::test]
async fn many_connections_share_few_pipes_and_idle_ones_hold_none() {
    let pipes = pipes(4);
    let mut open = Vec::new();
    for _ in 0..1_000 {
        let mut at = relaying(pipes).await;
        at.client.write_all(&bytes(80_000)).await.unwrap();
        at.server.read_exact(&mut [0; 80_000]).await.unwrap();
        open.push(at);
    }
    until(|| pipes.lent() == 0).await;
    let mut stuck = Vec::new();
    for at in open.drain(..8) {
        stuck.push(stalled(at, pipes).await);
        assert!(pipes.lent() <= 4, "{}", pipes.lent());
    }
    drop(stuck);
}

#[test]
fn no_more_pipes_are_lent_than_there_may_be() {
    let pipes = pipes(4);
    let lent: Vec<_> = (0..4).map(|_| pipes.lend().unwrap()).collect();
    assert!(pipes.lend().is_none());
    drop(lent);
    assert_eq!(pipes.lent(), 0);
    assert!(pipes.lend().is_some());
}

/// The kernel refuses to splice to a file that is open for appending.
fn refuse_splices(socket: &TcpStream) {
    let flags = fcntl_getfl(socket).unwrap();
    fcntl_setfl(socket, flags | OFlags::APPEND).unwrap();
}

#[tokio::test]
async fn where_the_kernel_refuses_bytes_are_copied_and_none_is_lost() {
    let pipes = pipes(1);
    let ((mut client, mut near), (mut far, mut server)) = (socket_pair().await, socket_pair().await);
    refuse_splices(&far);
    let passed = Passed::default();
    let sent = bytes(MUCH);
    let talk = async {
        let mut heard = Vec::new();
        let sending = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(sending, server.read_to_end(&mut heard));
        read.unwrap();
        drop(server);
        heard
    };
    let relay = through(pipes, None);
    let (ended, heard) = tokio::join!(relay.run(&mut near, &mut far, &passed), talk);
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert!(heard == sent);
    assert_eq!(passed.received(), MUCH as u64);
    assert!(pipes.lend().is_none(), "it is not tried again");
    assert_eq!(pipes.lent(), 0);
}

/// Figures for people: `cargo test --release -p tidegate-proxy --lib -- --ignored --nocapture by_pipe_and_by_copy`.
#[tokio::test]
#[ignore = "takes seconds, and tells figures that no machine promises"]
#[allow(clippy::print_stdout, reason = "it is read by who runs it")]
async fn by_pipe_and_by_copy() {
    const ROUNDS: u32 = 30_000;
    const TOTAL: usize = 4 << 30;
    for (name, most) in [("copied", 0), ("spliced", 8), ("copied", 0), ("spliced", 8)] {
        let (mut client, mut server, relaying) = relaying_elsewhere(pipes(most)).await;
        let (mut word, begun) = ([0; 64], Instant::now());
        for _ in 0..ROUNDS {
            client.write_all(&word).await.unwrap();
            server.read_exact(&mut word).await.unwrap();
            server.write_all(&word).await.unwrap();
            client.read_exact(&mut word).await.unwrap();
        }
        let turn = begun.elapsed() / ROUNDS;
        let begun = Instant::now();
        let sending = async {
            let piece = vec![7; 1 << 20];
            for _ in 0..TOTAL >> 20 {
                client.write_all(&piece).await.unwrap();
            }
        };
        let hearing = async {
            let (mut heard, mut piece) = (0, vec![0; 1 << 20]);
            while heard < TOTAL {
                heard += server.read(&mut piece).await.unwrap();
            }
        };
        tokio::join!(sending, hearing);
        let rate = TOTAL as f64 / begun.elapsed().as_secs_f64() / 1e9;
        drop((client, server));
        let busy = relaying.join().unwrap().as_secs_f64();
        println!("{name:8} there and back {turn:?}; {rate:.2} GB/s; the relay was busy for {busy:.2} s");
    }
}

/// On a thread of its own, which tells its processor time.
async fn relaying_elsewhere(
    pipes: &'static Pipes,
) -> (TcpStream, TcpStream, std::thread::JoinHandle<Duration>) {
    let ((client, near), (far, server)) = (socket_pair().await, socket_pair().await);
    let [near, far] = [near, far].map(|stream| stream.into_std().unwrap());
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let relaying = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let [mut near, mut far] = [near, far].map(|stream| {
                stream.set_nodelay(true).unwrap();
                TcpStream::from_std(stream).unwrap()
            });
            through(pipes, None).run(&mut near, &mut far, &Passed::default()).await;
            busy()
        })
    });
    (client, server, relaying)
}

fn busy() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap())
}
