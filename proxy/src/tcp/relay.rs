//! Moves bytes both ways until both sides have ended.
//!
//! Bytes are read onto the stack and written from there; only what the other side does not take at once is kept, no
//! more than one [`CHUNK`] for each direction. Once they come in number, and both sides are sockets, they pass through a
//! pipe instead (see [`super::splice`]). So a connection on which nothing happens costs no buffer and no pipe.

mod plugged;

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidegate_policy::Reason;
use tidegate_policy::pipeline::Cut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::splice::{Gave, Pipes, Raw, Spliced, Took};

/// Read at a time, and the most that waits in one direction.
const CHUNK: usize = 16 * 1024;
/// Steps that one direction may make before the other has its turn, and the other connections of the thread theirs.
const TURN: usize = 8;
/// What a pipeful costs of a turn: it is larger than a chunk, and cheaper by the byte.
const PIPEFUL: usize = 4;

/// How one connection is relayed.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    /// How long both directions together may stand still; `None`: for ever.
    pub(crate) idle_timeout: Option<Duration>,
    /// Begins the end: what is under way may go on for [`Relay::drain_timeout`].
    pub(crate) drain: CancellationToken,
    pub(crate) drain_timeout: Duration,
    pub(crate) pipes: &'static Pipes,
}

/// What has passed so far; readable while the relay runs and after it was dropped.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    received: AtomicU64,
    sent: AtomicU64,
}

/// Why a relay ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Each side has closed its half, and the other one was told.
    Closed,
    /// Nothing has moved for the idle timeout.
    Idle,
    /// The time that a drain leaves was over.
    Drained,
    /// The client's connection broke.
    Downstream(io::Error),
    /// The endpoint's connection broke.
    Upstream(io::Error),
    /// A plugin has closed it, or has failed.
    Cut(Cut),
}

impl Passed {
    /// Bytes that the client sent and the endpoint was given.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes that the endpoint sent and the client was given.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Relay {
    /// Moves bytes until both sides have ended; the end of one half is passed on, the other half lives on. The streams are
    /// borrowed so that the caller can close them in the way that fits the end: a reset for what broke.
    pub(crate) async fn run<D, U>(&self, downstream: &mut D, upstream: &mut U, passed: &Passed) -> Ended
    where
        D: AsyncRead + AsyncWrite + Raw + Unpin,
        U: AsyncRead + AsyncWrite + Raw + Unpin,
    {
        let (mut up, mut down) = (Pump::new(self.pipes), Pump::new(self.pipes));
        let mut idle = Idle::new(self.idle_timeout);
        let copying = poll_fn(|cx| {
            let before = (up.moved, down.moved);
            let upwards = up.poll(cx, downstream, upstream, &passed.received);
            let downwards = down.poll(cx, upstream, downstream, &passed.sent);
            let ended = match (upwards, downwards) {
                (Poll::Ready(Err(broke)), _) => broke.ended(Ended::Downstream, Ended::Upstream),
                (_, Poll::Ready(Err(broke))) => broke.ended(Ended::Upstream, Ended::Downstream),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Ended::Closed,
                _ => return idle.poll(cx, before != (up.moved, down.moved)).map(|()| Ended::Idle),
            };
            Poll::Ready(ended)
        });
        tokio::select! {
            biased;
            ended = copying => ended,
            () = self.drained() => Ended::Drained,
        }
    }

    async fn drained(&self) {
        self.drain.cancelled().await;
        sleep(self.drain_timeout).await;
    }
}

impl Ended {
    /// Whether both sides are to notice that it is not the end of the data.
    pub(crate) fn aborts(&self) -> bool {
        match self {
            Self::Closed => false,
            Self::Cut(cut) => cut.reset,
            Self::Idle | Self::Drained | Self::Downstream(_) | Self::Upstream(_) => true,
        }
    }

    /// What is told of it; `None` for an end in order. The details go to the log.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Closed => None,
            Self::Idle => Some(Reason::IdleTimeout),
            Self::Drained => Some(Reason::Draining),
            Self::Cut(cut) => Some(cut.reason),
            Self::Downstream(error) => {
                tracing::debug!(%error, "the client's connection broke");
                Some(Reason::ClientGone)
            }
            Self::Upstream(error) => {
                tracing::debug!(%error, "the endpoint's connection broke");
                Some(Reason::UpstreamReset)
            }
        }
    }
}

/// Before the wait for more: a sink with a buffer of its own may hold what was written.
fn flush(
    cx: &mut Context<'_>,
    sink: &mut (impl AsyncWrite + Unpin),
    unflushed: &mut bool,
) -> Poll<Result<(), Broke>> {
    if *unflushed {
        ready!(Pin::new(sink).poll_flush(cx)).map_err(Broke::Sink)?;
        *unflushed = false;
    }
    Poll::Ready(Ok(()))
}

/// Tells the sink that its source has ended.
fn end(
    cx: &mut Context<'_>,
    sink: &mut (impl AsyncWrite + Unpin),
    stage: &mut Stage,
) -> Poll<Result<(), Broke>> {
    ready!(Pin::new(sink).poll_shutdown(cx)).map_err(Broke::Sink)?;
    *stage = Stage::Over;
    Poll::Ready(Ok(()))
}

