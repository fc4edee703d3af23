use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, Response, request, response};

use super::format::{AnswerSpec, FailureSpec, Step};
use super::request::{Sent, headers, sent};
use super::world::World;
use crate::balance::p2c::Wish;
use crate::call::{Ended, Next, Retries, admit};
use crate::decision::{CallOutcome, CallResult, Decision};
use crate::model::{AppProtocol, BackendName, Timeouts};
use crate::pick::PickContext;
use crate::pipeline::{self, Effect, Flow, LocalReply, Performed, Progress, RequestContext, Stop};
use crate::snapshot::{Scope, Selected};
use crate::{Decisions, Outcome, Reason, Timestamp};

/// The beginning of every case: any number that is not zero, so that nothing may take it for one.
const START: Timestamp = Timestamp::from_millis(1_000_000);
/// The same on the wall: the beginning of 2026.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// Fixed: the same file gives the same result each time.
const SEED: u64 = 7;

/// Sends the requests of one case.
#[derive(Debug)]
pub(super) struct Player<'w> {
    world: &'w World,
    rng: fastrand::Rng,
    now: Timestamp,
}

/// What came of a step.
#[derive(Debug)]
pub(super) struct Observed {
    /// The last of its requests.
    pub(super) last: Seen,
    /// All of them, by backend or status.
    pub(super) counts: BTreeMap<Whither, u32>,
    pub(super) times: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whither {
    Backend(BackendName),
    Status(u16),
}

/// What came of one request.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) route: Option<String>,
    pub(super) rule: Option<String>,
    pub(super) backend: Option<BackendName>,
    pub(super) reason: Option<Reason>,
    pub(super) response: response::Parts,
    pub(super) grpc: Option<u8>,
    /// As the backend was asked.
    pub(super) forwarded: Option<request::Parts>,
    pub(super) mirrors: Vec<BackendName>,
    pub(super) attempts: u32,
    pub(super) decisions: Vec<String>,
}

impl Seen {
    fn nothing() -> Self {
        Self {
            route: None,
            rule: None,
            backend: None,
            reason: None,
            response: Response::new(()).into_parts().0,
            grpc: None,
            forwarded: None,
            mirrors: Vec::new(),
            attempts: 0,
            decisions: Vec::new(),
        }
    }

    fn refused(&mut self, reply: LocalReply, grpc: bool) {
        let answer = reply.reason.answer();
        self.reason = Some(reply.reason);
        self.grpc = grpc.then_some(answer.grpc);
        if !grpc {
            let written = reply.written.as_ref().and_then(|written| written.status);
            self.response.status = written.unwrap_or(answer.status);
        }
        self.response.headers.extend(reply.headers);
    }
}

