//! The same where plugins have a word on the bytes: these pass through memory, and through the plugins.
//!
//! Bytes are pulled only when the sink has taken those before, so a side that does not read holds up the other one. What is kept
//! is one chunk, what a plugin has made of it, and what plugins hold back, which is bounded by their budgets.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tidegate_wasm::{ClosedBy, Direction};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Broke, CHUNK, Ended, Idle, Passed, Relay, Stage, TURN, end, flush};
use crate::plugins::{Chain, Polled, Stop};

/// How long a connection that a plugin has closed may take for what was passed on before.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// One direction.
struct Flow {
    direction: Direction,
    /// Passed the plugins, and not yet written.
    rest: Bytes,
    unflushed: bool,
    stage: Stage,
    moved: u64,
}

/// Why a direction went no further.
enum Halt {
    Broke(Broke),
    Cut(tidegate_policy::pipeline::Cut),
}

impl Relay {
    /// As [`Relay::run`], through `chain`; it is told of the end.
    pub(crate) async fn run_plugged<D, U>(
        &self,
        chain: &mut Chain,
        (downstream, upstream): (&mut D, &mut U),
        passed: &Passed,
    ) -> Ended
    where
        D: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut up, mut down) = (Flow::new(Direction::Request), Flow::new(Direction::Response));
        let mut idle = Idle::new(self.idle_timeout);
        let mut client_last = false;
        let copying = poll_fn(|cx| {
            if let Poll::Ready(cut) = chain.poll_end(cx) {
                return Poll::Ready(Ended::Cut(cut));
            }
            let before = (up.moved, down.moved);
            let open = up.stage != Stage::Over;
            let upwards = up.poll(cx, chain, (downstream, upstream), &passed.received);
            client_last |= open && up.stage == Stage::Over && down.stage == Stage::Over;
            let downwards = down.poll(cx, chain, (upstream, downstream), &passed.sent);
            let ended = match (upwards, downwards) {
                (Poll::Ready(Err(halt)), _) => halt.ended(Ended::Downstream, Ended::Upstream),
                (_, Poll::Ready(Err(halt))) => halt.ended(Ended::Upstream, Ended::Downstream),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Ended::Closed,
                _ => return idle.poll(cx, before != (up.moved, down.moved)).map(|()| Ended::Idle),
            };
            Poll::Ready(ended)
        });
        let ended = tokio::select! {
            biased;
            ended = copying => ended,
            () = self.drained() => Ended::Drained,
        };
        if matches!(&ended, Ended::Cut(cut) if !cut.reset) {
            let last = poll_fn(|cx| {
                let both =
                    (up.finish(cx, upstream, &passed.received), down.finish(cx, downstream, &passed.sent));
                if both.0.is_ready() && both.1.is_ready() { Poll::Ready(()) } else { Poll::Pending }
            });
            let _ = tokio::time::timeout(LAST_BYTES, last).await;
        }
        chain.finish(match &ended {
            // Where both halves have ended, by whoever was the last: so does Envoy tell it.
            Ended::Closed if client_last => ClosedBy::Remote,
            Ended::Downstream(_) => ClosedBy::Remote,
            _ => ClosedBy::Local,
        });
        ended
    }
}

impl Flow {
    fn new(direction: Direction) -> Self {
        Self { direction, rest: Bytes::new(), unflushed: false, stage: Stage::default(), moved: 0 }
    }

