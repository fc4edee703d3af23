//! QUIC by quinn, as h3 wants to see it.
//!
//! Not h3-quinn's, for three reasons: whether a client still wants an answer must be known while there is none to be
//! sent, what h3 keeps of a stream must be bounded ([`super::frames`]), and a stream that is let go must say why.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::{self, Stream};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use parking_lot::Mutex;
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use super::frames::{Ahead, FrameError, Frames};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send + Sync>>;
type Accepting<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send + Sync>>;

/// One connection.
pub(super) struct Connection {
    quic: quinn::Connection,
    requests: Accepting<(quinn::SendStream, quinn::RecvStream)>,
    streams: Accepting<quinn::RecvStream>,
    opening: Option<Boxed<Result<quinn::SendStream, ConnectionError>>>,
    latest: Latest,
}

/// What else there is to know of the request that was accepted last.
#[derive(Clone, Default)]
pub(super) struct Latest(Arc<Mutex<Option<Aside>>>);

/// What h3 does not tell of a request.
pub(super) struct Aside {
    pub(super) answer: Answered,
    pub(super) ahead: Arc<Ahead>,
}

/// Comes when the client has all of the answer (`Ok(None)`), wants no more of it, or is gone.
pub(super) type Answered = Boxed<Result<Option<VarInt>, StoppedError>>;

/// h3 wants a type for it; a server opens no requests.
pub(super) struct Opener;

pub(super) struct SendStream {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    /// Something was sent.
    begun: bool,
}

pub(super) struct RecvStream {
    stream: quinn::RecvStream,
    frames: Frames,
    ahead: Arc<Ahead>,
    over: bool,
}

pub(super) struct Request {
    send: SendStream,
    receive: RecvStream,
}

/// As QUIC wants to have it.
pub(super) fn number(code: Code) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}

impl Connection {
    pub(super) fn new(quic: quinn::Connection) -> Self {
        let requests = stream::unfold(quic.clone(), async |quic| Some((quic.accept_bi().await, quic)));
        let streams = stream::unfold(quic.clone(), async |quic| Some((quic.accept_uni().await, quic)));
        Self {
            quic,
            requests: Box::pin(requests),
            streams: Box::pin(streams),
            opening: None,
            latest: Latest::default(),
        }
    }

    pub(super) fn latest(&self) -> Latest {
        self.latest.clone()
    }
}

impl Latest {
    pub(super) fn take(&self) -> Option<Aside> {
        self.0.lock().take()
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let stream = ready!(next(&mut self.streams, cx))?;
        Poll::Ready(Ok(RecvStream::new(stream, Frames::of_unidirectional())))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Request, ConnectionErrorIncoming>> {
        let (send, receive) = ready!(next(&mut self.requests, cx))?;
        let receive = RecvStream::new(receive, Frames::of_request());
        let aside = Aside { answer: Box::pin(send.stopped()), ahead: receive.ahead.clone() };
        self.latest.0.lock().replace(aside);
        Poll::Ready(Ok(Request { send: SendStream::new(send), receive }))
    }

    fn opener(&self) -> Opener {
        Opener
    }
}

fn next<T>(streams: &mut Accepting<T>, cx: &mut Context<'_>) -> Poll<Result<T, ConnectionErrorIncoming>> {
    let accepted = ready!(streams.as_mut().poll_next(cx));
    Poll::Ready(accepted.unwrap_or(Err(ConnectionError::LocallyClosed)).map_err(lost))
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = Request;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Request, StreamErrorIncoming>> {
        Opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let opening = self.opening.get_or_insert_with(|| {
            let quic = self.quic.clone();
            Box::pin(async move { quic.open_uni().await })
        });
        let opened = ready!(opening.as_mut().poll(cx));
        self.opening = None;
        let failed = |error| StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) };
        Poll::Ready(opened.map(SendStream::new).map_err(failed))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.quic.close(number(code), reason);
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Request;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Request, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server opens no requests".into())))
    }

    fn poll_open_send(&mut self, _: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        Poll::Ready(Err(StreamErrorIncoming::Unknown("a server pushes nothing".into())))
    }

    fn close(&mut self, _: Code, _: &[u8]) {}
}

impl SendStream {
    fn new(stream: quinn::SendStream) -> Self {
        Self { stream, writing: None, begun: false }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while let Some(writing) = self.writing.as_mut().filter(|writing| writing.has_remaining()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, writing.chunk()));
            writing.advance(written.map_err(unwritten)?);
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("what was to be sent before is not sent yet".into()));
        }
        self.begun = true;
        self.writing = Some(data.into());
        Ok(())
    }

    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(self.stream.finish().map_err(|error| StreamErrorIncoming::Unknown(error.into())))
    }

    fn reset(&mut self, code: u64) {
        // Fails on a stream that is over.
        let _ = self.stream.reset(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
    }

    fn send_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.begun {
            // quinn would end it in order, as if this were an answer.
            quic::SendStream::reset(self, Code::H3_REQUEST_REJECTED.value());
        }
    }
}

impl RecvStream {
    fn new(stream: quinn::RecvStream, frames: Frames) -> Self {
        Self { stream, frames, ahead: Arc::default(), over: false }
    }

    fn passed(&mut self, bytes: Option<&Bytes>) -> Result<(), FrameError> {
        match bytes {
            Some(bytes) => self.ahead.passed(bytes.len(), self.frames.pass(bytes)?),
            None => self.frames.end()?,
        }
        Ok(())
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if self.ahead.is_enough() {
            return Poll::Pending;
        }
        // Whom to wake is kept by the connection, not by this future.
        let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
        let bytes = read.map_err(|error| {
            self.over = true;
            unread(error)
        })?;
        let bytes = bytes.map(|chunk| chunk.bytes);
        self.over |= bytes.is_none();
        if let Err(error) = self.passed(bytes.as_ref()) {
            let code =
                if error == FrameError::Truncated { Code::H3_FRAME_ERROR } else { Code::H3_EXCESSIVE_LOAD };
            self.stop_sending(code.value());
            return Poll::Ready(Err(StreamErrorIncoming::Unknown(error.into())));
        }
        Poll::Ready(Ok(bytes))
    }

    fn stop_sending(&mut self, code: u64) {
        // Fails on a stream that is over.
        let _ = self.stream.stop(VarInt::from_u64(code).unwrap_or(VarInt::MAX));
        self.over = true;
    }

    fn recv_id(&self) -> StreamId {
        id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.over {
            // Nobody wants the rest, which is no fault of the client (RFC 9114, section 4.1).
            quic::RecvStream::stop_sending(self, Code::H3_NO_ERROR.value());
        }
    }
}

impl quic::SendStream<Bytes> for Request {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for Request {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.receive.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.receive.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.receive.recv_id()
    }
}

impl quic::BidiStream<Bytes> for Request {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.receive)
    }
}

fn id(id: quinn::StreamId) -> StreamId {
    StreamId::try_from(u64::from(id)).expect("both count to the same number")
}

fn lost(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            ConnectionErrorIncoming::ApplicationClose { error_code: close.error_code.into() }
        }
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        error => ConnectionErrorIncoming::Undefined(Arc::new(error)),
    }
}

fn unread(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into() },
        ReadError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}

fn unwritten(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated { error_code: code.into() },
        WriteError::ConnectionLost(error) => {
            StreamErrorIncoming::ConnectionErrorIncoming { connection_error: lost(error) }
        }
        error => StreamErrorIncoming::Unknown(error.into()),
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").field("id", &self.stream.id()).finish_non_exhaustive()
    }
}
