//! A response body on its way to the client: counted, cut short when it stalls or comes too late, and noticed at its end.

use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tidegate_policy::Reason;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::body::Ahead;
use super::grpc_web::Packing;
use super::pace::Pace;
use super::record::Record;
use super::reply::grpc_status;
use super::trailers;
use crate::plugins::{Cut, Piece, Through};
use crate::upstream::OpenCall;

/// A response body going downstream; it holds what must last exactly as long as the response.
pub(crate) struct ResponseBody {
    source: Source,
    record: Record,
    /// As the head announced: a client that has all of it may stop reading before we see the end.
    announced: Option<u64>,
    /// When the rule's timeouts end the response, whole or not.
    deadline: Option<Pin<Box<Sleep>>>,
    stall: Stall,
    /// What it is on the way to the client is not what the backend sends.
    packing: Option<Box<Packing>>,
    /// Plugins have a word on it.
    plugged: Option<Box<Plugged>>,
    /// Held back by a policy.
    pace: Option<Box<Pace>>,
}

/// See [`ResponseBody::plugged`].
struct Plugged {
    through: Through,
    /// What came of it before the head was sent.
    ahead: Option<Frame<Bytes>>,
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
    #[error("the endpoint ended without a status")]
    Unfinished,
    #[error("{0}")]
    Plugin(#[from] Cut),
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

impl ResponseBody {
    /// Our own answer.
    pub(crate) fn local(body: Bytes, record: Record) -> Self {
        let announced = Some(body.len() as u64);
        Self::of(Source::Local(body), announced, record).completed_if_ended()
    }

    /// A backend's answer. `announced` is its content-length; without a byte for `stall_timeout`, it is cut short.
    pub(crate) fn upstream(
        (body, call): (Incoming, Box<OpenCall>),
        (announced, stall_timeout): (Option<u64>, Option<Duration>),
        packing: Option<Packing>,
        record: Record,
    ) -> Self {
        let deadline = call.ends.at.filter(|_| !body.is_end_stream());
        let mut this = Self::of(Source::Upstream { body, call }, announced, record);
        this.deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        this.stall = Stall { limit: stall_timeout, timer: None, moved: true };
        this.packing = packing.map(Box::new);
        this.completed_if_ended()
    }

    /// The same, no faster than that.
    pub(crate) fn paced(mut self, bytes_per_second: Option<NonZeroU32>) -> Self {
        self.pace = bytes_per_second.map(|rate| Box::new(Pace::new(rate)));
        self
    }

    /// What plugins let pass of it.
    pub(crate) fn plugged(mut self, through: Option<Through>) -> Self {
        // What is over already, they have been told of with the head.
        let through = through.filter(|_| !matches!(self.source, Source::Done));
        self.plugged = through.map(|through| Box::new(Plugged { through, ahead: None }));
        self
    }

    /// Waits for the first of it that plugins let pass, so that the head can say how long it is.
    ///
    /// # Errors
    /// It breaks off before.
    pub(crate) async fn ahead(&mut self) -> Result<Option<Ahead>, BodyError> {
        if self.plugged.is_none() {
            return Ok(None);
        }
        let first = poll_fn(|cx| self.poll_source(cx)).await.transpose()?;
        let Some(plugged) = &mut self.plugged else { return Ok(None) };
        let length = first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let whole = plugged.through.is_over();
        plugged.ahead = first;
        self.announced = whole.then_some(length).or(self.announced.filter(|_| !plugged.through.is_changed()));
        Ok(Some(match (whole, plugged.through.is_changed()) {
            (true, _) => Ahead::Whole(length),
            (false, true) => Ahead::Changed,
            (false, false) => Ahead::Begun,
        }))
    }

    /// The head that goes out says so, and what comes must be as much.
    pub(crate) fn promise(&mut self, length: u64) {
        if let Some(plugged) = &mut self.plugged {
            plugged.through.promise(length);
        }
    }

    /// Given up before anything of it was sent: its record goes on with another answer.
    pub(crate) fn into_record(mut self) -> Record {
        self.announced = None;
        std::mem::replace(&mut self.record, Record::spent())
    }

    /// The head is all there is, and its record is kept elsewhere.
    pub(crate) fn head_only() -> Self {
        Self::of(Source::Done, None, Record::spent())
    }

    fn of(source: Source, announced: Option<u64>, record: Record) -> Self {
        let (deadline, stall) = (None, Stall::default());
        Self { source, record, announced, deadline, stall, packing: None, plugged: None, pace: None }
    }

    fn completed_if_ended(mut self) -> Self {
        if self.is_end_stream() {
            self.complete();
        }
        self
    }

    /// The whole answer has passed.
    fn complete(&mut self) {
        let now = Instant::now();
        if let Source::Upstream { call, .. } = std::mem::replace(&mut self.source, Source::Done) {
            call.complete(now);
        }
        self.record.complete_at(now);
    }

    fn fail(&mut self, reason: Reason) {
        if let Source::Upstream { call, .. } = std::mem::replace(&mut self.source, Source::Done) {
            // What a policy holds up is not the endpoint's doing.
            let late = reason == Reason::RequestTimeout && self.pace.is_some();
            call.fail(if late { Reason::FaultInjected } else { reason });
        }
        self.record.reason = Some(reason);
        self.record.complete();
    }

    /// Ends early: with trailers that say why, where the client takes them as a frame, else by breaking off.
    fn cut_short(
        &mut self,
        reason: Reason,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let last = self.packing.as_mut().and_then(|packing| packing.end_with(reason));
        if let Some(frame) = &last {
            self.record.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
            self.record.grpc_status = Some(reason.answer().grpc);
        }
        if let Source::Upstream { call, .. } = &self.source {
            let reached = match error {
                BodyError::Late => call.ends.limit.as_ref(),
                BodyError::Stalled => call.ends.idle.as_ref(),
                BodyError::Upstream(_) | BodyError::Unfinished | BodyError::Plugin(_) => None,
            };
            self.record.decisions.extend(reached.and_then(|limit| limit.reached(reason)));
        }
        self.fail(reason);
        Poll::Ready(Some(last.ok_or(error)))
    }

    /// What the client is sent of a frame, once it is counted.
    fn passed(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        if let Some((trailers, status)) = frame.trailers_ref().and_then(|map| Some((map, grpc_status(map)?)))
        {
            self.record.grpc_status = Some(status);
            if let Source::Upstream { call, .. } = &mut self.source {
                let transition = call.trailers(trailers, status);
                self.record.transition(transition);
            }
        }
        let frame = match &mut self.packing {
            None => frame,
            Some(packing) => packing.pass(frame),
        };
        let frame = match &mut self.pace {
            None => frame,
            Some(pace) => pace.first(frame),
        };
        self.counted(frame)
    }

    fn counted(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        self.record.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
        frame
    }

    /// What comes next: of the piece that is held back, else of the source.
    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(pace) = &mut self.pace {
            let held_back = pace.poll(cx);
            // Nobody waits for the endpoint meanwhile.
            self.stall.moved |= held_back.is_pending();
            if let Some(piece) = ready!(held_back) {
                return Poll::Ready(Some(Ok(self.counted(Frame::data(piece)))));
            }
        }
        let first = self.plugged.as_mut().and_then(|plugged| plugged.ahead.take());
        let polled = match first {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => self.poll_source(cx),
        };
        polled.map_ok(|frame| self.passed(frame))
    }

    /// What comes next of what plugins let pass.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let source = &mut self.source;
        let Some(plugged) = &mut self.plugged else { return source.poll(cx) };
        let mut pieces = |cx: &mut Context<'_>| {
            let frame = ready!(source.poll(cx));
            Poll::Ready(frame.map(|frame| frame.map(|frame| Piece::of(frame, source.is_end_stream()))))
        };
        plugged.through.poll(cx, &mut pieces).map_ok(Piece::frame)
    }

    /// Bytes of the source that are not out yet.
    fn held_back(&self) -> u64 {
        self.pace.as_ref().map_or(0, |pace| pace.holds() as u64)
    }

    fn owes_trailers(&self) -> bool {
        self.packing.as_ref().is_some_and(|packing| !packing.is_over())
    }
}

