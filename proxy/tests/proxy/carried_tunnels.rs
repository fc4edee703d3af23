//! Upgraded connections that carry much: from socket to socket, whole, and not for ever to who does not read.

use std::time::Duration;

use tidegate_testkit::client::RawClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::mesh::Gateway;

const ASKED: &str =
    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst words";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nand the first answer";
/// More than the sockets on the way hold.
const MUCH: usize = 24 * 1024 * 1024;

/// A tunnel through a gateway: the client's end and the server's, at the first byte beyond the heads.
async fn tunnel(stall_timeout: Duration) -> (Gateway, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::with(|config| config.stall_timeout = Some(stall_timeout));
    let gateway = gateway.to(&[listener.local_addr().unwrap()]).await;
    let mut client = TcpStream::connect(gateway.address().await).await.unwrap();
    client.write_all(ASKED.as_bytes()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    read_to(&mut server, "\r\n\r\n").await;
    server.write_all(AGREED.as_bytes()).await.unwrap();
    read_to(&mut client, "\r\n\r\n").await;
    (gateway, client, server)
}

async fn read_to(stream: &mut TcpStream, end: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        seen.push(stream.read_u8().await.unwrap());
    }
}

fn bytes(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

#[tokio::test]
async fn what_came_with_the_heads_comes_first_and_much_follows_whole_in_both_directions() {
    let (_gateway, client, server) = tunnel(Duration::from_secs(60)).await;
    let (question, answer) = (bytes(MUCH), bytes(MUCH + 1));
    let speak = async |mut stream: TcpStream, words: &[u8]| {
        let (mut read, mut write) = stream.split();
        let mut heard = Vec::new();
        let saying = async {
            write.write_all(words).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(saying, read.read_to_end(&mut heard));
        read.unwrap();
        heard
    };
    let (heard, asked) = tokio::join!(speak(client, &question), speak(server, &answer));
    assert!(asked == [&b"first words"[..], &question].concat());
    assert!(heard == [&b"and the first answer"[..], &answer].concat());
}

#[tokio::test]
async fn a_client_that_stops_reading_is_let_go_in_the_time_that_any_client_has() {
    let (_gateway, client, mut server) = tunnel(Duration::from_millis(300)).await;
    let sent = tokio::time::timeout(Duration::from_secs(30), server.write_all(&bytes(2 * MUCH))).await;
    assert!(sent.unwrap().is_err(), "nobody reads it");
    drop(RawClient::from(client));
}
