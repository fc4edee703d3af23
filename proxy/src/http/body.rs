//! Bodies on their way through, frame by frame and never buffered: what passes is counted, and the end is noticed.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tidegate_policy::Reason;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::record::Record;
use super::replay::{Replay, Replayed};
use super::reply::grpc_status;
use super::tee::{BodyCopy, Tee, TeeEnd};
use crate::upstream::OpenCall;

/// A request body going upstream.
#[derive(Debug)]
pub(crate) struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Once(Uploading),
    /// One attempt's reading of a body that is kept for others.
    Replayed(Replayed),
    /// A body that has passed already.
    Copy(BodyCopy),
}

/// A client's body.
#[derive(Debug)]
pub(super) struct Uploading {
    inner: Incoming,
    progress: Arc<Upload>,
    tee: Option<Tee>,
}

/// How far a request body has got. Shared by the body, the request's timeout and its record.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    bytes: AtomicU64,
    ended: AtomicBool,
    end: Notify,
    /// Another attempt reads on.
    reopened: Notify,
    /// It was read to its end.
    whole: AtomicBool,
    /// It broke off because of what the client sent, not because it left.
    malformed: AtomicBool,
    /// We have asked the client for more, and nothing has come yet.
    waiting: AtomicBool,
}

/// Why a request body breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the client broke off: {0}")]
    Client(#[from] hyper::Error),
    #[error("another attempt has taken over")]
    TakenOver,
}

/// A response body going downstream; it holds what must last exactly as long as the response.
pub(crate) struct ResponseBody {
    source: Source,
    record: Record,
    /// As the head announced: a client that has all of it may stop reading before we see the end.
    announced: Option<u64>,
    /// When the rule's timeouts end the response, whole or not.
    deadline: Option<Pin<Box<Sleep>>>,
    stall: Stall,
}

/// Notices a backend that stops in the middle of its answer.
#[derive(Default)]
struct Stall {
    /// `None`: it may.
    limit: Option<Duration>,
    /// Runs while nothing comes; made when it is first needed.
    timer: Option<Pin<Box<Sleep>>>,
    /// Something has come since the timer was set.
    moved: bool,
}

/// Why an answer is cut short.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the endpoint broke off: {0}")]
    Upstream(#[from] hyper::Error),
    #[error("the endpoint stopped sending")]
    Stalled,
    #[error("the answer was not whole in time")]
    Late,
}

enum Source {
    Local(Bytes),
    Upstream {
        body: Incoming,
        call: Box<OpenCall>,
    },
    /// Over: everything was given back.
    Done,
}

impl RequestBody {
    pub(crate) const EMPTY: Self = Self(Kind::Empty);