impl Source {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self {
            Self::Done => Poll::Ready(None),
            Self::Local(body) if body.is_empty() => Poll::Ready(None),
            Self::Local(body) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(body))))),
            Self::Upstream { body, .. } => {
                Pin::new(body).poll_frame(cx).map_ok(trailers::checked).map_err(BodyError::from)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Done => true,
            Self::Local(body) => body.is_empty(),
            Self::Upstream { body, .. } => body.is_end_stream(),
        }
    }
}

fn plus(hint: SizeHint, more: u64) -> SizeHint {
    let mut sum = SizeHint::new();
    sum.set_lower(hint.lower().saturating_add(more));
    if let Some(upper) = hint.upper() {
        sum.set_upper(upper.saturating_add(more));
    }
    sum
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
        if matches!(this.source, Source::Done) {
            return Poll::Ready(None);
        }
        let polled = this.next(cx);
        match polled {
            Poll::Ready(Some(Ok(_))) => {
                this.stall.moved = true;
                if this.is_end_stream() {
                    this.complete();
                }
            }
            Poll::Ready(None) if this.owes_trailers() => {
                return this.cut_short(Reason::UpstreamProtocol, BodyError::Unfinished);
            }
            Poll::Ready(None) => this.complete(),
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "response cut short");
                let plugins = matches!(error, BodyError::Plugin(_));
                let reason = if plugins { Reason::PluginFailed } else { Reason::UpstreamReset };
                return this.cut_short(reason, error);
            }
            Poll::Pending => {}
        }
        if !this.is_end_stream() && this.deadline.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            return this.cut_short(Reason::RequestTimeout, BodyError::Late);
        }
        if polled.is_pending() {
            ready!(this.stall.poll(cx));
            return this.cut_short(Reason::RequestTimeout, BodyError::Stalled);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        if let Some(plugged) = &self.plugged
            && !matches!(self.source, Source::Done)
        {
            let through = plugged.ahead.is_none() && plugged.through.is_over();
            return through && !self.owes_trailers() && self.held_back() == 0;
        }
        match &self.source {
            Source::Done => true,
            Source::Local(body) => body.is_empty(),
            Source::Upstream { body, .. } => {
                body.is_end_stream() && !self.owes_trailers() && self.held_back() == 0
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            _ if self.plugged.is_some() => SizeHint::default(),
            Source::Local(body) => SizeHint::with_exact(body.len() as u64),
            // Of what is announced as having no length (a 204), hyper must not make one.
            Source::Upstream { .. } if self.packing.is_some() || self.announced.is_none() => {
                SizeHint::default()
            }
            Source::Upstream { body, .. } => plus(body.size_hint(), self.held_back()),
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
