//! A bounded copy of a request body, taken while the body passes. It never makes the body wait: what does not fit is
//! given up, and the body goes on.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

/// The largest body that is copied.
pub(crate) const MAX_COPY: usize = 64 * 1024;

/// Takes the copy. Dropped before [`Tee::finish`], the body broke off.
#[derive(Debug)]
pub(super) struct Tee {
    copy: BodyCopy,
    taken: BytesMut,
    /// Empty once the body has become too large.
    end: Option<oneshot::Sender<Result<BodyCopy, NoCopy>>>,
}

/// Where the copy arrives.
#[derive(Debug)]
pub(crate) struct TeeEnd(oneshot::Receiver<Result<BodyCopy, NoCopy>>);

/// A whole body.
#[derive(Clone, Debug, Default)]
pub(crate) struct BodyCopy {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

/// Why there is no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCopy {
    TooLarge,
    BrokenOff,
}

impl Tee {
    pub(super) fn new() -> (Self, TeeEnd) {
        let (sender, receiver) = oneshot::channel();
        let tee = Self { copy: BodyCopy::default(), taken: BytesMut::new(), end: Some(sender) };
        (tee, TeeEnd(receiver))
    }

    pub(super) fn pass(&mut self, frame: &Frame<Bytes>) {
        if self.end.is_none() {
            return;
        }
        if let Some(data) = frame.data_ref() {
            if self.taken.len() + data.len() > MAX_COPY {
                self.taken = BytesMut::new();
                self.end(Err(NoCopy::TooLarge));
                return;
            }
            // Copied, because a slice would keep the whole buffer of its connection alive.
            self.taken.extend_from_slice(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.copy.trailers = Some(trailers.clone());
        }
    }

    pub(super) fn finish(mut self) {
        let data = std::mem::take(&mut self.taken).freeze();
        let copy = BodyCopy { data, ..std::mem::take(&mut self.copy) };
        self.end(Ok(copy));
    }

    fn end(&mut self, result: Result<BodyCopy, NoCopy>) {
        if let Some(end) = self.end.take() {
            // Nobody may want it any more.
            let _ = end.send(result);
        }
    }
}

impl TeeEnd {
    pub(crate) async fn copy(self) -> Result<BodyCopy, NoCopy> {
        self.0.await.unwrap_or(Err(NoCopy::BrokenOff))
    }
}

impl BodyCopy {
    pub(super) fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        if !self.data.is_empty() {
            return Some(Frame::data(std::mem::take(&mut self.data)));
        }
        self.trailers.take().map(Frame::trailers)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let length = self.data.len() as u64;
        if self.trailers.is_none() {
            return SizeHint::with_exact(length);
        }
        // An exact length would make HTTP/1.1 leave the trailers out.
        let mut hint = SizeHint::new();
        hint.set_lower(length);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(frames: &[Frame<Bytes>]) -> TeeEnd {
        let (mut tee, end) = Tee::new();
        frames.iter().for_each(|frame| tee.pass(frame));
        tee.finish();
        end
    }

    #[tokio::test]
    async fn a_copy_is_the_whole_body_with_its_trailers() {
        let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
        let end = passed(&[data("ab"), data("c"), Frame::trailers(trailers)]);
        let mut copy = end.copy().await.unwrap();
        assert_eq!(copy.next_frame().unwrap().into_data().unwrap(), "abc");
        assert_eq!(copy.next_frame().unwrap().into_trailers().unwrap()["x-sum"], "1");
        assert!(copy.next_frame().is_none() && copy.is_spent());
    }

    #[tokio::test]
    async fn a_body_beyond_the_bound_is_not_kept_and_one_at_the_bound_is() {
        let of = |size: usize| vec![Frame::data(Bytes::from(vec![0; size])), Frame::data(Bytes::new())];
        assert_eq!(passed(&of(MAX_COPY)).copy().await.unwrap().data.len(), MAX_COPY);
        assert_eq!(passed(&of(MAX_COPY + 1)).copy().await.unwrap_err(), NoCopy::TooLarge);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_has_no_copy() {
        let (mut tee, end) = Tee::new();
        tee.pass(&Frame::data(Bytes::from_static(b"a")));
        drop(tee);
        assert_eq!(end.copy().await.unwrap_err(), NoCopy::BrokenOff);
    }
}
