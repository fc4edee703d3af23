//! Bodies that a test feeds by hand.

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::HeaderMap;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type TestBody = UnsyncBoxBody<Bytes, BoxError>;

/// The other end of a [`streaming`] body. Dropped, the body ends.
#[derive(Debug)]
pub struct Frames(mpsc::Sender<Result<Frame<Bytes>, BoxError>>);

pub fn empty() -> TestBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

pub fn full(body: impl Into<Bytes>) -> TestBody {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of unknown length that grows as the test says.
pub fn streaming() -> (Frames, TestBody) {
    let (sender, receiver) = mpsc::channel(1);
    (Frames(sender), StreamBody::new(ReceiverStream::new(receiver).fuse()).boxed_unsync())
}

impl Frames {
    /// Does nothing when nobody reads the body any more.
    pub async fn data(&self, data: impl Into<Bytes>) {
        let _ = self.0.send(Ok(Frame::data(data.into()))).await;
    }

    pub async fn trailers(&self, trailers: HeaderMap) {
        let _ = self.0.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Breaks the body off.
    pub async fn fail(&self) {
        let _ = self.0.send(Err("broken off by the test".into())).await;
    }

    /// Returns when nobody reads the body any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
