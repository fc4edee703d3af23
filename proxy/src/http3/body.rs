//! The body of a request that came by HTTP/3.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use h3::error::{Code, StreamError};
use h3::server::RequestStream;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::frames::{Ahead, FrameError};
use super::quic::RecvStream;

/// How long a request that should have no body may take to say that it has none.
const END: Duration = Duration::from_secs(10);

/// What is still to come of a request.
pub(crate) struct Incoming {
    stream: RequestStream<RecvStream, Bytes>,
    ahead: Arc<Ahead>,
    state: State,
    /// Bytes that are still to come, as the head announced. h3 does not count them, and the next hop would take what
    /// exceeds them for another request (RFC 9114, section 4.1.2).
    left: Option<u64>,
    /// The last bytes, until the stream has ended: who has them may take the body for whole.
    last: Option<Bytes>,
    /// Read already.
    first: Option<Result<Frame<Bytes>, BodyError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Data,
    Trailers,
    Ended,
}

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("{0}")]
    Stream(#[from] StreamError),
    #[error("the body is not as long as its content-length")]
    Length,
}

impl BodyError {
    /// Whether it is because of what the client sent, not because it left.
    pub(crate) fn is_malformed(&self) -> bool {
        match self {
            Self::Length => true,
            Self::Stream(StreamError::StreamError { code, .. }) => *code == Code::H3_MESSAGE_ERROR,
            Self::Stream(StreamError::HeaderTooBig { .. }) => true,
            Self::Stream(StreamError::Undefined { 0: error, .. }) => error.is::<FrameError>(),
            Self::Stream(_) => false,
        }
    }
}

/// What the head says of the length of its body.
///
/// # Errors
/// Not one number.
pub(super) fn announced(headers: &HeaderMap) -> Result<Option<u64>, BodyError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => digits(length).map(Some).ok_or(BodyError::Length),
        (Some(_), Some(_)) => Err(BodyError::Length),
    }
}

fn digits(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

impl Incoming {
    /// Looks whether there is a body at all, which HTTP/3 tells only by the end of the stream; for a request that
    /// `should_end`, waits for that.
    pub(super) async fn begin(
        stream: RequestStream<RecvStream, Bytes>,
        ahead: Arc<Ahead>,
        left: Option<u64>,
        should_end: bool,
    ) -> Self {
        let mut this = Self { stream, ahead, state: State::Data, left, last: None, first: None };
        let limit = if should_end { END } else { Duration::ZERO };
        // The timeout polls first: what has come already is seen without waiting.
        if let Ok(first) = tokio::time::timeout(limit, this.frame()).await {
            this.first = first;
        }
        this
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.state {
                State::Data => match ready!(self.stream.poll_recv_data(cx))? {
                    Some(mut data) => {
                        let data = data.copy_to_bytes(data.remaining());
                        self.ahead.taken(data.len());
                        let data = self.counted(data);
                        if !data.as_ref().is_ok_and(Bytes::is_empty) {
                            return Poll::Ready(Some(data.map(Frame::data)));
                        }
                    }
                    None => self.state = State::Trailers,
                },
                State::Trailers => {
                    let trailers = ready!(self.stream.poll_recv_trailers(cx))?;
                    if self.left.is_some_and(|left| left > 0) {
                        return Poll::Ready(Some(Err(BodyError::Length)));
                    }
                    self.state = State::Ended;
                    let trailers = trailers.map(|trailers| Ok(Frame::trailers(trailers)));
                    let Some(last) = self.last.take() else { return Poll::Ready(trailers) };
                    self.first = trailers;
                    return Poll::Ready(Some(Ok(Frame::data(last))));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    /// What of `data` may be given out now.
    fn counted(&mut self, data: Bytes) -> Result<Bytes, BodyError> {
        let Some(left) = &mut self.left else { return Ok(data) };
        *left = left.checked_sub(data.len() as u64).ok_or(BodyError::Length)?;
        if *left > 0 || data.is_empty() {
            return Ok(data);
        }
        self.last = Some(data);
        Ok(Bytes::new())
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(first));
        }
        let polled = this.poll(cx);
        if let Poll::Ready(Some(Err(_))) = polled {
            // h3 must not be asked again.
            this.state = State::Ended;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.state == State::Ended
    }

    fn size_hint(&self) -> SizeHint {
        let Some(left) = self.left else { return SizeHint::new() };
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
        let read = [first, self.last.as_ref()].into_iter().flatten();
        SizeHint::with_exact(read.fold(left, |sum, data| sum.saturating_add(data.len() as u64)))
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("state", &self.state)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_one_number() {
        let of = |values: &[&'static str]| {
            let values = values.iter().map(|value| (CONTENT_LENGTH, HeaderValue::from_static(value)));
            announced(&values.collect::<Vec<_>>().into_iter().fold(
                HeaderMap::new(),
                |mut map, (name, value)| {
                    map.append(name, value);
                    map
                },
            ))
        };
        assert_eq!(of(&[]).unwrap(), None);
        assert_eq!(of(&["0"]).unwrap(), Some(0));
        assert_eq!(of(&["12"]).unwrap(), Some(12));
        for bad in [&["1", "1"][..], &["+1"], &["-1"], &["1, 1"], &[""], &["99999999999999999999"]] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