impl<'w> Player<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        Self { world, rng: fastrand::Rng::with_seed(SEED), now: START }
    }

    /// # Errors
    /// The step cannot be read.
    pub(super) fn step(&mut self, step: &Step) -> Result<Observed, String> {
        if let Some(at) = step.at {
            self.now = self.now.max(START + at.get());
        }
        let mut counts = BTreeMap::new();
        let mut last = Seen::nothing();
        for number in 0..step.times {
            last = self.request(step, number)?;
            let status = || Whither::Status(last.response.status.as_u16());
            *counts.entry(last.backend.clone().map_or_else(status, Whither::Backend)).or_default() += 1;
        }
        Ok(Observed { last, counts, times: step.times })
    }

    /// The story of a request, as the proxy tells it.
    fn request(&mut self, step: &Step, number: u32) -> Result<Seen, String> {
        let mut seen = Seen::nothing();
        let Some(mut sent) = sent(self.world, step, number)? else {
            seen.refused(Reason::BadRequest.into(), false);
            return Ok(seen);
        };
        let (mut decisions, mut wanted, mut progress) =
            (Decisions::new(), HeaderMap::new(), Progress::default());
        let selected = match self.route(&sent, step.sni.as_deref(), &mut decisions, &mut wanted) {
            Ok(selected) => selected,
            Err(reason) => {
                seen.refused(reason.into(), sent.grpc);
                return Ok(seen);
            }
        };
        seen.route = selected.rule.route.as_deref().map(str::to_owned);
        seen.rule = Some(selected.rule.name.to_string());
        let (mut held, now) = (Vec::new(), self.now);
        let filters = &selected.target().filters;
        let mut cx = RequestContext {
            head: &mut sent.head,
            peer: &self.world.peer,
            route: selected.rule.route.as_deref(),
            now: self.now,
            unix: &|| EPOCH + now.since(START),
            rng: &mut self.rng,
            decisions: &mut decisions,
            response_headers: &mut wanted,
            claims: &mut None,
            held: &mut held,
        };
        let mut judged = pipeline::on_request(filters, &mut cx, &mut progress);
        while let Ok(Flow::Effect(effect)) = judged {
            let performed = match effect {
                Effect::Wait(wait) => {
                    cx.now = cx.now + wait;
                    Performed::Waited
                }
                // A case has no store: what needs one does as if it did not answer.
                Effect::Spend(_) => Performed::Unanswered,
            };
            judged = pipeline::resume(filters, &mut cx, &mut progress, &performed);
        }
        let outcome =
            judged.and_then(|_| Ok(self.forward(&selected, &sent, step, &mut seen, &mut decisions)?));
        match outcome {
            Ok(response) => seen.response = response,
            Err(Stop::Refused(reply)) => seen.refused(reply, sent.grpc),
            Err(Stop::Answered(reply)) => {
                seen.response.status = reply.status;
                seen.response.headers.extend(reply.headers);
            }
        }
        pipeline::answered(&mut held, &seen.response, self.now);
        pipeline::conclude(filters, progress, wanted, &mut seen.response);
        seen.decisions = decisions.iter().map(words).collect();
        Ok(seen)
    }

    fn route(
        &mut self,
        sent: &Sent,
        sni: Option<&str>,
        decisions: &mut Decisions,
        response_headers: &mut HeaderMap,
    ) -> Result<Selected, Reason> {
        let snapshot = &self.world.snapshot;
        if let (Scope::Gateway(bind), Some(name)) = (sent.scope, sni)
            && snapshot.is_misdirected(bind, name, &sent.head)
        {
            return Err(Reason::Misdirected);
        }
        if let Scope::OutboundTo(address) = sent.scope
            && !snapshot.serves(address)
        {
            return Ok(Selected::passthrough(address, AppProtocol::Http1));
        }
        let now = self.now;
        let mut cx = PickContext {
            head: &sent.head,
            peer: &self.world.peer,
            secure: sni.is_some(),
            unix: &|| EPOCH + now.since(START),
            rng: &mut self.rng,
            decisions,
            response_headers,
        };
        Selected::pick(snapshot.find(sent.scope, &sent.head)?, &mut cx)
    }

    /// Calls the backend, as often as the rule says.
    fn forward(
        &mut self,
        selected: &Selected,
        sent: &Sent,
        step: &Step,
        seen: &mut Seen,
        decisions: &mut Decisions,
    ) -> Result<response::Parts, LocalReply> {
        let target = selected.target();
        let copies = target.copies(&mut self.rng).filter_map(|copy| copy.target().backend.as_ref().ok());
        seen.mirrors = copies.map(|backend| backend.name.clone()).collect();
        let backend = target.backend.as_ref().map_err(|reason| *reason)?;
        seen.backend = Some(backend.name.clone());
        let mut retries = selected.rule.retry.as_ref().map(|rule| Retries::new(rule, &sent.head.method));
        if retries.is_some() {
            backend.retry_budget.request(self.now);
        }
        let timeouts = selected.rule.timeouts;
        let ends = timeouts.request.map(|limit| self.now + limit);
        let (usual, mut tried) = (AnswerSpec::default(), Vec::new());
        loop {
            let prefer = selected.session.as_ref().map(|session| &session.endpoint);
            let wish = Wish { prefer, avoid: &tried };
            let mut attempt = admit(target, backend, wish, self.now, &mut self.rng, decisions)?;
            tried.push(attempt.endpoint.clone());
            let answer = step.answers.get(seen.attempts as usize).or(step.answers.last()).unwrap_or(&usual);
            seen.attempts += 1;
            seen.forwarded = Some(sent.head.clone());
            let left = ends.map(|ends| ends.since(self.now));
            let (result, latency) = ended(answer, sent.grpc, timeouts, left);
            self.now = self.now + latency;
            attempt.record(CallOutcome { result, latency }, self.now);
            let over = ends.is_some_and(|ends| self.now >= ends && latency > Duration::ZERO);
            let ended = Ended { result, unsent: false, replayable: true };
            let next = retries.as_mut().filter(|_| !over);
            let next = next.map(|next| next.next(ended, &backend.retry_budget, self.now, &mut self.rng));
            match next {
                Some(Next::Again { after }) => self.now = self.now + after,
                Some(Next::Settled(_)) | None => {
                    let mut head = answered(answer, result, seen)?;
                    let at = (false, EPOCH + self.now.since(START));
                    selected.remember(&attempt.endpoint, || at, &mut head.headers);
                    return Ok(head);
                }
            }
            if ends.is_some_and(|ends| self.now >= ends) {
                return Err(Reason::RequestTimeout.into());
            }
        }
    }
}

