//! Which HTTP a client speaks, told from its first bytes without taking them.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    /// With prior knowledge.
    Http2,
}

/// No HTTP/1 request begins like this: RFC 9113 section 3.4 reserves it. All of it is waited for, here where there is a
/// limit to waiting.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a preface that came in pieces. Rare, and not worth a buffer of its own.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Waits for the first bytes. Until they come, the connection costs no buffer.
///
/// # Errors
/// The client left, or sent nothing.
pub(crate) async fn detect(stream: &TcpStream) -> io::Result<Version> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        match first.get(..seen) {
            None | Some([]) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(bytes) if !PREFACE.starts_with(bytes) => return Ok(Version::Http1),
            Some(bytes) if bytes.len() == PREFACE.len() => return Ok(Version::Http2),
            Some(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_preface_is_taken_for_http_2_once_it_is_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let (half, rest) = PREFACE.split_at(10);
        client.write_all(half).await.unwrap();
        assert!(tokio::time::timeout(LOOK_AGAIN * 5, detect(&server)).await.is_err());
        client.write_all(rest).await.unwrap();
        assert_eq!(detect(&server).await.unwrap(), Version::Http2);
    }

    #[tokio::test]
    async fn what_only_begins_like_a_preface_is_left_to_http_1_to_refuse() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(b"PRI * HTTP/1.1").await.unwrap();
        assert_eq!(detect(&server).await.unwrap(), Version::Http1);
    }
}
