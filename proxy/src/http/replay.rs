//! A request body that can be sent from its beginning again, as long as no more than a bound of it has passed.
//!
//! What passes is copied, never waited for: the first attempt streams as it would without a retry. Past the bound
//! the copy is dropped, and with it the chance of another attempt.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::body::{UploadError, Uploading};

/// The attempt loop's handle. Dropped, nothing more is kept, and the last body goes on alone.
#[derive(Debug)]
pub(crate) struct Replay(Arc<Mutex<Kept>>);

/// The body of one attempt.
#[derive(Debug)]
pub(super) struct Replayed {
    kept: Arc<Mutex<Kept>>,
    /// Which attempt this is; only the latest may read.
    number: u32,
    /// How much of the copy has been sent.
    position: usize,
    trailers_sent: bool,
}

#[derive(Debug)]
struct Kept {
    source: Uploading,
    /// The most that is kept, in bytes.
    limit: usize,
    /// Everything read from the source so far, unless `gone`.
    copy: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// The beginning is lost.
    gone: bool,
    /// Nobody will ask for the beginning again.
    last: bool,
    latest: u32,
}

impl Replay {
    pub(super) fn of(source: Uploading, limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Kept {
            source,
            limit,
            copy: BytesMut::new(),
            trailers: None,
            ended: false,
            gone: false,
            last: false,
            latest: 0,
        })))
    }

    pub(crate) fn is_whole(&self) -> bool {
        !self.0.lock().gone
    }

    /// Whether all of it has come and is kept: it can be sent twice at once.
    pub(crate) fn is_complete(&self) -> bool {
        let kept = self.0.lock();
        !kept.gone && kept.has_come()
    }

    /// The body from its beginning. Earlier ones break off, unless all of it has come; `None` if the beginning is lost.
    pub(super) fn again(&self) -> Option<Replayed> {
        let mut kept = self.0.lock();
        if kept.gone {
            return None;
        }
        kept.latest += 1;
        if !kept.ended && !kept.source.is_end_stream() {
            kept.source.reopen();
        }
        Some(Replayed { kept: self.0.clone(), number: kept.latest, position: 0, trailers_sent: false })
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.0.lock().last = true;
    }
}

impl Kept {
    fn has_come(&self) -> bool {
        self.ended || self.source.is_end_stream()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let polled = Pin::new(&mut self.source).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.keep(frame),
            Poll::Ready(Some(Err(_))) => self.gone = true,
            Poll::Ready(None) => self.ended = true,
            Poll::Pending => {}
        }
        polled
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.gone |= self.last || self.copy.len() + data.len() > self.limit;
            if self.gone {
                self.copy = BytesMut::new();
            } else {
                self.copy.extend_from_slice(data);
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.ended = true;
        }
    }
}

impl Body for Replayed {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = self.get_mut();
        let mut kept = this.kept.lock();
        if kept.latest != this.number && !kept.has_come() {
            return Poll::Ready(Some(Err(UploadError::TakenOver)));
        }
        if let Some(rest) = kept.copy.get(this.position..).filter(|rest| !rest.is_empty()) {
            this.position = kept.copy.len();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::copy_from_slice(rest)))));
        }
        if kept.ended {
            let trailers = kept.trailers.clone().filter(|_| !this.trailers_sent);
            this.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = kept.poll(cx);
        this.position = kept.copy.len();
        this.trailers_sent = kept.ended;
        polled
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.lock();
        let sent = self.position >= kept.copy.len();
        let ended = kept.ended || kept.source.is_end_stream();
        sent && ended && (self.trailers_sent || kept.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.lock();
        let copied = u64::try_from(kept.copy.len().saturating_sub(self.position)).unwrap_or(u64::MAX);
        let source = kept.source.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = source.upper() {
            hint.set_upper(upper.saturating_add(copied));
        }
        hint.set_lower(source.lower().saturating_add(copied));
        hint
    }
}

impl Drop for Replayed {
    fn drop(&mut self) {
        let kept = self.kept.lock();
        // The timeout of an attempt must not wait for a body that nobody reads any more.
        if kept.latest == self.number {
            kept.source.give_up();
        }
    }
}
