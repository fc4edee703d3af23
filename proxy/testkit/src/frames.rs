//! HTTP/2 frame by frame (RFC 9113), for either side of a connection: what no HTTP/2 library would send. Header blocks are
//! written as literals, never indexed (RFC 7541, section 6.2.2), so that no case depends on another's compression state.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x1;
pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const WITH_PRIORITY: u8 = 0x20;
/// A whole request or response without a body.
pub const END: u8 = END_STREAM | END_HEADERS;

/// Only a test that is broken waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// One side of a connection, byte by byte. Closed when dropped.
#[derive(Debug)]
pub struct FrameConnection(TcpStream);

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub fn settings(values: &[(u16, u32)]) -> Self {
        let bytes = values.iter().flat_map(|(id, value)| {
            let (id, value) = (id.to_be_bytes(), value.to_be_bytes());
            id.into_iter().chain(value)
        });
        Self::new(SETTINGS, 0, 0, bytes.collect::<Vec<_>>())
    }

    pub fn window(stream: u32, more: u32) -> Self {
        Self::new(WINDOW_UPDATE, 0, stream, more.to_be_bytes())
    }

    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, code.to_be_bytes())
    }

    pub fn go_away(last: u32, code: u32) -> Self {
        Self::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    /// As it is on the wire.
    ///
    /// # Panics
    /// Where the payload is longer than any frame can say.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a length").to_be_bytes();
        assert_eq!(length[0], 0, "a length has 24 bits");
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// What a RST_STREAM or GOAWAY says.
    pub fn error_code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }

    /// The status that the first header block of a connection begins with: it can refer to no earlier one.
    pub fn status(&self) -> Option<u16> {
        if self.kind != HEADERS {
            return None;
        }
        match *self.payload.as_slice() {
            [indexed @ 0x88..=0x8e, ..] => Some(STATUSES[usize::from(indexed - 0x88)]),
            [0x48, 0x03, a, b, c, ..] => std::str::from_utf8(&[a, b, c]).ok()?.parse().ok(),
            [0x48, 0x82, a, b, ..] => huffman_digits(u32::from(a) << 8 | u32::from(b), 16),
            [0x48, 0x83, a, b, c, ..] => {
                huffman_digits(u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c), 24)
            }
            _ => None,
        }
    }
}

/// RFC 7541, appendix A, from index 8 on.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// Three digits in the code of RFC 7541, appendix B: 0 to 2 have five bits, the others six.
fn huffman_digits(bits: u32, mut left: u32) -> Option<u16> {
    let mut number = 0;
    for _ in 0..3 {
        let five = bits >> left.checked_sub(5)? & 0x1f;
        let digit = if five <= 2 {
            left -= 5;
            five
        } else {
            left = left.checked_sub(6)?;
            (bits >> left & 0x3f).checked_sub(0x19)? + 3
        };
        number = number * 10 + u16::try_from(digit).ok()?;
    }
    Some(number)
}

/// A header block of these fields.
///
/// # Panics
/// Where a name or value has more than 100,000 bytes.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.extend(string(text.as_bytes()));
        }
    }
    block
}

/// A string literal without Huffman code (RFC 7541, section 5.2).
///
/// # Panics
/// Where it has more than 100,000 bytes.
pub fn string(text: &[u8]) -> Vec<u8> {
    assert!(text.len() < 100_000, "no test needs more");
    let mut bytes = Vec::new();
    let mut left = text.len();
    if left < 0x7f {
        bytes.push(left as u8);
    } else {
        bytes.push(0x7f);
        left -= 0x7f;
        while left >= 0x80 {
            bytes.push((left % 0x80) as u8 | 0x80);
            left /= 0x80;
        }
        bytes.push(left as u8);
    }
    bytes.extend(text);
    bytes
}

/// The fields of a request, and some more.
pub fn request<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path)];
    block(&[&pseudo, more].concat())
}

impl FrameConnection {
    /// A client that has sent nothing yet.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.set_nodelay(true).expect("an open socket");
        Self(stream)
    }

    /// A client that has sent the preface and its SETTINGS.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn client(address: SocketAddr) -> Self {
        let mut this = Self::connect(address).await;
        this.write(PREFACE).await;
        this.send(&Frame::settings(&[])).await;
        this
    }

    /// A server that has read the preface of its client and sent these SETTINGS; `None` if the client left first.
    pub async fn server(stream: TcpStream, settings: &Frame) -> Option<Self> {
        let _ = stream.set_nodelay(true);
        let mut this = Self(stream);
        let mut preface = [0; PREFACE.len()];
        this.0.read_exact(&mut preface).await.ok()?;
        this.send(settings).await;
        Some(this)
    }

    /// Writes, unless the other side has closed: it may well have had enough.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        let written = tokio::time::timeout(PATIENCE, self.0.write_all(bytes)).await;
        written.expect("the other side reads within a minute").is_ok()
    }

    /// As [`FrameConnection::write`].
    pub async fn send(&mut self, frame: &Frame) -> bool {
        self.write(&frame.bytes()).await
    }

    /// The next frame; `None` once the other side has closed.
    ///
    /// # Panics
    /// After a minute without one.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a frame within a minute")
    }

    /// The next frame for which this holds; `None` once the other side has closed.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_however_it_is_written() {
        let read = |payload: &[u8]| Frame::new(HEADERS, END, 1, payload).status();
        assert_eq!(read(&[0x88]), Some(200));
        assert_eq!(read(b"\x48\x03503"), Some(503));
        // RFC 7541, sections C.6.1 and C.6.2: 302 and 307.
        assert_eq!(read(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(read(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
    }

    #[test]
    fn a_long_string_says_its_length_in_more_bytes() {
        // RFC 7541, section C.1.2: 1337 in five bits is 31, 154, 10; in seven it is 127, 186, 9.
        assert_eq!(&string(&[b'x'; 1337])[..3], [127, 186, 9]);
        assert_eq!(string(b"ab"), b"\x02ab");
    }
}
