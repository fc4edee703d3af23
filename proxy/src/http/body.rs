//! A request body on its way to the endpoint, frame by frame: what passes is counted, and the end is noticed.

use std::future::poll_fn;
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

use super::grpc_web::{Coding, Malformed, Unpacking};
use super::replay::{Replay, Replayed};
use super::tee::{BodyCopy, Tee, TeeEnd};
use super::trailers;
use crate::http3;
use crate::plugins::{Cut, Piece, Through};

/// A request body going upstream. Small, because it moves through every future of a call: what few bodies have is boxed.
#[derive(Debug)]
pub(crate) struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Once(Uploading),
    /// One attempt's reading of a body that is kept for others.
    Replayed(Box<Replayed>),
    /// A body that has passed already.
    Copy(Box<BodyCopy>),
}

/// What a client sends, by whichever version of HTTP.
#[derive(Debug)]
pub(crate) enum ClientBody {
    Hyper(Incoming),
    Http3(Box<http3::Incoming>),
}

/// A client's body.
#[derive(Debug)]
pub(super) struct Uploading {
    inner: ClientBody,
    progress: Arc<Upload>,
    tee: Option<Box<Tee>>,
    /// What it is on the way to the backend is not what the client sends.
    unpacking: Option<Box<Unpacking>>,
    plugged: Option<Box<Plugged>>,
}

/// A body that plugins have a word on.
#[derive(Debug)]
struct Plugged {
    through: Through,
    /// What came of it before the head was sent.
    ahead: Option<Frame<Bytes>>,
}

