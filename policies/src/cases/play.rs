use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response, request, response};

use super::coverage::{policy_words, route_words};
use super::format::{AnswerSpec, FailureSpec, FoundSpec, Step};
use super::request::{Sent, headers, sent};
use super::world::World;
use crate::balance::EndpointState;
use crate::decision::{CallResult, Decision};
use crate::health::check::{Cause, CheckRule, Finding};
use crate::model::BackendName;
use crate::story::{self, Answer, Asked, Call, Story, Teller};
use crate::{Outcome, Reason, Timestamp};

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
    teller: Teller<'w>,
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
    /// The proxy has refused the target.
    fn unreadable() -> Self {
        Self { reason: Some(Reason::BadRequest), ..Self::nothing() }.with_status(Reason::BadRequest)
    }

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

    fn with_status(mut self, reason: Reason) -> Self {
        self.response.status = reason.answer().status;
        self
    }

    /// What a story says at its end.
    fn of(mut story: Story) -> Self {
        story.conclude();
        let told = story.told;
        let rule = told.selected.as_ref().map(|selected| &selected.rule);
        let route = rule.and_then(|rule| rule.route.as_deref());
        let route_shown = rule.zip(route).map(|(rule, route)| route_words(route, &rule.name));
        Self {
            route: route.map(str::to_owned),
            rule: rule.map(|rule| rule.name.to_string()),
            backend: told.backend().map(|backend| backend.name.clone()),
            endpoint: told.endpoint.as_ref().map(|endpoint| endpoint.label.to_string()),
            reason: told.reason,
            grpc: told.grpc,
            forwarded: (told.attempts > 0).then_some(*story.head),
            mirrors: told.mirrors.iter().map(|backend| backend.name.clone()).collect(),
            attempts: told.attempts,
            decisions: told.decisions.iter().map(words).collect(),
            // What precedes the choice of a rule has no place in what is shown.
            shown: match rule {
                Some(_) => route_shown.into_iter().chain(told.decisions.iter().map(policy_words)).collect(),
                None => Vec::new(),
            },
            response: told.response,
        }
    }
}

impl<'w> Player<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        let teller = Teller {
            snapshot: &world.snapshot,
            epoch: EPOCH - START.since(Timestamp::ZERO),
            connects: true,
            rng: fastrand::Rng::with_seed(SEED),
        };
        Self { world, teller, now: START }
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
                        guard.report(place, finding, self.now, &mut self.teller.rng);
                    }
                }
            }
        }
        if any { Ok(()) } else { Err(format!("no check {} of {}", found.check, found.endpoint)) }
    }

    /// One request from its beginning to its end, with nobody else under way.
    fn request(&mut self, step: &Step, number: u32) -> Result<Seen, String> {
        let Some(Sent { head, scope, grpc }) = sent(self.world, step, number)? else {
            return Ok(Seen::unreadable());
        };
        let mut story = Story::new(self.world.peer.clone());
        *story.head = head;
        let asked = Asked { scope, sni: step.sni.as_deref(), grpc };
        let mut backends = |call: &Call<'_>, sends: &mut HeaderMap| answer(step, call, sends);
        let mut next = self.teller.begin(&mut story, &asked, self.now, &mut backends);
        loop {
            match next {
                story::Step::Done => return Ok(Seen::of(story)),
                // The case's own clock stands still: whoever wants time to pass writes `at`.
                story::Step::Waits(_) => {}
                story::Step::Turn(ticket) => ticket.give_up(),
                story::Step::Until(then) => self.now = then,
            }
            next = self.teller.resume(&mut story, self.now, &mut backends);
        }
    }
}

/// What an endpoint answers to an attempt.
fn answer(step: &Step, call: &Call<'_>, sends: &mut HeaderMap) -> Answer {
    if step.down.iter().any(|down| **down == *call.endpoint.label) {
        return Answer { result: CallResult::Failed(Reason::ConnectFailed), latency: Duration::ZERO };
    }
    let none = AnswerSpec::default();
    let written = step.answers.get(call.attempt as usize).or(step.answers.last()).unwrap_or(&none);
    let result = match (written.fails, written.grpc) {
        (Some(FailureSpec::Refused), _) => CallResult::Failed(Reason::ConnectFailed),
        (Some(FailureSpec::Reset), _) => CallResult::Failed(Reason::UpstreamReset),
        (None, Some(code)) => CallResult::Grpc(code),
        (None, None) if call.grpc && written.status.is_none() => CallResult::Grpc(0),
        (None, None) => CallResult::Status(written.status.unwrap_or(200)),
    };
    let latency = written.after.map_or(Duration::ZERO, |after| after.get());
    match headers(&written.headers) {
        Ok(all) => {
            sends.extend(all);
            Answer { result, latency }
        }
        Err(_) => Answer { result: CallResult::Failed(Reason::Internal), latency },
    }
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
