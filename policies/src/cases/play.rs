use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response, request, response};

use super::coverage::{policy_words, route_words};
use super::format::{AnswerSpec, FailureSpec, FoundSpec, Step};
use super::request::{Sent, headers, sent};
use super::world::World;
use crate::balance::{EndpointState, Wish};
use crate::call::{Ended, Limit, Next, Pushback, Retries, admit, retry};
use crate::decision::{CallOutcome, CallResult, Decision};
use crate::health::check::{Cause, CheckRule, Finding};
use crate::model::{AppProtocol, BackendName};
use crate::pick::PickContext;
use crate::pipeline::{
    self, ConnectionContext, Effect, Flow, LocalReply, Performed, Progress, RequestContext, Stop,
};
use crate::snapshot::{Scope, Selected};
use crate::{Decisions, Outcome, Reason, Timestamp};

/// The beginning of every case: any number that is not zero, so that nothing may take it for one.
const START: Timestamp = Timestamp::from_millis(1_000_000);
/// The same on the wall: the beginning of 2026.
const EPOCH: Duration = Duration::from_secs(1_767_225_600);
/// Fixed: the same file gives the same result each time.
const SEED: u64 = 7;

/// The port of every sidecar.
const INBOUND: u16 = 8080;

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
    /// The same by endpoint.
    pub(super) endpoints: BTreeMap<String, u32>,
    pub(super) times: u32,
    /// The rules that have decided something, see [`super::Coverage`].
    pub(super) shown: BTreeSet<String>,
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
    pub(super) endpoint: Option<String>,
    pub(super) reason: Option<Reason>,
    pub(super) response: response::Parts,
    pub(super) grpc: Option<u8>,
    /// As the backend was asked.
    pub(super) forwarded: Option<request::Parts>,
    pub(super) mirrors: Vec<BackendName>,
    pub(super) attempts: u32,
    pub(super) decisions: Vec<String>,
    /// The rules that have decided something.
    pub(super) shown: Vec<String>,
}

impl Seen {
    fn nothing() -> Self {
        Self {
            route: None,
            rule: None,
            backend: None,
            endpoint: None,
            reason: None,
            response: Response::new(()).into_parts().0,
            grpc: None,
            forwarded: None,
            mirrors: Vec::new(),
            attempts: 0,
            decisions: Vec::new(),
            shown: Vec::new(),
        }
    }

    fn refused(&mut self, reply: LocalReply, grpc: bool) {
        let answer = reply.reason.answer();
        self.reason = Some(reply.reason);
        self.grpc = grpc.then_some(reply.grpc());
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
        step.checks.iter().try_for_each(|found| self.check(found))?;
        let (mut counts, mut endpoints) = (BTreeMap::new(), BTreeMap::<_, u32>::new());
        let mut shown = BTreeSet::new();
        let mut last = Seen::nothing();
        for number in 0..step.times {
            last = self.request(step, number)?;
            shown.extend(std::mem::take(&mut last.shown));
            let status = || Whither::Status(last.response.status.as_u16());
            let called = last.backend.clone().filter(|_| last.attempts > 0);
            *counts.entry(called.map_or_else(status, Whither::Backend)).or_default() += 1;
            if let Some(endpoint) = &last.endpoint {
                *endpoints.entry(endpoint.clone()).or_default() += 1;
            }
        }
        Ok(Observed { last, counts, endpoints, times: step.times, shown })
    }

