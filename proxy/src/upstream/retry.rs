//! The whole of a call: its timeouts, and as many attempts as the rule asks for and safety allows.
//!
//! What to do after an attempt is decided in [`tidegate_policy::call::Retries`]; here it is done.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use smallvec::SmallVec;
use tidegate_policy::Reason;
use tidegate_policy::balance::EndpointState;
use tidegate_policy::call::{Ended, Next, Retries, RetryBudget, RetryPermit, Settled, retry};
use tidegate_policy::decision::CallResult;
use tidegate_policy::model::Retry;
use tidegate_policy::pipeline::LocalReply;
use tokio::time::Instant;

use super::call::{Answered, Call, attempt};
use crate::http::{REST_AFTER, Record, Replay, RequestBody, Upload};

/// Tells the next hop which attempt of one request it sees, from 1. Only where a rule retries: a sidecar without one
/// passes on what it was told. And only one tier retries: whoever is told does not, lest attempts multiply.
pub(crate) const X_TIDEGATE_ATTEMPT: HeaderName = HeaderName::from_static("x-tidegate-attempt");
/// The answer of a failed attempt is read to its end if it is no longer than this, so that its connection lives on.
const MAX_DRAINED: u64 = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// What the attempts of one call share.
pub(super) struct Course<'d> {
    /// From 1.
    pub(super) number: u32,
    /// The attempt.
    pub(super) begun: Instant,
    pub(super) retries: bool,
    /// The endpoints of the attempts before, the latest last.
    pub(super) tried: SmallVec<[Arc<EndpointState>; 2]>,
    /// Comes when the whole call has had its time.
    pub(super) over: Pin<&'d mut (dyn Future<Output = ()> + Send)>,
    /// When its response must have come whole, where the rule says so.
    pub(super) ends: Option<Instant>,
}

/// Why an attempt gave no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reply: LocalReply,
    /// No byte of the request was sent.
    pub(super) unsent: bool,
    /// The whole call is over, not only the attempt.
    pub(super) over: bool,
}

/// Calls the selected backend, again where the rule says so.
///
/// # Errors
/// What to answer in the backend's place; breakers and telemetry have been told.
pub(crate) async fn call(
    cx: Call<'_>,
    head: Box<request::Parts>,
    body: RequestBody,
    record: &mut Record,
) -> Result<Answered, LocalReply> {
    let timeouts = cx.selected.rule.timeouts;
    let begun = Instant::now();
    let ends = timeouts.request.map(|limit| begun + limit);
    let over = pin!(over(&cx, (begun, ends), record.upload.clone()));
    let mut course = Course { number: 1, begun, retries: false, tried: SmallVec::new(), over, ends };
    if let (Some(retry), Ok(backend)) = (&cx.selected.rule.retry, &cx.selected.target().backend)
        && retry.attempts > 0
        && !head.headers.contains_key(X_TIDEGATE_ATTEMPT)
    {
        course.retries = true;
        let attempts = Attempts { retry, budget: &backend.retry_budget, course };
        // Boxed: requests that are sent once need not carry the room for more.
        return Box::pin(attempts.run(cx, head, body, record)).await;
    }
    attempt(cx, head, body, &mut course, record).await.map_err(|failure| failure.reply)
}

/// The request timeout of the rule counts from the start, the default from the end of the upload: a slow client with
/// a large body is no failure of the endpoint, as long as the body moves; see the stall timeout of an attempt. (Gateway
/// API GEP-1742 leaves the start to the implementation.)
fn over<'a>(
    cx: &Call<'a>,
    (begun, ends): (Instant, Option<Instant>),
    upload: Option<Arc<Upload>>,
) -> impl Future<Output = ()> + Send + use<'a> {
    let per_attempt = cx.selected.rule.timeouts.backend_request.is_some();
    let default = cx.request_timeout.filter(|_| !cx.grpc && !per_attempt);
    // Who looks in every few seconds would be late for less.
    let overtime = cx.overtime.filter(|_| default.is_some_and(|limit| limit >= REST_AFTER));
    async move {
        match (ends, default) {
            (Some(ends), _) => tokio::time::sleep_until(ends).await,
            (None, Some(limit)) => match (upload, overtime) {
                (Some(upload), _) => upload.ended_for(limit).await,
                (None, Some(overtime)) => overtime.until(begun + limit).await,
                (None, None) => tokio::time::sleep_until(begun + limit).await,
            },
            (None, None) => std::future::pending().await,
        }
    }
}