/// One direction.
struct Pump {
    /// Read and not yet written, from `at` on.
    rest: Vec<u8>,
    at: usize,
    /// Written since the last flush.
    unflushed: bool,
    stage: Stage,
    /// Steps that got bytes further.
    moved: u64,
    /// The last read brought as much as it could: more will be there.
    bulk: bool,
    spliced: Spliced<'static>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Copying,
    /// The source has ended; the sink is still to be told.
    Ending,
    Over,
}

/// Which end of a direction failed.
enum Broke {
    Source(io::Error),
    Sink(io::Error),
}

impl Pump {
    fn new(pipes: &'static Pipes) -> Self {
        Self {
            rest: Vec::new(),
            at: 0,
            unflushed: false,
            stage: Stage::default(),
            moved: 0,
            bulk: false,
            spliced: Spliced::new(pipes),
        }
    }

    /// Ready once the source has ended and the sink was told so.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Raw + Unpin),
        sink: &mut (impl AsyncWrite + Raw + Unpin),
        count: &AtomicU64,
    ) -> Poll<Result<(), Broke>> {
        let mut turn = TURN;
        while turn > 0 {
            match self.stage {
                Stage::Copying => {
                    ready!(self.write_rest(cx, sink, count))?;
                    ready!(self.give(cx, sink, count))?;
                    if self.at < self.rest.len() {
                        continue;
                    }
                    let from = source.raw().filter(|_| self.bulk && sink.raw().is_some());
                    if let Some(from) = from {
                        turn = turn.saturating_sub(PIPEFUL);
                        ready!(self.take(cx, from))?;
                    } else {
                        turn -= 1;
                        ready!(self.step(cx, source, sink, count))?;
                    }
                }
                Stage::Ending => ready!(end(cx, sink, &mut self.stage))?,
                Stage::Over => return Poll::Ready(Ok(())),
            }
        }
        // Not the end of the turn for ever: the next one begins at once.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what the source has into a pipe.
    fn take(&mut self, cx: &mut Context<'_>, source: &TcpStream) -> Poll<Result<(), Broke>> {
        match ready!(self.spliced.poll_take(cx, source)).map_err(Broke::Source)? {
            Took::Bytes(taken) => {
                self.moved += 1;
                self.bulk = taken >= CHUNK;
            }
            Took::Copy => self.bulk = false,
            Took::End => self.stage = Stage::Ending,
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the sink what is in the pipe.
    fn give(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Raw,
        count: &AtomicU64,
    ) -> Poll<Result<(), Broke>> {
        while self.spliced.held() > 0 {
            let Some(to) = sink.raw() else { break };
            let given = self.spliced.poll_give(cx, to);
            sink.passed_by(cx, given.is_pending()).map_err(Broke::Sink)?;
            match ready!(given).map_err(Broke::Sink)? {
                Gave::Bytes(given) => {
                    count.fetch_add(given as u64, Ordering::Relaxed);
                    self.moved += 1;
                }
                Gave::Back(rest) => (self.rest, self.at, self.bulk) = (rest, 0, false),
            }
        }
        if !self.bulk {
            self.spliced.rest();
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, and writes what the sink takes of it.
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
        count: &AtomicU64,
    ) -> Poll<Result<(), Broke>> {
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        if Pin::new(source).poll_read(cx, &mut chunk).map_err(Broke::Source)?.is_pending() {
            ready!(flush(cx, sink, &mut self.unflushed))?;
            return Poll::Pending;
        }
        let read = chunk.filled();
        if read.is_empty() {
            self.stage = Stage::Ending;
            return Poll::Ready(Ok(()));
        }
        self.moved += 1;
        self.bulk = read.len() == CHUNK;
        let taken = match Pin::new(sink).poll_write(cx, read) {
            Poll::Ready(taken) => self.took(taken, count)?,
            Poll::Pending => 0,
        };
        if let Some(rest @ [_, ..]) = read.get(taken..) {
            (self.rest, self.at) = (rest.to_vec(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what an earlier step has left, and gives its room back.
    fn write_rest(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut (impl AsyncWrite + Unpin),
        count: &AtomicU64,
    ) -> Poll<Result<(), Broke>> {
        while let Some(rest @ [_, ..]) = self.rest.get(self.at..) {
            let taken = ready!(Pin::new(&mut *sink).poll_write(cx, rest));
            self.at += self.took(taken, count)?;
        }
        if self.at > 0 {
            (self.rest, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, written: io::Result<usize>, count: &AtomicU64) -> Result<usize, Broke> {
        let taken = match written {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        };
        let taken = taken.map_err(Broke::Sink)?;
        count.fetch_add(taken as u64, Ordering::Relaxed);
        (self.unflushed, self.moved) = (true, self.moved + 1);
        Ok(taken)
    }
}

impl Broke {
    fn ended(self, source: fn(io::Error) -> Ended, sink: fn(io::Error) -> Ended) -> Ended {
        match self {
            Self::Source(error) => source(error),
            Self::Sink(error) => sink(error),
        }
    }
}

/// Ready when nothing has moved for `limit`.
struct Idle {
    limit: Option<Duration>,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, last: Instant::now(), timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        if moved {
            self.last = Instant::now();
        }
        // Set anew when it fires and not with every byte: setting takes the lock of all timers.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(self.last + limit)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= self.last + limit {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.last + limit);
        }
        Poll::Pending
    }
}

#[cfg(test)]
pub(super) mod tests;