/// How an attempt ends, and after how long.
fn ended(
    answer: &AnswerSpec,
    grpc: bool,
    timeouts: Timeouts,
    left: Option<Duration>,
) -> (CallResult, Duration) {
    let result = match (answer.fails, answer.grpc) {
        (Some(FailureSpec::Refused), _) => CallResult::Failed(Reason::ConnectFailed),
        (Some(FailureSpec::Reset), _) => CallResult::Failed(Reason::UpstreamReset),
        (None, Some(code)) => CallResult::Grpc(code),
        (None, None) if grpc && answer.status.is_none() => CallResult::Grpc(0),
        (None, None) => CallResult::Status(answer.status.unwrap_or(200)),
    };
    let latency = answer.after.map_or(Duration::ZERO, |after| after.get());
    match [timeouts.backend_request, left].into_iter().flatten().min() {
        Some(limit) if latency >= limit => (CallResult::Failed(Reason::RequestTimeout), limit),
        _ => (result, latency),
    }
}

fn answered(answer: &AnswerSpec, result: CallResult, seen: &mut Seen) -> Result<response::Parts, LocalReply> {
    let mut head = Response::new(()).into_parts().0;
    match result {
        CallResult::Failed(reason) => return Err(reason.into()),
        CallResult::Grpc(code) => seen.grpc = Some(code),
        CallResult::Connected => {}
        CallResult::Status(status) => head.status = status.try_into().map_err(|_| Reason::Internal)?,
    }
    for (name, value) in headers(&answer.headers).map_err(|_| Reason::Internal)? {
        head.headers.append(name, value);
    }
    Ok(head)
}

/// `RateLimitPolicy shop/strict everyone: refused remaining=0`.
fn words(decision: &Decision) -> String {
    let Decision { policy, rule, outcome, detail } = decision;
    let outcome = match outcome {
        Outcome::Allowed => String::from("allowed"),
        Outcome::Refused(reason) => format!("refused {}", reason.flag()),
        Outcome::WouldRefuse(reason) => format!("would refuse {}", reason.flag()),
        Outcome::Picked => String::from("picked"),
        Outcome::WouldPick => String::from("would pick"),
    };
    let detail = detail.map(|detail| format!(" {detail}")).unwrap_or_default();
    format!("{} {} {}: {outcome}{detail}", policy.kind, policy.name, rule.name)
}
