//! HTTP/1.1 between two requests. A connection that has been quiet for a while is taken apart: hyper's buffers and the
//! room for a request are given back, and what stays is the socket. The next byte puts it together again.
//!
//! A policy may give the head of a request less time, from its first byte on.
//!
//! One lazy timer does for that, for a client that takes too long to ask, and for a backend that takes too long to answer
//! ([`super::overtime`]): others are made anew for each request.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1::{Builder, Parts};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tidegate_policy::call::Limit;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::on_call::OnCall;
use super::overtime::Look;
use super::server::{ConnectionContext, answer};
use crate::listener::Rewound;

/// How long a client may take from the end of an answer to the end of its next head, give or take [`REST_AFTER`]: for
/// a slow head, and for an idle connection.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection is looked at this often, and comes to rest if nothing was asked since the last time.
pub(crate) const REST_AFTER: Duration = Duration::from_secs(3);
/// Of the bytes that wake a connection, read before it is put together again.
const FIRST_READ: usize = 1024;

/// What hyper reads from: a stream, after what was read of it already. Knows whether anything waits to be written.
#[derive(Debug)]
pub(super) struct Resumed<S> {
    start: Bytes,
    stream: S,
    unflushed: Arc<AtomicBool>,
    heard: Arc<Heard>,
}

/// When a client has begun to say something that nobody has made sense of yet.
#[derive(Debug, Default)]
struct Heard(Mutex<Option<Instant>>);

/// How patient we are with a client that asks nothing.
struct Patience {
    /// Requests when the timer was set.
    seen: u32,
    /// When the client was last known to have been answered.
    since: Instant,
    timer: OnCall<Sleep>,
    /// For the head of a request, where a policy says so.
    head_limit: Option<Limit>,
    /// Requests when a head was last awaited.
    awaited: u32,
}

/// What comes next for a connection.
enum Next {
    Over(hyper::Result<()>),
    Drain,
    /// It has been quiet.
    Rest,
    /// For too long.
    Close,
}

/// Serves requests on `stream` until it ends; once `drain` has come, no longer than its requests in flight last.
///
/// # Errors
/// The connection broke.
pub(super) async fn serve<S>(
    builder: &Builder,
    stream: S,
    context: &Arc<ConnectionContext>,
    drain: &CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let heard = Arc::<Heard>::default();
    let mut stream = Resumed { start: Bytes::new(), stream, unflushed: Arc::default(), heard: heard.clone() };
    let mut patience = Patience::new(context);
    loop {
        let unflushed = stream.unflushed.clone();
        let ours = context.clone();
        let service = service_fn(move |request| answer(ours.clone(), request));
        // Boxed, so that it is gone while the connection rests.
        let mut connection =
            Box::new(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
        loop {
            match watch(&mut *connection, context, drain, (&mut patience, &heard)).await {
                Next::Over(ended) => return ended,
                Next::Close => return Ok(()),
                Next::Drain => {
                    let ended = context.last_requests(&mut *connection).await;
                    if let Some(ended) = ended {
                        return ended;
                    }
                    Pin::new(&mut *connection).graceful_shutdown();
                    return connection.await;
                }
                Next::Rest if context.is_settled() && !unflushed.load(Ordering::Relaxed) => break,
                Next::Rest => {}
            }
        }
        let Some(Parts { io, read_buf, .. }) = connection.into_parts() else { return Ok(()) };
        stream = Resumed { start: read_buf, ..io.into_inner() };
        if stream.start.is_empty() && !stream.rest(&mut patience, drain).await {
            return Ok(());
        }
    }
}

async fn watch(
    mut connection: impl Future<Output = hyper::Result<()>> + Unpin,
    context: &ConnectionContext,
    drain: &CancellationToken,
    (patience, heard): (&mut Patience, &Heard),
) -> Next {
    let mut drained = OnCall::new(drain.cancelled());
    poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Next::Over(ended));
        }
        if drained.poll(cx).is_ready() {
            return Poll::Ready(Next::Drain);
        }
        if patience.is_late(context, heard) {
            return Poll::Ready(Next::Close);
        }
        patience.poll(cx, context)
    })
    .await
}

