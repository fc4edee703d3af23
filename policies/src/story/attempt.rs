//! The attempts of a request: each begins and ends, and between the two it is in flight.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::{Answer, Backends, Call, Step, Story, Teller, Told};
use crate::Reason;
use crate::balance::Wish;
use crate::call::{Attempt, CallPlan, Ended, Limit, Next, Pushback, Retries, RetryRule, admit, retry};
use crate::decision::{CallOutcome, CallResult, add};
use crate::health::failures;
use crate::pipeline::{LocalReply, Stop};
use crate::time::Timestamp;

/// A sidecar tells with it the next one that it retries itself.
const ATTEMPT: &str = "x-tidegate-attempt";

/// An attempt in flight, and how it is going to end.
#[derive(Debug)]
pub(super) struct Calling {
    attempt: Attempt,
    answer: Answer,
}

impl Teller<'_> {
    /// What precedes the first attempt.
    ///
    /// # Errors
    /// The picked target has no backend.
    pub(super) fn forward(&mut self, story: &mut Story, now: Timestamp) -> Result<(), LocalReply> {
        let Some(selected) = &story.told.selected else { return Err(Reason::Internal.into()) };
        let target = selected.target();
        story.told.forwarded = true;
        let backend = target.backend.as_ref().map_err(|reason| *reason)?;
        let copies = target.copies(&mut self.rng).filter_map(|copy| copy.target().backend.as_ref().ok());
        copies.for_each(|copy| story.told.mirrors.push(copy.clone()));
        let plan = &target.plan;
        if retries(plan, &story.head.headers, story.outside).is_some() {
            backend.retry_budget.request(now);
        }
        let (headers, grpc, outside) = (&story.head.headers, story.grpc, story.outside);
        add(&mut story.told.decisions, plan.shadow_deadline(headers, grpc, outside));
        story.allowed = plan.allowed(headers, grpc, outside);
        story.ends = story.allowed.as_ref().map(|allowed| now + allowed.limit.after);
        Ok(())
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// There is none: the request is answered with this.
    pub(super) fn attempt(
        &mut self,
        story: &mut Story,
        now: Timestamp,
        backends: &mut impl Backends,
    ) -> Result<Step, LocalReply> {
        story.told.unanswered();
        let Some(selected) = &story.told.selected else { return Err(Reason::Internal.into()) };
        let target = selected.target();
        let backend = target.backend.as_ref().map_err(|reason| *reason)?;
        let (plan, left) = (&target.plan, story.ends.map(|ends| ends.since(now)));
        let decisions = &mut story.told.decisions;
        plan.attempt((left, story.grpc), now, &mut story.head.headers, decisions)?;
        let prefer = selected.session.as_ref().map(|session| &session.endpoint);
        let wish = Wish { prefer, avoid: &story.tried, key: selected.key, counted: selected.counted };
        let attempt = admit(target, backend, wish, now, &mut self.rng, decisions)?;
        if plan.retry.is_some() {
            story.tried.push(attempt.endpoint.clone());
        }
        story.told.endpoint = Some(attempt.endpoint.clone());
        let call = Call {
            attempt: story.told.attempts,
            backend,
            endpoint: &attempt.endpoint,
            head: &story.head,
            grpc: story.grpc,
            now,
        };
        let answer = backends.answer(&call, &mut story.told.response.headers);
        let answer = in_time(answer, plan.times.per_try.as_ref(), left);
        story.told.attempts += 1;
        story.calling = Some(Calling { attempt, answer });
        Ok(Step::Until(now + answer.latency))
    }

    /// Ends the attempt in flight; whoever asks takes it away then. `None`: what it gave is the answer.
    ///
    /// # Errors
    /// The mesh answers.
    pub(super) fn ended(&mut self, story: &mut Story, now: Timestamp) -> Result<Option<Step>, Stop> {
        let next = self.recorded(story, now).map_err(Stop::Refused)?;
        let Told { selected: Some(selected), decisions, response, grpc, .. } = &mut story.told else {
            return Err(Reason::Internal.into());
        };
        let Some(Calling { attempt, answer }) = &story.calling else { return Err(Reason::Internal.into()) };
        if let Some(Next::Again { after }) = next
            && let Ok(permit) = retry(selected.target(), selected.counted, decisions)
        {
            story.retry = Some(permit);
            return Ok(Some(Step::Until(now + after)));
        }
        match answer.result {
            CallResult::Failed(reason) => return Err(reason.into()),
            CallResult::Grpc(code) => *grpc = Some(code),
            CallResult::Connected | CallResult::Status(_) => {}
        }
        let at = || (false, self.epoch + now.since(Timestamp::ZERO));
        selected.remember(&attempt.endpoint, at, &mut response.headers);
        Ok(None)
    }

    /// Tells everybody how it ended, and says what follows.
    fn recorded(&mut self, story: &mut Story, now: Timestamp) -> Result<Option<Next>, LocalReply> {
        let Told { selected: Some(selected), decisions, response, .. } = &mut story.told else {
            return Err(Reason::Internal.into());
        };
        let Some(Calling { attempt, answer }) = &mut story.calling else {
            return Err(Reason::Internal.into());
        };
        let Answer { result, latency } = *answer;
        let target = selected.target();
        let (plan, epoch) = (&target.plan, self.epoch);
        let unix = || epoch + now.since(Timestamp::ZERO);
        story.retry = None;
        if !matches!(result, CallResult::Failed(_)) {
            response.status = status(result)?;
            attempt.read(response, &unix);
        }
        attempt.record(CallOutcome { result, latency }, now);
        story.failed = failures::usual(result) == Some(false);
        if let Some(sketch) = &plan.latency {
            sketch.record(latency, now);
        }
        add(decisions, plan.shadow_timeout(latency));
        let over = story
            .allowed
            .as_ref()
            .filter(|allowed| story.ends == Some(now) && !allowed.limit.after.is_zero());
        if let Some(allowed) = over {
            add(decisions, allowed.limit.reached(allowed.reason));
            return Err(allowed.reason.into());
        }
        if result == CallResult::Failed(Reason::RequestTimeout) {
            let per_try = plan.times.per_try.as_ref();
            add(decisions, per_try.and_then(|limit| limit.reached(Reason::RequestTimeout)));
        }
        // Most answers ask for nothing.
        let asked = Some(&response.headers).filter(|all| !all.is_empty());
        let asked = asked.and_then(|all| Pushback::of(all, &unix));
        let ended = Ended { result, unsent: false, replayable: true, asked };
        let rule = retries(plan, &story.head.headers, story.outside);
        let (Some(rule), Ok(backend)) = (rule, &target.backend) else {
            add(decisions, plan.shadow_retry(ended, &story.head.method));
            return Ok(None);
        };
        let mut retries = Retries::after(rule, &story.head.method, story.retries);
        let moment = (now, story.ends.map(|ends| ends.since(now)));
        let next = retries.next(ended, moment, &backend.retry_budget, &mut self.rng);
        story.retries = retries.made();
        add(decisions, retries.decision(next));
        Ok(Some(next))
    }
}

/// By what a request is sent again. One tier retries: not this one, if the caller's sidecar does and is believed.
fn retries<'p>(plan: &'p CallPlan, headers: &HeaderMap, outside: bool) -> Option<&'p RetryRule> {
    let elsewhere = !outside && headers.contains_key(ATTEMPT);
    plan.retry.as_deref().filter(|rule| rule.attempts > 0 && !elsewhere)
}

/// How an attempt ends that has so much time.
fn in_time(answer: Answer, per_try: Option<&Limit>, left: Option<Duration>) -> Answer {
    match [per_try.map(|limit| limit.after), left].into_iter().flatten().min() {
        Some(limit) if answer.latency >= limit => {
            Answer { result: CallResult::Failed(Reason::RequestTimeout), latency: limit }
        }
        _ => answer,
    }
}

fn status(result: CallResult) -> Result<StatusCode, Reason> {
    match result {
        CallResult::Status(status) => StatusCode::from_u16(status).map_err(|_| Reason::Internal),
        CallResult::Failed(_) | CallResult::Grpc(_) | CallResult::Connected => Ok(StatusCode::OK),
    }
}