/// A call that may be made more than once.
struct Attempts<'a, 'd> {
    retry: &'a Retry,
    budget: &'a RetryBudget,
    course: Course<'d>,
}

impl Attempts<'_, '_> {
    async fn run(
        mut self,
        mut cx: Call<'_>,
        head: Box<request::Parts>,
        body: RequestBody,
        record: &mut Record,
    ) -> Result<Answered, LocalReply> {
        self.budget.request(cx.clock.now());
        let mut retries = Retries::new(self.retry, &head.method);
        let replay = body.kept();
        let first = replay.as_ref().map_or(Some(RequestBody::EMPTY), RequestBody::again);
        let mut body = first.unwrap_or(RequestBody::EMPTY);
        // Under the caps on retries, while one is on its way.
        let mut place = None;
        loop {
            let outcome = attempt(cx.again(), head.clone(), body, &mut self.course, record).await;
            drop(place.take());
            let next = match &outcome {
                Err(failure) if failure.over => None,
                outcome => self.next(&mut retries, &mut cx, ended(outcome, replay.as_ref()), record),
            };
            let again = || replay.as_ref().map_or(Some(RequestBody::EMPTY), RequestBody::again);
            // Before what came is thrown away: it is the answer where there is no room for another attempt.
            let Some(((after, taken), again)) = next.and_then(|next| Some((next, again()?))) else {
                return outcome.map_err(|failure| failure.reply);
            };
            place = Some(taken);
            body = again;
            if let Ok(answered) = outcome {
                record.grpc_status = None;
                discard(answered);
            }
            self.pause(after).await?;
            self.course.number += 1;
            self.course.begun = Instant::now();
        }
    }

    /// How long to wait for the next attempt, and leave to make it; `None` if there is none.
    fn next(
        &self,
        retries: &mut Retries<'_>,
        cx: &mut Call<'_>,
        ended: Ended,
        record: &mut Record,
    ) -> Option<(Duration, RetryPermit)> {
        let (next, told) = match retries.next(ended, self.budget, cx.clock.now(), cx.rng) {
            Next::Again { after } => match retry(cx.selected.target(), &mut record.decisions) {
                Ok(place) => (Some((after, place)), Some("made")),
                Err(_) => (None, Some("over_cap")),
            },
            Next::Settled(settled) => {
                tracing::debug!(?settled, ?ended, attempt = self.course.number, "not tried again");
                (None, name(settled))
            }
        };
        if let (Some(told), Some(exchange), Ok(backend)) =
            (told, record.exchange(), &cx.selected.target().backend)
        {
            exchange.retry(&backend.label, told);
        }
        next
    }

    async fn pause(&mut self, wait: Duration) -> Result<(), Reason> {
        tokio::select! {
            biased;
            () = self.course.over.as_mut() => Err(Reason::RequestTimeout),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }
}

/// What metrics call it; nothing for an attempt that is the answer.
fn name(settled: Settled) -> Option<&'static str> {
    match settled {
        Settled::NotRetried => None,
        Settled::Exhausted => Some("exhausted"),
        Settled::Unsafe => Some("unsafe"),
        Settled::BodyGone => Some("body_gone"),
        Settled::OverBudget => Some("over_budget"),
    }
}

fn ended(outcome: &Result<Answered, Failure>, replay: Option<&Replay>) -> Ended {
    let (result, unsent) = match outcome {
        Ok(answered) => (CallResult::Status(answered.head.status.as_u16()), false),
        Err(failure) => (CallResult::Failed(failure.reply.reason), failure.unsent),
    };
    Ended { result, unsent, replayable: replay.is_none_or(Replay::is_whole) }
}

/// Gives back what the answer of a failed attempt holds.
fn discard(answered: Answered) {
    let Answered { mut body, call, .. } = answered;
    if body.is_end_stream() {
        return call.complete(Instant::now());
    }
    if body.size_hint().upper().is_none_or(|length| length > MAX_DRAINED) {
        return;
    }
    tokio::spawn(async move {
        let drained = async {
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok::<_, hyper::Error>(())
        };
        if let Ok(Ok(())) = tokio::time::timeout(DRAIN_TIME, drained).await {
            call.complete(Instant::now());
        }
    });
}

impl From<LocalReply> for Failure {
    fn from(reply: LocalReply) -> Self {
        Self { reply, unsent: false, over: false }
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        LocalReply::from(reason).into()
    }
}
