//! The whole of a call: its timeouts, and as many attempts as the rule asks for and safety allows.
//!
//! What to do after an attempt is decided in [`tidegate_policy::call::Retries`]; here it is done.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::UPGRADE;
use http::{HeaderName, Method, request};
use http_body::Body as _;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tidegate_policy::Reason;
use tidegate_policy::balance::EndpointState;
use tidegate_policy::call::{
    Allowed, Ended, Next, Pushback, Retries, RetryBudget, RetryPermit, RetryRule, Settled, retry,
};
use tidegate_policy::decision::CallResult;
use tidegate_policy::pipeline::LocalReply;
use tokio::time::Instant;

use super::call::{Answered, Call, attempt};
use super::race;
use crate::clock::since_epoch;
use crate::http::{REST_AFTER, Record, Replay, RequestBody, Upload};

/// Tells the next hop which attempt of one request it sees, from 1. Only where a rule retries: a sidecar without one
/// passes on what it was told. And only one tier retries: whoever is told does not, lest attempts multiply.
pub(crate) const X_TIDEGATE_ATTEMPT: HeaderName = HeaderName::from_static("x-tidegate-attempt");
/// Tells a client how often a backend was asked, where a policy wants it told.
const X_TIDEGATE_ATTEMPTS: HeaderName = HeaderName::from_static("x-tidegate-attempts");
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
    pub(super) tried: Tried,
    /// The same, for attempts at the same time.
    pub(super) shared: Option<Arc<Mutex<Tried>>>,
    /// Comes when the whole call has had its time.
    pub(super) over: Pin<&'d mut (dyn Future<Output = ()> + Send)>,
    /// When its response must have come whole, where somebody says so.
    pub(super) ends: Option<Instant>,
    /// Who does.
    pub(super) allowed: Option<Allowed>,
}

pub(super) type Tried = SmallVec<[Arc<EndpointState>; 2]>;

impl Course<'_> {
    /// How much time the whole call has, from this moment.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.ends.map(|ends| ends.saturating_duration_since(now))
    }

    pub(super) fn goes_to(&mut self, endpoint: &Arc<EndpointState>) {
        self.tried.push(endpoint.clone());
        if let Some(shared) = &self.shared {
            shared.lock().push(endpoint.clone());
        }
    }

    /// The whole call has had its time.
    pub(super) fn timed_out(&self) -> Failure {
        let reason = self.allowed.as_ref().map_or(Reason::RequestTimeout, |allowed| allowed.reason);
        Failure { over: true, ..reason.into() }
    }

    /// And the word of whose limit it was.
    fn tell_over(&self, failure: &Failure, record: &mut Record) {
        if let Some(allowed) = self.allowed.as_ref().filter(|_| failure.over)
            && failure.reply.reason == allowed.reason
            && self.left(Instant::now()).is_some_and(|left| left.is_zero())
        {
            record.decisions.extend(allowed.limit.reached(allowed.reason));
        }
    }
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

/// Calls the selected backend, again where the rule or a policy says so.
///
/// # Errors
/// What to answer in the backend's place; breakers and telemetry have been told.
pub(crate) async fn call(
    cx: Call<'_>,
    head: Box<request::Parts>,
    body: RequestBody,
    record: &mut Record,
) -> Result<Answered, LocalReply> {
    let target = cx.selected.target();
    let (plan, begun) = (&target.plan, Instant::now());
    let allowed = plan.allowed(&head.headers, cx.grpc, cx.from_outside);
    record.decisions.extend(plan.shadow_deadline(&head.headers, cx.grpc, cx.from_outside));
    let ends = allowed.as_ref().map(|allowed| begun + allowed.limit.after);
    let over = pin!(over(&cx, (begun, ends), record.upload.clone()));
    let tried = Tried::new();
    let mut course = Course { number: 1, begun, retries: false, tried, shared: None, over, ends, allowed };
    if let (Some(rule), Ok(backend)) = (&plan.retry, &target.backend)
        && rule.attempts > 0
        && !head.headers.contains_key(X_TIDEGATE_ATTEMPT)
    {
        course.retries = true;
        let attempts = Attempts { rule, budget: &backend.retry_budget, course };
        // Boxed: requests that are sent once need not carry the room for more.
        return match rule.hedge {
            Some(_) if !head.headers.contains_key(UPGRADE) && head.method != Method::CONNECT => {
                Box::pin(race::run(attempts, cx, head, body, record)).await
            }
            _ => Box::pin(attempts.run(cx, head, body, record)).await,
        };
    }
    let (selected, method) = (cx.selected, plan.shadow.retry.is_some().then(|| head.method.clone()));
    let outcome = attempt(cx, head, body, &mut course, record).await;
    if let Some(method) = method {
        let ended = ended(&outcome, None, record);
        record.decisions.extend(selected.target().plan.shadow_retry(ended, &method));
    }
    outcome.map_err(|failure| {
        course.tell_over(&failure, record);
        failure.reply
    })
}