/// What is known of a body when the first of it may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// All of it is there: so many bytes.
    Whole(u64),
    /// There is more to come, and nothing has been changed yet.
    Begun,
    /// There is more to come, and its length is not known any more.
    Changed,
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
    #[error("the client sent no gRPC-Web: {0}")]
    GrpcWeb(#[from] Malformed),
    #[error("the client broke off: {0}")]
    Http3(#[from] http3::BodyError),
    #[error("{0}")]
    Plugin(#[from] Cut),
    #[error("another attempt has taken over")]
    TakenOver,
}

impl RequestBody {
    pub(crate) const EMPTY: Self = Self(Kind::Empty);

    pub(crate) fn new(inner: ClientBody) -> Self {
        if inner.is_end_stream() {
            return Self::EMPTY;
        }
        let (tee, unpacking, plugged) = (None, None, None);
        Self(Kind::Once(Uploading { inner, progress: Arc::default(), tee, unpacking, plugged }))
    }

    /// The messages that come as gRPC-Web.
    pub(crate) fn unpacked(mut self, coding: Coding) -> Self {
        if let Kind::Once(uploading) = &mut self.0 {
            uploading.unpacking = Some(Box::new(Unpacking::new(coding)));
        }
        self
    }

    /// What plugins let pass of it.
    pub(crate) fn plugged(mut self, through: Through) -> Self {
        if let Kind::Once(uploading) = &mut self.0 {
            uploading.plugged = Some(Box::new(Plugged { through, ahead: None }));
        }
        self
    }

    /// Waits for the first of it that plugins let pass, so that the head can say how long it is.
    ///
    /// # Errors
    /// It breaks off before.
    pub(crate) async fn ahead(&mut self) -> Result<Option<Ahead>, UploadError> {
        let Kind::Once(uploading) = &mut self.0 else { return Ok(None) };
        let first = poll_fn(|cx| uploading.poll_plugged(cx)).await.transpose()?;
        let Some(plugged) = &mut uploading.plugged else { return Ok(None) };
        let length = first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        // What is not the end is told apart by what comes after; trailers are.
        let whole = plugged.through.is_over();
        plugged.ahead = first;
        Ok(Some(match (whole, plugged.through.is_changed()) {
            (true, _) => Ahead::Whole(length),
            (false, true) => Ahead::Changed,
            (false, false) => Ahead::Begun,
        }))
    }

    /// The head that goes out says so, and what comes must be as much.
    pub(crate) fn promise(&mut self, length: u64) {
        if let Kind::Once(Uploading { plugged: Some(plugged), .. }) = &mut self.0 {
            plugged.through.promise(length);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }

    /// A body that has passed already.
    pub(crate) fn copied(copy: BodyCopy) -> Self {
        Self(Kind::Copy(Box::new(copy)))
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
        uploading.tee = Some(Box::new(tee));
        Some(end)
    }

    /// Keeps what passes from now on, for another attempt; `None` for a request without a client's body.
    /// No more than `limit` bytes.
    pub(crate) fn kept(self, limit: usize) -> Option<Replay> {
        match self.0 {
            Kind::Once(uploading) => Some(Replay::of(uploading, limit)),
            Kind::Empty | Kind::Replayed(_) | Kind::Copy(_) => None,
        }
    }

    /// The body once more; `None` if its beginning is lost.
    pub(crate) fn again(replay: &Replay) -> Option<Self> {
        replay.again().map(|replayed| Self(Kind::Replayed(Box::new(replayed))))
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
            Kind::Replayed(replayed) => Pin::new(&mut **replayed).poll_frame(cx),
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

impl From<Incoming> for ClientBody {
    fn from(body: Incoming) -> Self {
        Self::Hyper(body)
    }
}

impl From<http3::Incoming> for ClientBody {
    fn from(body: http3::Incoming) -> Self {
        Self::Http3(Box::new(body))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(UploadError::from),
            Self::Http3(body) => Pin::new(&mut **body).poll_frame(cx).map_err(UploadError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Http3(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Http3(body) => body.size_hint(),
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

    fn poll_unpacked(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        loop {
            let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
            if let Some(data) = polled.as_ref().and_then(|read| read.as_ref().ok()?.data_ref()) {
                self.progress.count(data.len() as u64);
            }
            let Some(unpacking) = &mut self.unpacking else {
                return Poll::Ready(polled.map(|read| read.map(trailers::checked)));
            };
            let frame = match polled.transpose()? {
                Some(frame) => frame,
                None => return Poll::Ready(unpacking.finish().err().map(|malformed| Err(malformed.into()))),
            };
            // gRPC has no trailers of the client.
            let Ok(data) = frame.into_data() else { continue };
            let data = unpacking.pass(data)?;
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }
}

impl Uploading {
    /// What comes next of what plugins let pass.
    fn poll_plugged(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(mut plugged) = self.plugged.take() else { return self.poll_unpacked(cx) };
        let polled = match plugged.ahead.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => {
                let mut source = |cx: &mut Context<'_>| {
                    let frame = ready!(self.poll_unpacked(cx));
                    let last = self.unpacking.is_none() && self.inner.is_end_stream();
                    Poll::Ready(frame.map(|frame| frame.map(|frame| Piece::of(frame, last))))
                };
                plugged.through.poll(cx, &mut source).map(|piece| piece.map(|piece| piece.map(Piece::frame)))
            }
        };
        self.plugged = Some(plugged);
        polled
    }
}

impl Body for Uploading {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = self.get_mut();
        let polled = this.poll_plugged(cx);
        let mut ended = false;
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(tee) = &mut this.tee {
                    tee.pass(frame);
                }
                ended = this.is_end_stream();
            }
            Poll::Ready(Some(Err(error))) => {
                this.progress.malformed.store(is_malformed(error), Ordering::Release);
                this.progress.finish();
            }
            Poll::Ready(None) => ended = true,
            Poll::Pending => {}
        }
        if ended {
            this.progress.finish_whole();
            if let Some(tee) = this.tee.take() {
                tee.finish();
            }
        }
        this.progress.waiting.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    /// What is unpacked may turn out to be cut short only after its last byte.
    fn is_end_stream(&self) -> bool {
        match &self.plugged {
            None => self.unpacking.is_none() && self.inner.is_end_stream(),
            Some(plugged) => plugged.ahead.is_none() && plugged.through.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.unpacking.is_some() || self.plugged.is_some() {
            return SizeHint::default();
        }
        self.inner.size_hint()
    }
}

fn is_malformed(error: &UploadError) -> bool {
    match error {
        UploadError::Client(error) => is_no_chunk(error),
        UploadError::GrpcWeb(_) => true,
        UploadError::Http3(error) => error.is_malformed(),
        UploadError::Plugin(_) | UploadError::TakenOver => false,
    }
}

/// hyper reports a chunk that cannot be parsed as invalid input of the connection.
fn is_no_chunk(error: &hyper::Error) -> bool {
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

    pub(crate) fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
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
