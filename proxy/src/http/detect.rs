//! Which HTTP a client speaks, told from its first bytes without taking them.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
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

/// More than nearly every request line has.
const LOOKED_AT: usize = 2_048;
/// The longest registered method has 17 letters.
const MAX_METHOD: usize = 32;
/// For the rest of a request line. What takes longer is carried as it is, which an HTTP server understands as well.
const LINE_TIME: Duration = Duration::from_secs(1);

/// What a client begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    Http,
    Tls,
    /// Anything else, or the end of its half.
    Other,
}

/// What a client begins with, without taking it. Waits for the first byte as long as it takes.
///
/// # Errors
/// The connection broke.
pub(crate) async fn hello(stream: &TcpStream) -> io::Result<Hello> {
    let look = || {
        poll_fn(|cx| {
            let mut first = [MaybeUninit::uninit(); LOOKED_AT];
            let mut first = ReadBuf::uninit(&mut first);
            ready!(stream.poll_peek(cx, &mut first))?;
            Poll::Ready(io::Result::Ok(told(first.filled())))
        })
    };
    if let Some(told) = look().await? {
        return Ok(told);
    }
    let whole = async {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            if let Some(told) = look().await? {
                return Ok(told);
            }
        }
    };
    tokio::time::timeout(LINE_TIME, whole).await.unwrap_or(Ok(Hello::Other))
}

/// What these first bytes are; `None`: more are needed.
pub(crate) fn told(bytes: &[u8]) -> Option<Hello> {
    match bytes {
        [] => Some(Hello::Other),
        // A handshake record of any version of TLS (RFC 8446, section 5.1).
        [0x16] => None,
        [0x16, 0x03, ..] => Some(Hello::Tls),
        bytes => is_http(bytes).map(|http| if http { Hello::Http } else { Hello::Other }),
    }
}

/// Whether these first bytes are the preface of HTTP/2 or the request line of HTTP/1; `None`: more are needed. A method
/// is not enough: SSH and many a text protocol begin with a word and a space.
fn is_http(bytes: &[u8]) -> Option<bool> {
    if bytes.starts_with(PREFACE) {
        return Some(true);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    let mut lines = bytes.splitn(2, |b| *b == b'\n');
    let (line, is_whole) = (lines.next().unwrap_or_default(), lines.next().is_some());
    let mut words = line.splitn(2, |b| *b == b' ');
    let method = words.next().unwrap_or_default();
    let is_method = method.iter().all(|b| is_token(*b)) && (1..=MAX_METHOD).contains(&method.len());
    match words.next() {
        _ if !is_method => Some(false),
        None if is_whole => Some(false),
        None => None,
        Some(rest) => {
            let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
            let version = rest.rsplit(|b| *b == b' ').next().unwrap_or_default();
            if rest.iter().any(u8::is_ascii_control) {
                Some(false)
            } else if is_whole {
                Some(version.starts_with(b"HTTP/1."))
            } else {
                // A target longer than what is looked at: nothing else has such lines.
                (bytes.len() >= LOOKED_AT).then_some(true)
            }
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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

    #[test]
    fn http_is_told_from_other_protocols_by_its_first_line() {
        let long = [b"GET /", &[b'x'; LOOKED_AT][..]].concat();
        for (bytes, want) in [
            (&b"GET / HTTP/1.1\r\nhost: a\r\n"[..], Some(true)),
            (b"OPTIONS * HTTP/1.0\n", Some(true)),
            (b"M-SEARCH http://a/?b=c HTTP/1.1\r\n", Some(true)),
            (PREFACE, Some(true)),
            (&long, Some(true)),
            (b"PRI * HT", None),
            (b"P", None),
            (b"GET /some", None),
            // TLS, SSH, Redis, memcached, PostgreSQL, IRC.
            (b"\x16\x03\x01\x02\0\x01", Some(false)),
            (b"SSH-2.0-OpenSSH_9.6 Debian\r\n", Some(false)),
            (b"*1\r\n$4\r\nPING\r\n", Some(false)),
            (b"PING\r\n", Some(false)),
            (b"get key\r\n", Some(false)),
            (b"\0\0\0\x08\x04\xd2\x16/", Some(false)),
            (b"NICK tide\r\n", Some(false)),
            (b"GET /without-version\r\n", Some(false)),
        ] {
            assert_eq!(is_http(bytes), want, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_tls_handshake_is_told_from_what_only_begins_alike() {
        for (bytes, want) in [
            (&b"\x16\x03\x01\x02\0\x01"[..], Some(Hello::Tls)),
            (b"\x16", None),
            (b"\x16\x04", Some(Hello::Other)),
            (b"", Some(Hello::Other)),
            (b"GET / HTTP/1.1\r\n", Some(Hello::Http)),
        ] {
            assert_eq!(told(bytes), want, "{bytes:x?}");
        }
    }

    proptest! {
        /// What was decided on a part is not taken back when more comes.
        #[test]
        fn a_decision_stands(bytes in "(GET|SSH-2|PRI)[ -~]{0,40}(\r\n)?.{0,20}", cut in any::<prop::sample::Index>()) {
            let bytes = bytes.as_bytes();
            if let Some(decided) = is_http(&bytes[..cut.index(bytes.len())]) {
                prop_assert_eq!(is_http(bytes), Some(decided));
            }
        }
    }
}