    pub(crate) fn new(inner: Incoming) -> Self {
        if inner.is_end_stream() {
            return Self::EMPTY;
        }
        Self(Kind::Once(Uploading { inner, progress: Arc::default(), tee: None }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    /// A body that has passed already.
    pub(crate) fn copied(copy: BodyCopy) -> Self {
        Self(Kind::Copy(copy))
    }

    /// `None` for a request without a body of its client.
    pub(crate) fn upload(&self) -> Option<&Arc<Upload>> {
        match &self.0 {
            Kind::Once(uploading) => Some(&uploading.progress),
            Kind::Empty | Kind::Replayed(_) | Kind::Copy(_) => None,
        }
    }

    /// Copies what will pass; `None` where there is nothing to pass.
    pub(crate) fn tee(&mut self) -> Option<TeeEnd> {
        let Kind::Once(uploading) = &mut self.0 else { return None };
        let (tee, end) = Tee::new();
        uploading.tee = Some(tee);
        Some(end)
    }

    /// Keeps what passes from now on, for another attempt; `None` for a request without a client's body.
    pub(crate) fn kept(self) -> Option<Replay> {
        match self.0 {
            Kind::Once(uploading) => Some(Replay::of(uploading)),
            Kind::Empty | Kind::Replayed(_) | Kind::Copy(_) => None,
        }
    }

    /// The body once more; `None` if its beginning is lost.
    pub(crate) fn again(replay: &Replay) -> Option<Self> {
        replay.again().map(|replayed| Self(Kind::Replayed(replayed)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut self.get_mut().0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Once(uploading) => Pin::new(uploading).poll_frame(cx),
            Kind::Replayed(replayed) => Pin::new(replayed).poll_frame(cx),
            Kind::Copy(copy) => Poll::Ready(copy.next_frame().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Once(uploading) => uploading.is_end_stream(),
            Kind::Replayed(replayed) => replayed.is_end_stream(),
            Kind::Copy(copy) => copy.is_spent(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Once(uploading) => uploading.size_hint(),
            Kind::Replayed(replayed) => replayed.size_hint(),
            Kind::Copy(copy) => copy.size_hint(),
        }
    }
}

impl Uploading {
    /// Another attempt reads on.
    pub(super) fn reopen(&self) {
        self.progress.reopen();
    }

    /// Nobody reads on, for now.
    pub(super) fn give_up(&self) {
        self.progress.finish();
    }
}

impl Body for Uploading {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Self { inner, progress, tee } = self.get_mut();
        let polled = Pin::new(&mut *inner).poll_frame(cx);
        let mut ended = false;
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    progress.count(data.len());
                }
                if let Some(tee) = tee {
                    tee.pass(frame);
                }
                ended = inner.is_end_stream();
            }
            Poll::Ready(Some(Err(error))) => {
                progress.malformed.store(is_malformed(error), Ordering::Release);
                progress.finish();
            }
            Poll::Ready(None) => ended = true,
            Poll::Pending => {}
        }
        if ended {
            progress.finish_whole();
            if let Some(tee) = tee.take() {
                tee.finish();
            }
        }
        progress.waiting.store(polled.is_pending(), Ordering::Relaxed);
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// hyper reports a chunk that cannot be parsed as invalid input of the connection.
fn is_malformed(error: &hyper::Error) -> bool {
    let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|e| matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

impl Drop for Uploading {
    fn drop(&mut self) {
        // Whoever waits for the end of the upload must not wait for a body that nobody reads any more.
        self.progress.finish();
    }
}

impl Upload {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the body broke off.
    pub(crate) fn failure(&self) -> Reason {
        if self.malformed.load(Ordering::Acquire) { Reason::BadRequest } else { Reason::ClientGone }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns once the body has been read to its end, or given up.
    ///
    /// # Errors
    /// It stood still for `limit`; and whose fault that is.
    pub(crate) async fn ended(&self, limit: Option<Duration>) -> Result<(), Reason> {
        loop {
            let (end, before) = (self.end.notified(), self.bytes());
            if self.ended.load(Ordering::Acquire) {
                return Ok(());
            }
            let Some(limit) = limit else {
                end.await;
                return Ok(());
            };
            if tokio::time::timeout(limit, end).await.is_ok() {
                return Ok(());
            }
            if self.bytes() == before {
                let waiting = self.waiting.load(Ordering::Relaxed);
                return Err(if waiting { Reason::ClientStalled } else { Reason::RequestTimeout });
            }
        }
    }

    /// Returns once the end is `limit` ago, with nobody reading on since.
    pub(crate) async fn ended_for(&self, limit: Duration) {
        loop {
            // Without a limit it cannot stall.
            let _ = self.ended(None).await;
            let reopened = self.reopened.notified();
            if !self.ended.load(Ordering::Acquire) {
                continue;
            }
            if tokio::time::timeout(limit, reopened).await.is_err() {
                return;
            }
        }
    }

    fn reopen(&self) {
        // What the attempt before waited for says nothing of this one.
        self.waiting.store(false, Ordering::Relaxed);
        self.ended.store(false, Ordering::Release);
        self.reopened.notify_waiters();
    }

    fn finish_whole(&self) {
        self.whole.store(true, Ordering::Relaxed);
        self.finish();
    }

    fn finish(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            self.end.notify_waiters();
        }
    }
}

impl ResponseBody {
    /// Our own answer.
    pub(crate) fn local(body: Bytes, record: Record) -> Self {
        let announced = Some(body.len() as u64);
        Self::of(Source::Local(body), announced, record).completed_if_ended()
    }

    /// A backend's answer. `announced` is its content-length; without a byte for `stall_timeout`, it is cut short.
    pub(crate) fn upstream(
        body: Incoming,
        call: Box<OpenCall>,
        announced: Option<u64>,
        stall_timeout: Option<Duration>,
        record: Record,
    ) -> Self {
        let deadline = call.deadline.filter(|_| !body.is_end_stream());
        let mut this = Self::of(Source::Upstream { body, call }, announced, record);
        this.deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        this.stall = Stall { limit: stall_timeout, timer: None, moved: true };
        this.completed_if_ended()
    }

    /// The head is all there is, and its record is kept elsewhere.
    pub(crate) fn head_only() -> Self {
        Self::of(Source::Done, None, Record::spent())
    }

    fn of(source: Source, announced: Option<u64>, record: Record) -> Self {
        Self { source, record, announced, deadline: None, stall: Stall::default() }
    }

    fn completed_if_ended(mut self) -> Self {
        if self.is_end_stream() {
            self.complete();
        }
        self
    }

    /// The whole answer has passed.
    fn complete(&mut self) {
        if let Source::Upstream { call, .. } = std::mem::replace(&mut self.source, Source::Done) {
            call.complete();
        }
        self.record.complete();
    }

    fn fail(&mut self, reason: Reason) {
        if let Source::Upstream { call, .. } = std::mem::replace(&mut self.source, Source::Done) {
            call.fail(reason);
        }
        self.record.reason = Some(reason);
        self.record.complete();
    }

    fn passed(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.record.bytes_out += data.len() as u64;
        } else if let Some(status) = frame.trailers_ref().and_then(grpc_status) {
            self.record.grpc_status = Some(status);
            if let Source::Upstream { call, .. } = &mut self.source {
                call.trailers(status);
            }
        }
    }
}

impl Stall {
    /// Nothing has come.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        if std::mem::take(&mut self.moved) {
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Done => return Poll::Ready(None),
            Source::Local(body) if body.is_empty() => Poll::Ready(None),
            Source::Local(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Source::Upstream { body, .. } => Pin::new(body).poll_frame(cx).map_err(BodyError::from),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.stall.moved = true;
                this.passed(frame);
                if this.is_end_stream() {
                    this.complete();
                }
            }
            Poll::Ready(None) => this.complete(),
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "response cut short");
                this.fail(Reason::UpstreamReset);
            }
            Poll::Pending => {}
        }
        if !this.is_end_stream() && this.deadline.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            this.fail(Reason::RequestTimeout);
            return Poll::Ready(Some(Err(BodyError::Late)));
        }
        if polled.is_pending() {
            ready!(this.stall.poll(cx));
            this.fail(Reason::RequestTimeout);
            return Poll::Ready(Some(Err(BodyError::Stalled)));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Local(body) => body.is_empty(),
            Source::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Local(body) => SizeHint::with_exact(body.len() as u64),
            Source::Upstream { body, .. } => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if self.announced.is_some_and(|length| self.record.bytes_out >= length) {
            self.complete();
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Local(_) => "local",
            Source::Upstream { .. } => "upstream",
            Source::Done => "done",
        };
        f.debug_struct("ResponseBody").field("source", &source).field("record", &self.record).finish()
    }
}
