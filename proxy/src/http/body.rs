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
use tokio::time::{Instant, Sleep, sleep};

use super::record::Record;
use super::reply::grpc_status;
use crate::upstream::OpenCall;

/// A request body going upstream.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<Uploading>);

#[derive(Debug)]
struct Uploading {
    inner: Incoming,
    progress: Arc<Upload>,
}

/// How far a request body has got. Shared by the body, the request's timeout and its record.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    bytes: AtomicU64,
    ended: AtomicBool,
    end: Notify,
    /// It was read to its end.
    whole: AtomicBool,
    /// It broke off because of what the client sent, not because it left.
    malformed: AtomicBool,
    /// We have asked the client for more, and nothing has come yet.
    waiting: AtomicBool,
}

/// A response body going downstream; it holds what must last exactly as long as the response.
pub(crate) struct ResponseBody {
    source: Source,
    record: Record,
    /// As the head announced: a client that has all of it may stop reading before we see the end.
    announced: Option<u64>,
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
    pub(crate) const EMPTY: Self = Self(None);

    pub(crate) fn new(inner: Incoming) -> Self {
        Self((!inner.is_end_stream()).then(|| Uploading { inner, progress: Arc::default() }))
    }

    /// `None` for a request without a body.
    pub(crate) fn upload(&self) -> Option<&Arc<Upload>> {
        self.0.as_ref().map(|uploading| &uploading.progress)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(Uploading { inner, progress }) = &mut self.get_mut().0 else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *inner).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    progress.count(data.len());
                }
                if inner.is_end_stream() {
                    progress.finish_whole();
                }
            }
            Poll::Ready(Some(Err(error))) => {
                progress.malformed.store(is_malformed(error), Ordering::Release);
                progress.finish();
            }
            Poll::Ready(None) => progress.finish_whole(),
            Poll::Pending => {}
        }
        progress.waiting.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|uploading| uploading.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |uploading| uploading.inner.size_hint())
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
        let stall = Stall::default();
        Self { source: Source::Local(body), record, announced, stall }.completed_if_ended()
    }

    /// A backend's answer. `announced` is its content-length; without a byte for `stall_timeout`, it is cut short.
    pub(crate) fn upstream(
        body: Incoming,
        call: Box<OpenCall>,
        announced: Option<u64>,
        stall_timeout: Option<Duration>,
        record: Record,
    ) -> Self {
        let stall = Stall { limit: stall_timeout, timer: None, moved: true };
        Self { source: Source::Upstream { body, call }, record, announced, stall }.completed_if_ended()
    }

    /// The head is all there is, and its record is kept elsewhere.
    pub(crate) fn head_only() -> Self {
        Self { source: Source::Done, record: Record::spent(), announced: None, stall: Stall::default() }
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
            Poll::Pending => {
                ready!(this.stall.poll(cx));
                this.fail(Reason::RequestTimeout);
                return Poll::Ready(Some(Err(BodyError::Stalled)));
            }
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