    /// Ready once the source has ended, what came of it has passed, and the sink was told so.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        chain: &mut Chain,
        (source, sink): (&mut (impl AsyncRead + Unpin), &mut (impl AsyncWrite + Unpin)),
        count: &AtomicU64,
    ) -> Poll<Result<(), Halt>> {
        for _ in 0..TURN {
            match self.stage {
                Stage::Copying => {
                    ready!(self.write(cx, sink, count))?;
                    let mut moved = false;
                    let next = chain.poll(self.direction, cx, &mut |cx| {
                        let read = read(cx, source);
                        moved |= matches!(&read, Poll::Ready(Ok(Some(_))));
                        read
                    });
                    self.moved += u64::from(moved);
                    match next {
                        Poll::Ready(Ok(Some(bytes))) => self.rest = bytes,
                        Poll::Ready(Ok(None)) => self.stage = Stage::Ending,
                        Poll::Ready(Err(stop)) => return Poll::Ready(Err(stop.into())),
                        Poll::Pending => {
                            ready!(flush(cx, sink, &mut self.unflushed))?;
                            return Poll::Pending;
                        }
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

    /// Writes what has passed the plugins already, and ends the sink; whatever goes wrong is the end as well.
    fn finish(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut (impl AsyncWrite + Unpin),
        count: &AtomicU64,
    ) -> Poll<()> {
        if self.stage != Stage::Over && ready!(self.write(cx, sink, count)).is_ok() {
            let _ = ready!(Pin::new(sink).poll_shutdown(cx));
        }
        self.stage = Stage::Over;
        Poll::Ready(())
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut (impl AsyncWrite + Unpin),
        count: &AtomicU64,
    ) -> Poll<Result<(), Broke>> {
        while !self.rest.is_empty() {
            let taken = ready!(Pin::new(&mut *sink).poll_write(cx, &self.rest)).map_err(Broke::Sink)?;
            if taken == 0 {
                return Poll::Ready(Err(Broke::Sink(std::io::ErrorKind::WriteZero.into())));
            }
            self.rest.advance(taken);
            count.fetch_add(taken as u64, Ordering::Relaxed);
            (self.unflushed, self.moved) = (true, self.moved + 1);
        }
        // What was written may be a view into something large.
        self.rest = Bytes::new();
        Poll::Ready(Ok(()))
    }
}

fn read(cx: &mut Context<'_>, source: &mut (impl AsyncRead + Unpin)) -> Polled {
    let mut chunk = [MaybeUninit::uninit(); CHUNK];
    let mut chunk = ReadBuf::uninit(&mut chunk);
    ready!(Pin::new(source).poll_read(cx, &mut chunk)).map_err(Stop::Source)?;
    let read = chunk.filled();
    Poll::Ready(Ok((!read.is_empty()).then(|| Bytes::copy_from_slice(read))))
}

impl Halt {
    fn ended(self, source: fn(std::io::Error) -> Ended, sink: fn(std::io::Error) -> Ended) -> Ended {
        match self {
            Self::Broke(broke) => broke.ended(source, sink),
            Self::Cut(cut) => Ended::Cut(cut),
        }
    }
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Source(error) => Self::Broke(Broke::Source(error)),
            Stop::Cut(cut) => Self::Cut(cut),
        }
    }
}

impl From<Broke> for Halt {
    fn from(broke: Broke) -> Self {
        Self::Broke(broke)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::tcp::Pipes;

    const ROOM: usize = 1024;

    fn relay() -> Relay {
        Relay {
            idle_timeout: None,
            drain: CancellationToken::new(),
            drain_timeout: Duration::ZERO,
            pipes: Pipes::of_this_process(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_holds_up_its_backend_and_gets_all_of_it_in_the_end() {
        let (mut client, mut near) = duplex(ROOM);
        let (mut far, mut server) = duplex(ROOM);
        let (passed, mut chain, relay) = (Passed::default(), Chain::of_nobody(), relay());
        let running = relay.run_plugged(&mut chain, (&mut near, &mut far), &passed);
        let mut sent = 0;
        let talk = async {
            // Time passes only when nothing moves any more.
            while let Ok(written) =
                tokio::time::timeout(Duration::from_secs(1), server.write(&[7; ROOM])).await
            {
                sent += written.unwrap();
            }
            assert!(sent <= 2 * ROOM + CHUNK, "{sent} bytes are on their way");
            server.shutdown().await.unwrap();
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard.len(), sent);
            client.shutdown().await.unwrap();
        };
        let (ended, ()) = tokio::join!(running, talk);
        assert!(matches!(ended, Ended::Closed));
        assert_eq!(passed.sent(), sent as u64);
    }
}