impl Patience {
    fn new(context: &ConnectionContext) -> Self {
        let now = Instant::now();
        let timer = OnCall::new(sleep_until(now + REST_AFTER));
        let seen = context.resets.requests();
        Self { seen, since: now, timer, head_limit: context.head_limit(), awaited: seen }
    }

    /// Whether a head has had its time. Told in the name of who says so.
    fn is_late(&mut self, context: &ConnectionContext, heard: &Heard) -> bool {
        let Some(limit) = &self.head_limit else { return false };
        let seen = context.resets.requests();
        if seen != self.awaited || !context.is_settled() {
            self.awaited = seen;
            heard.forget();
            return false;
        }
        let Some(over) = heard.since().map(|since| since + limit.after) else { return false };
        if Instant::now() >= over {
            context.tell_late(limit);
            return true;
        }
        if self.timer.itself().deadline() > over {
            self.timer.itself().reset(over);
        }
        false
    }

    /// Ready when nothing was asked since the last look.
    fn poll(&mut self, cx: &mut Context<'_>, context: &ConnectionContext) -> Poll<Next> {
        loop {
            ready!(self.timer.poll(cx));
            let (now, seen) = (Instant::now(), context.resets.requests());
            let mut next = now + REST_AFTER;
            match context.overtime.look(now) {
                None => {}
                Some(Look::At(deadline)) => next = next.min(deadline),
                Some(Look::Over) => cx.waker().wake_by_ref(),
            }
            self.timer.itself().reset(next);
            if seen != self.seen || !context.is_settled() {
                (self.seen, self.since) = (seen, now);
                continue;
            }
            let over = now >= self.since + HEADER_TIMEOUT;
            return Poll::Ready(if over { Next::Close } else { Next::Rest });
        }
    }
}

impl Heard {
    /// Only the first time counts.
    fn now(&self, anything: bool) {
        if anything {
            self.0.lock().get_or_insert_with(Instant::now);
        }
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock()
    }

    fn forget(&self) {
        *self.0.lock() = None;
    }
}

impl<S> Resumed<S> {
    /// The stream for somebody else, who begins with what hyper has `read` of it.
    pub(super) fn rewound(self, read: &[u8]) -> Rewound<S> {
        Rewound::new([read, &self.start].concat(), self.stream)
    }
}

impl<S: AsyncRead + Unpin> Resumed<S> {
    /// Waits for the client or the drain. Whether there is anything to be served then.
    async fn rest(&mut self, patience: &mut Patience, drain: &CancellationToken) -> bool {
        patience.timer.itself().reset(patience.since + HEADER_TIMEOUT);
        let mut drained = pin!(drain.cancelled());
        let woken = poll_fn(|cx| {
            if let Poll::Ready(read) = self.poll_start(cx) {
                return Poll::Ready(read);
            }
            if drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            patience.timer.itself().poll(cx).map(|()| false)
        });
        let woken = woken.await;
        patience.timer.itself().reset(Instant::now() + REST_AFTER);
        woken
    }

    /// Reads what a client begins with, onto the stack: who rests has no buffer. Whether anything came.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut room = [MaybeUninit::uninit(); FIRST_READ];
        let mut read = ReadBuf::uninit(&mut room);
        let polled = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read));
        self.start = Bytes::copy_from_slice(read.filled());
        self.heard.now(!self.start.is_empty());
        Poll::Ready(polled.is_ok() && !self.start.is_empty())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Resumed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start.is_empty() {
            let before = buffer.filled().len();
            let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
            this.heard.now(buffer.filled().len() > before);
            return polled;
        }
        let read = this.start.split_to(this.start.len().min(buffer.remaining()));
        buffer.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Resumed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.unflushed.store(true, Ordering::Relaxed);
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        this.unflushed.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
