//! Moves the bytes of one direction from socket to socket through a pipe, so that they never enter this process.
//!
//! Worth it only where many come at once: for small ones two calls and a pipe cost more than the copy. So a direction
//! begins by copying, and whoever relays asks for this once a read has filled its chunk. A direction on which nothing
//! is on its way holds no pipe.

mod pipes;

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

pub(crate) use pipes::Pipes;
use pipes::{Lent, Moved};

/// A stream that may be a socket and nothing else.
pub(crate) trait Raw {
    /// The socket, where what is read from it and written to it now are the very bytes of the stream.
    fn raw(&self) -> Option<&TcpStream> {
        None
    }

    /// Told after bytes were moved past it into the socket; `waits` where the socket took none.
    ///
    /// # Errors
    /// As of a write: it has waited for too long.
    fn passed_by(&mut self, _cx: &mut Context<'_>, _waits: bool) -> io::Result<()> {
        Ok(())
    }
}

impl Raw for TcpStream {
    fn raw(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

/// What is on its way in one direction.
#[derive(Debug)]
pub(super) struct Spliced<'p> {
    pipes: &'p Pipes,
    through: Option<Lent<'p>>,
}

/// What one step came to.
#[derive(Debug)]
pub(super) enum Took {
    /// This many bytes are in the pipe.
    Bytes(usize),
    End,
    /// No pipe is to be had: copy.
    Copy,
}

/// What giving came to.
#[derive(Debug)]
pub(super) enum Gave {
    Bytes(usize),
    /// Everything that was taken and is not given yet: it has to be written in the other way.
    Back(Vec<u8>),
}

impl<'p> Spliced<'p> {
    pub(super) fn new(pipes: &'p Pipes) -> Self {
        Self { pipes, through: None }
    }

    /// Bytes that were taken and not given yet.
    pub(super) fn held(&self) -> usize {
        self.through.as_ref().map_or(0, Lent::held)
    }

    /// Takes what the source has, and no byte more than a pipe holds. While it has nothing, no pipe is kept.
    ///
    /// # Errors
    /// Of the source.
    pub(super) fn poll_take(&mut self, cx: &mut Context<'_>, source: &TcpStream) -> Poll<io::Result<Took>> {
        loop {
            if let Err(error) = ready!(source.poll_read_ready(cx)) {
                self.through = None;
                return Poll::Ready(Err(error));
            }
            let Some(through) = self.through.take().or_else(|| self.pipes.lend()) else {
                return Poll::Ready(Ok(Took::Copy));
            };
            let through = self.through.insert(through);
            let taken = match source.try_io(Interest::READABLE, || through.fill(source)) {
                Ok(Moved::Bytes(count)) => return Poll::Ready(Ok(Took::Bytes(count))),
                Ok(Moved::Nothing) => Ok(Took::End),
                Ok(Moved::Unable) => Ok(Took::Copy),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.through = None;
                    continue;
                }
                Err(error) => Err(error),
            };
            self.through = None;
            return Poll::Ready(taken);
        }
    }

    /// Gives the sink what it takes of what is held.
    ///
    /// # Errors
    /// Of the sink.
    pub(super) fn poll_give(&mut self, cx: &mut Context<'_>, sink: &TcpStream) -> Poll<io::Result<Gave>> {
        let Some(through) = &mut self.through else { return Poll::Ready(Ok(Gave::Bytes(0))) };
        loop {
            ready!(sink.poll_write_ready(cx))?;
            match sink.try_io(Interest::WRITABLE, || through.drain(sink)) {
                Ok(Moved::Bytes(count)) => return Poll::Ready(Ok(Gave::Bytes(count))),
                Ok(Moved::Nothing) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(Moved::Unable) => {
                    let back = through.take_back()?;
                    self.through = None;
                    return Poll::Ready(Ok(Gave::Back(back)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Nothing more is expected soon.
    pub(super) fn rest(&mut self) {
        if self.held() == 0 {
            self.through = None;
        }
    }
}

#[cfg(test)]
mod tests;