    fn check(&mut self, found: &FoundSpec) -> Result<(), String> {
        let failed = Finding::Failed(Cause::ConnectFailed);
        let findings = [(failed, found.fails), (Finding::Passed, found.passes)];
        let mut any = false;
        for guard in self.world.snapshot.checks() {
            let is_it = |(rule, endpoint): (&CheckRule, &Arc<EndpointState>)| {
                *rule.rule.name == *found.check && *endpoint.label == *found.endpoint
            };
            for place in guard.places().filter(|place| is_it(guard.at(*place))) {
                any = true;
                for (finding, times) in findings {
                    for _ in 0..times {
                        guard.report(place, finding, self.now, &mut self.rng);
                    }
                }
            }
        }
        if any { Ok(()) } else { Err(format!("no check {} of {}", found.check, found.endpoint)) }
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
        let mut selected = match self.route(&sent, step.sni.as_deref(), &mut decisions, &mut wanted) {
            Ok(selected) => selected,
            Err(reason) => {
                seen.refused(reason.into(), sent.grpc);
                seen.decisions = decisions.iter().map(words).collect();
                return Ok(seen);
            }
        };
        seen.route = selected.rule.route.as_deref().map(str::to_owned);
        seen.rule = Some(selected.rule.name.to_string());
        seen.shown.extend(seen.route.iter().map(|route| route_words(route, &selected.rule.name)));
        let (mut held, now) = (Vec::new(), self.now);
        let (filters, mut claims) = (selected.rule.clone(), None);
        let filters = &filters.targets[selected.position()].filters;
        let mut cx = RequestContext {
            head: &mut sent.head,
            peer: &self.world.peer,
            route: selected.rule.route.as_deref(),
            now: self.now,
            unix: &|| EPOCH + now.since(START),
            rng: &mut self.rng,
            decisions: &mut decisions,
            response_headers: &mut wanted,
            claims: &mut claims,
            held: &mut held,
        };
        let mut judged = pipeline::on_request(filters, &mut cx, &mut progress);
        while let Ok(Flow::Effect(effect)) = judged {
            let performed = match effect {
                Effect::Wait(wait) => {
                    cx.now = cx.now + wait;
                    Performed::Waited
                }
                // No issuer answers in a case.
                Effect::Keys(_) => Performed::Waited,
                // Nobody else is under way in a case.
                Effect::Turn(ticket) => {
                    ticket.give_up();
                    Performed::Turned(ticket)
                }
                // A case has no store, no service and no plugin: what needs one does as if it did not answer.
                Effect::Spend(_) | Effect::Ask(_) | Effect::Plugin(_) => Performed::Unanswered,
            };
            judged = pipeline::resume(filters, &mut cx, &mut progress, &performed);
        }
        if let Some(claims) = &claims {
            selected.identified(&sent.head, &self.world.peer, claims);
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
        seen.shown.extend(decisions.iter().map(policy_words));
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
        if sent.scope == Scope::Inbound {
            // A connection for each request.
            let peer = &self.world.peer;
            let mut cx =
                ConnectionContext { peer, port: INBOUND, server_name: None, carried: false, now, decisions };
            let gate = snapshot.gate(sent.scope, None);
            pipeline::on_connection(&gate, &mut cx).map_err(|cut| cut.reason)?;
        }
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
        let (plan, outside) = (&target.plan, matches!(sent.scope, Scope::Gateway(_)));
        let rule = plan.retry.as_deref().filter(|rule| rule.attempts > 0);
        let mut retries = rule.map(|rule| Retries::new(rule, &sent.head.method));
        if retries.is_some() {
            backend.retry_budget.request(self.now);
        }
        decisions.extend(plan.shadow_deadline(&sent.head.headers, sent.grpc, outside));
        let allowed = plan.allowed(&sent.head.headers, sent.grpc, outside);
        let ends = allowed.as_ref().map(|allowed| self.now + allowed.limit.after);
        let mut tried = Vec::new();
        loop {
            let (left, mut head) = (ends.map(|ends| ends.since(self.now)), sent.head.clone());
            plan.attempt((left, sent.grpc), self.now, &mut head.headers, decisions)?;
            let prefer = selected.session.as_ref().map(|session| &session.endpoint);
            let wish = Wish { prefer, avoid: &tried, key: selected.key, counted: selected.counted };
            let mut attempt = admit(target, backend, wish, self.now, &mut self.rng, decisions)?;
            tried.push(attempt.endpoint.clone());
            seen.endpoint = Some(attempt.endpoint.label.to_string());
            let answer = &answer_of(step, seen.attempts, &attempt.endpoint.label);
            seen.attempts += 1;
            seen.forwarded = Some(head);
            let (result, latency) = ended(answer, sent.grpc, plan.times.per_try.as_ref(), left);
            self.now = self.now + latency;
            let now = self.now;
            let unix = || EPOCH + now.since(START);
            if let Some(head) = answer_head(answer, result)? {
                attempt.read(&head, &unix);
            }
            attempt.record(CallOutcome { result, latency }, self.now);
            if let Some(sketch) = &plan.latency {
                sketch.record(latency, self.now);
            }
            decisions.extend(plan.shadow_timeout(latency));
            let over =
                allowed.as_ref().filter(|allowed| ends == Some(self.now) && !allowed.limit.after.is_zero());
            if let Some(allowed) = over {
                decisions.extend(allowed.limit.reached(allowed.reason));
                return Err(allowed.reason.into());
            }
            if result == CallResult::Failed(Reason::RequestTimeout) {
                decisions.extend(
                    plan.times.per_try.as_ref().and_then(|limit| limit.reached(Reason::RequestTimeout)),
                );
            }
            let asked =
                headers(&answer.headers).ok().and_then(|all| Pushback::of(&all.into_iter().collect(), &unix));
            let ended = Ended { result, unsent: false, replayable: true, asked };
            decisions.extend(plan.shadow_retry(ended, &sent.head.method));
            let moment = (self.now, ends.map(|ends| ends.since(self.now)));
            let next = retries.as_mut().map(|retries| {
                let next = retries.next(ended, moment, &backend.retry_budget, &mut self.rng);
                decisions.extend(retries.decision(next));
                next
            });
            match next {
                Some(Next::Again { after }) if retry(target, selected.counted, decisions).is_ok() => {
                    self.now = self.now + after;
                }
                Some(_) | None => {
                    let mut head = answered(answer, result, seen)?;
                    let at = (false, EPOCH + self.now.since(START));
                    selected.remember(&attempt.endpoint, || at, &mut head.headers);
                    return Ok(head);
                }
            }
        }
    }
}

/// What an endpoint answers to an attempt, counted from 0.
fn answer_of(step: &Step, attempt: u32, endpoint: &str) -> AnswerSpec {
    if step.down.iter().any(|down| down == endpoint) {
        return AnswerSpec { fails: Some(FailureSpec::Refused), ..AnswerSpec::default() };
    }
    step.answers.get(attempt as usize).or(step.answers.last()).cloned().unwrap_or_default()
}

/// How an attempt ends, and after how long.
fn ended(
    answer: &AnswerSpec,
    grpc: bool,
    per_try: Option<&Limit>,
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
    match [per_try.map(|limit| limit.after), left].into_iter().flatten().min() {
        Some(limit) if latency >= limit => (CallResult::Failed(Reason::RequestTimeout), limit),
        _ => (result, latency),
    }
}

fn answered(answer: &AnswerSpec, result: CallResult, seen: &mut Seen) -> Result<response::Parts, LocalReply> {
    match result {
        CallResult::Failed(reason) => return Err(reason.into()),
        CallResult::Grpc(code) => seen.grpc = Some(code),
        CallResult::Connected | CallResult::Status(_) => {}
    }
    Ok(answer_head(answer, result)?.ok_or(Reason::Internal)?)
}

/// The head of the backend's response, if there is one.
fn answer_head(answer: &AnswerSpec, result: CallResult) -> Result<Option<response::Parts>, Reason> {
    let mut head = Response::new(()).into_parts().0;
    match result {
        CallResult::Failed(_) => return Ok(None),
        CallResult::Grpc(_) | CallResult::Connected => {}
        CallResult::Status(status) => head.status = status.try_into().map_err(|_| Reason::Internal)?,
    }
    for (name, value) in headers(&answer.headers).map_err(|_| Reason::Internal)? {
        head.headers.append(name, value);
    }
    Ok(Some(head))
}

/// `RateLimitPolicy shop/strict everyone: refused remaining=0`.
fn words(decision: &Decision) -> String {
    let Decision { policy, rule, outcome, detail } = decision;
    let outcome = match outcome {
        Outcome::Allowed => String::from("allowed"),
        Outcome::Audited => String::from("audited"),
        Outcome::Refused(reason) => format!("refused {}", reason.flag()),
        Outcome::WouldRefuse(reason) => format!("would refuse {}", reason.flag()),
        Outcome::Picked => String::from("picked"),
        Outcome::WouldPick => String::from("would pick"),
        Outcome::Retried => String::from("retried"),
        Outcome::Hedged => String::from("hedged"),
        Outcome::NotRetried => String::from("not retried"),
        Outcome::WouldRetry => String::from("would retry"),
        Outcome::Injected => String::from("injected"),
        Outcome::WouldInject => String::from("would inject"),
    };
    let detail = detail.map(|detail| format!(" {detail}")).unwrap_or_default();
    format!("{} {} {}: {outcome}{detail}", policy.kind, policy.name, rule.name)
}
