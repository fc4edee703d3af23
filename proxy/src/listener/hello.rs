//! The first message of a TLS client, read to learn the server name that it asks for, and kept for whoever answers it.
//!
//! Nothing is decided here, and nothing is sent: not even an alert, for where TLS passes through it is not ours to speak.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::identity::{CARRIED, HTTP_1, HTTP_2};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The most that is read before the message is whole. With post-quantum key shares it has about 2 KiB.
const MAX_HELLO: usize = 16 * 1024;

/// What a client asks for, and what was read of its connection to learn it.
#[derive(Debug)]
pub(crate) struct Hello {
    /// In lower case; `None` where the client names no server (RFC 6066, section 3).
    pub(crate) server_name: Option<Arc<str>>,
    /// Whether it offers what only proxies of the mesh speak.
    pub(crate) is_mesh: bool,
    start: Vec<u8>,
}

/// Why there is no first message. Whoever waits for one puts a limit to the waiting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHello {
    #[error("the client left without a word")]
    Silent,
    #[error("the client left in the middle of its first message")]
    Cut,
    #[error("not TLS, or broken: {0}")]
    Invalid(rustls::Error),
    #[error("the first message has more than {MAX_HELLO} bytes")]
    TooLong,
    #[error(transparent)]
    Broke(#[from] io::Error),
}

/// A stream of which the first bytes were read already: they are read again.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    start: Vec<u8>,
    at: usize,
    stream: S,
}

/// Reads until the message is whole, and of what follows no more than came with it.
///
/// # Errors
/// The connection is of no use.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Hello, NoHello> {
    let (mut start, mut seen) = (Vec::new(), 0);
    let mut acceptor = Acceptor::default();
    loop {
        let room = MAX_HELLO - start.len();
        if room == 0 {
            return Err(NoHello::TooLong);
        }
        if (&mut *stream).take(room as u64).read_buf(&mut start).await? == 0 {
            return Err(if start.is_empty() { NoHello::Silent } else { NoHello::Cut });
        }
        while let Some(mut rest @ [_, ..]) = start.get(seen..) {
            seen += acceptor.read_tls(&mut rest)?;
            if let Some(accepted) = acceptor.accept().map_err(|(error, _alert)| NoHello::Invalid(error))? {
                let hello = accepted.client_hello();
                let server_name = hello.server_name().map(Into::into);
                let ours = |protocol: &[u8]| [HTTP_2, HTTP_1, CARRIED].contains(&protocol);
                let is_mesh = hello.alpn().is_some_and(|mut offered| offered.any(ours));
                return Ok(Hello { server_name, is_mesh, start });
            }
        }
    }
}

impl Hello {
    /// The connection as if nothing had been read of it.
    pub(crate) fn rewind<S>(self, stream: S) -> Rewound<S> {
        Rewound::new(self.start, stream)
    }
}

impl<S> Rewound<S> {
    /// With these bytes before those that `stream` still has.
    pub(crate) fn new(start: Vec<u8>, stream: S) -> Self {
        Self { start, at: 0, stream }
    }

    /// Whether what comes next comes from the stream itself.
    pub(crate) fn is_read(&self) -> bool {
        self.at >= self.start.len()
    }

    pub(crate) fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(rest @ [_, ..]) = this.start.get(this.at..) else {
            // Connections live for long: give the room back.
            (this.start, this.at) = (Vec::new(), 0);
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        };
        let count = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..count]);
        this.at += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
