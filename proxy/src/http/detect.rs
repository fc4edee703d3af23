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

/// No HTTP/1 method begins like this: RFC 9113 section 3.4 reserves it.
const PREFACE: &[u8] = b"PRI ";
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