/// The request timeout of the rule counts from the start, the default from the end of the upload: a slow client with
/// a large body is no failure of the endpoint, as long as the body moves; see the stall timeout of an attempt. (Gateway
/// API GEP-1742 leaves the start to the implementation.)
fn over<'a>(
    cx: &Call<'a>,
    (begun, ends): (Instant, Option<Instant>),
    upload: Option<Arc<Upload>>,
) -> impl Future<Output = ()> + Send + use<'a> {
    let per_attempt = cx.selected.target().plan.times.per_try.is_some();
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
pub(super) struct Attempts<'a, 'd> {
    pub(super) rule: &'a RetryRule,
    pub(super) budget: &'a RetryBudget,
    pub(super) course: Course<'d>,
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
        let mut retries = Retries::new(self.rule, &head.method);
        let replay = body.kept(self.rule.body_limit);
        let first = replay.as_ref().map_or(Some(RequestBody::EMPTY), RequestBody::again);
        let mut body = first.unwrap_or(RequestBody::EMPTY);
        // Under the caps on retries, while one is on its way.
        let mut place = None;
        loop {
            let outcome = attempt(cx.again(), head.clone(), body, &mut self.course, record).await;
            drop(place.take());
            let next = match &outcome {
                Err(failure) if failure.over => None,
                outcome => self.next(&mut retries, &mut cx, ended(outcome, replay.as_ref(), record), record),
            };
            let again = || replay.as_ref().map_or(Some(RequestBody::EMPTY), RequestBody::again);
            // Before what came is thrown away: it is the answer where there is no room for another attempt.
            let Some(((after, taken), again)) = next.and_then(|next| Some((next, again()?))) else {
                return self.settle(outcome, record);
            };
            place = Some(taken);
            body = again;
            if let Ok(answered) = outcome {
                record.grpc_status = None;
                discard(answered);
            }
            self.pause(after, record).await?;
            self.course.number += 1;
            self.course.begun = Instant::now();
        }
    }

    /// What an attempt gave is the answer.
    pub(super) fn settle(
        &self,
        outcome: Result<Answered, Failure>,
        record: &mut Record,
    ) -> Result<Answered, LocalReply> {
        match outcome {
            Ok(mut answered) => {
                if self.rule.tell_attempts {
                    answered.head.headers.insert(X_TIDEGATE_ATTEMPTS, self.course.number.into());
                }
                Ok(answered)
            }
            Err(failure) => {
                self.course.tell_over(&failure, record);
                Err(failure.reply)
            }
        }
    }

    /// How long to wait for the next attempt, and leave to make it; `None` if there is none.
    pub(super) fn next(
        &self,
        retries: &mut Retries<'_>,
        cx: &mut Call<'_>,
        ended: Ended,
        record: &mut Record,
    ) -> Option<(Duration, RetryPermit)> {
        let moment = (cx.clock.now(), self.course.left(Instant::now()));
        let next = retries.next(ended, moment, self.budget, cx.rng);
        record.decisions.extend(retries.decision(next));
        let (next, told) = match next {
            Next::Again { after } => {
                match retry(cx.selected.target(), cx.selected.counted, &mut record.decisions) {
                    Ok(place) => (Some((after, place)), Some("made")),
                    Err(_) => (None, Some("over_cap")),
                }
            }
            Next::Settled(settled) => {
                tracing::debug!(?settled, ?ended, attempt = self.course.number, "not tried again");
                (None, Some(settled.as_str()).filter(|_| settled != Settled::NotRetried))
            }
        };
        if let Some(told) = told {
            tell(cx, told, record);
        }
        next
    }

    pub(super) async fn pause(&mut self, wait: Duration, record: &mut Record) -> Result<(), LocalReply> {
        let over = tokio::select! {
            biased;
            () = self.course.over.as_mut() => self.course.timed_out(),
            () = tokio::time::sleep(wait) => return Ok(()),
        };
        self.course.tell_over(&over, record);
        Err(over.reply)
    }
}

/// Counts what was decided about one more attempt.
pub(super) fn tell(cx: &Call<'_>, told: &'static str, record: &mut Record) {
    if let (Some(exchange), Ok(backend)) = (record.exchange(), &cx.selected.target().backend) {
        exchange.retry(&backend.label, told);
    }
}

/// `record`: of the attempt.
pub(super) fn ended(outcome: &Result<Answered, Failure>, replay: Option<&Replay>, record: &Record) -> Ended {
    let (result, unsent, asked) = match outcome {
        Ok(answered) => {
            // Of gRPC, what is known with the head: an answer without messages.
            let status = CallResult::Status(answered.head.status.as_u16());
            let result = record.grpc_status.map_or(status, CallResult::Grpc);
            (result, false, Pushback::of(&answered.head.headers, &since_epoch))
        }
        Err(failure) => (CallResult::Failed(failure.reply.reason), failure.unsent, None),
    };
    Ended { result, unsent, replayable: replay.is_none_or(Replay::is_whole), asked }
}

/// Gives back what the answer of a failed attempt holds.
pub(super) fn discard(answered: Answered) {
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
