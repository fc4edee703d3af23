//! What holds for the calls to one target: retries and limits of time, as the rule and the policies on the way say it.
//!
//! Merged once, when the snapshot is built. What a route's rule (or a `Backend`) writes itself wins over an attached
//! policy, field by field: who writes it there means this one, the policy means all.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use super::conditions::{Condition, RetryOn};
use super::deadline::DeadlineRule;
use super::hedge::Hedge;
use super::latency::Latency;
use super::retry::Settled;
use super::{BudgetShare, retry};
use crate::decision::{Decision, Decisions, Detail, Outcome, RuleRef};
use crate::model::{Mode, PolicyRef, Retry, Timeouts};
use crate::reason::Reason;
use crate::time::Timestamp;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct CallPlan {
    pub times: TimeLimits,
    pub retry: Option<Arc<RetryRule>>,
    /// Policies that only tell what they would have done.
    pub shadow: Shadow,
    /// How long the backend takes, where somebody asks for it.
    pub latency: Option<Arc<Latency>>,
}

/// Policies in `mode: Shadow`.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    pub retry: Option<Arc<RetryRule>>,
    pub times: Option<Arc<TimeoutRule>>,
}

/// The policy and the line that something follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub policy: Arc<PolicyRef>,
    pub rule: Arc<RuleRef>,
}

/// A limit of time, and whose it is: `None` for what the object itself writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub after: Duration,
    pub said: Option<Arc<Said>>,
}

/// How long a whole request may take, and what it is answered with then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub limit: Limit,
    /// [`Reason::DeadlineExceeded`] where the caller said so, [`Reason::RequestTimeout`] where we did.
    pub reason: Reason,
}

/// How long the parts of a call may take. `None`: nobody limits it, or only the proxy's own settings do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeLimits {
    /// For a connection to an endpoint, its TLS handshake included.
    pub connect: Option<Limit>,
    /// From the request's head to the last byte of the answer, retries and waits included; to its head where `stream` is
    /// written.
    pub request: Option<Limit>,
    /// One attempt, as `request`.
    pub per_try: Option<Limit>,
    /// Between two pieces of an answer's body.
    pub idle: Option<Limit>,
    /// From the head of an answer to its end; also of a tunnel.
    pub stream: Option<Limit>,
    pub deadline: Option<Arc<DeadlineRule>>,
    /// For a client to send the head of a request, by HTTP/1, from its first byte on. Of connections, not of calls.
    pub header: Option<Limit>,
}

/// A `TimeoutPolicy`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutRule {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
    pub times: TimeLimits,
}

/// When and how often a request is sent again: a `RetryPolicy`, or the `retry` of a route's rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRule {
    /// `None`: only the route's rule says so.
    pub said: Option<Said>,
    pub mode: Mode,
    pub on: RetryOn,
    /// Retries and hedges together: one less than the most requests that one request can become.
    pub attempts: u32,
    pub per_try: Option<Duration>,
    pub backoff: Backoff,
    /// The longest wait that an answer may ask for; `None`: what answers ask for is not looked at.
    pub max_wait: Option<Duration>,
    /// Only these; empty for all.
    pub methods: Box<[Method]>,
    /// Repeats what is not idempotent too.
    pub allow_unsafe: bool,
    pub budget: BudgetShare,
    /// The most of a body that is kept for another attempt, in bytes.
    pub body_limit: usize,
    pub hedge: Option<Hedge>,
    /// Tells clients how often a backend was asked.
    pub tell_attempts: bool,
}

/// How long to wait before another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Anything up to `base`, then up to twice that, …, up to `max` ("full jitter").
    Exponential { base: Duration, max: Duration },
    /// Never less than this (GEP-1731), and as much again or more on top, by chance.
    AtLeast(Duration),
}

/// No request lasts longer than this, whatever its caller says.
const LONGEST: Duration = Duration::from_secs(9600 * 3600);
/// What is kept of a body where nobody says otherwise.
pub const DEFAULT_BODY_LIMIT: usize = 64 * 1024;

impl Said {
    pub fn decide(&self, outcome: Outcome, detail: Option<Detail>) -> Decision {
        Decision { policy: self.policy.clone(), rule: self.rule.clone(), outcome, detail }
    }
}

impl Limit {
    /// The word of the policy whose limit was reached.
    pub fn reached(&self, reason: Reason) -> Option<Decision> {
        self.said.as_ref().map(|said| said.decide(Outcome::Refused(reason), None))
    }

    const fn own(after: Duration) -> Self {
        Self { after, said: None }
    }
}

impl CallPlan {
    /// `rule`: what the route's rule writes. Policies in Shadow change nothing of it.
    pub fn new(
        (timeouts, stanza): (Timeouts, Option<&Retry>),
        retry: Option<&Arc<RetryRule>>,
        times: Option<&Arc<TimeoutRule>>,
    ) -> Self {
        let shadow = Shadow {
            retry: retry.filter(|rule| rule.mode == Mode::Shadow).cloned(),
            times: times.filter(|rule| rule.mode == Mode::Shadow).cloned(),
        };
        let retry = retry.filter(|rule| rule.mode == Mode::Enforce);
        let times = times.filter(|rule| rule.mode == Mode::Enforce);
        let mut limits = times.map_or_else(TimeLimits::default, |rule| rule.times.clone());
        if let Some((rule, after)) = retry.and_then(|rule| Some((rule, rule.per_try?))) {
            limits.per_try = Some(Limit { after, said: rule.said.clone().map(Arc::new) });
        }
        if let Some(after) = timeouts.request {
            limits.request = Some(Limit::own(after));
        }
        if let Some(after) = timeouts.backend_request {
            limits.per_try = Some(Limit::own(after));
        }
        let retry = match (stanza, retry) {
            (None, retry) => retry.cloned(),
            (Some(stanza), None) => Some(Arc::new(stanza.into())),
            (Some(stanza), Some(rule)) => Some(Arc::new(rule.under(stanza))),
        };
        Self { times: limits, retry, shadow, latency: None }
    }

    /// How long this request may take: the shorter of what is written and what its caller says.
    pub fn allowed(&self, headers: &HeaderMap, grpc: bool, from_outside: bool) -> Option<Allowed> {
        let written =
            self.times.request.clone().map(|limit| Allowed { limit, reason: Reason::RequestTimeout });
        let deadline = self.times.deadline.as_ref();
        let asked = deadline.and_then(|rule| Some((rule, rule.asked(headers, grpc, from_outside)?)));
        let asked = asked.map(|(rule, after)| {
            let limit = Limit { after: after.min(LONGEST), said: Some(rule.said.clone()) };
            Allowed { limit, reason: Reason::DeadlineExceeded }
        });
        [written, asked].into_iter().flatten().min_by_key(|allowed| allowed.limit.after)
    }

    /// Asked before each attempt, with so much time `left` for the whole request: tells the next hop how long it has.
    ///
    /// # Errors
    /// [`Reason::DeadlineExceeded`]: the call would be for nobody.
    pub fn attempt(
        &self,
        (left, grpc): (Option<Duration>, bool),
        now: Timestamp,
        headers: &mut HeaderMap,
        decisions: &mut Decisions,
    ) -> Result<(), Reason> {
        let Some(rule) = &self.times.deadline else { return Ok(()) };
        if let Some(left) = left {
            let latency = self.latency.as_ref().filter(|_| rule.refuse_hopeless);
            if !rule.is_worth_it(left, latency.and_then(|latency| latency.quantile(500, now))) {
                decisions.push(rule.said.decide(Outcome::Refused(Reason::DeadlineExceeded), None));
                return Err(Reason::DeadlineExceeded);
            }
        }
        let attempt = self.times.per_try.as_ref().map(|limit| limit.after);
        rule.tell([left, attempt].into_iter().flatten().min(), grpc, headers);
        Ok(())
    }

    /// What a deadline in Shadow would have refused, before any call.
    pub fn shadow_deadline(&self, headers: &HeaderMap, grpc: bool, from_outside: bool) -> Option<Decision> {
        let rule = self.shadow.times.as_ref()?.times.deadline.as_ref()?;
        let asked = rule.asked(headers, grpc, from_outside)?;
        let refused = !rule.is_worth_it(asked, None);
        refused.then(|| rule.said.decide(Outcome::WouldRefuse(Reason::DeadlineExceeded), None))
    }

    /// Whether anything here asks how long the backend usually takes.
    pub fn asks_latency(&self) -> bool {
        let hedges = self.retry.as_ref().and_then(|rule| rule.hedge.as_ref());
        let hopeless = self.times.deadline.as_ref().is_some_and(|deadline| deadline.refuse_hopeless);
        hopeless || hedges.is_some_and(Hedge::asks_latency)
    }

    /// What policies in Shadow would have done about an attempt that was the answer.
    pub fn shadow_retry(&self, ended: retry::Ended, method: &Method) -> Option<Decision> {
        let rule = self.shadow.retry.as_ref()?;
        let said = rule.said.as_ref()?;
        match retry::Retries::new(rule, method).judge(ended) {
            Ok(()) => Some(said.decide(Outcome::WouldRetry, None)),
            Err(Settled::NotRetried) => None,
            Err(settled) => Some(said.decide(Outcome::NotRetried, Some(Detail::Settled(settled)))),
        }
    }

    /// What a TimeoutPolicy in Shadow says of an answer whose head came after `latency`, or has not come by then.
    pub fn shadow_timeout(&self, latency: Duration) -> Option<Decision> {
        let times = &self.shadow.times.as_ref()?.times;
        let limits = [&times.per_try, &times.request].into_iter().flatten();
        let reached = limits.filter(|limit| latency >= limit.after).min_by_key(|limit| limit.after)?;
        let said = reached.said.as_ref()?;
        Some(said.decide(Outcome::WouldRefuse(Reason::RequestTimeout), None))
    }
}

impl RetryRule {
    /// With what a route's rule says in place of what this does.
    fn under(&self, stanza: &Retry) -> Self {
        let mut rule = self.clone();
        for always in [Condition::ConnectFailure, Condition::Refused, Condition::Reset, Condition::Timeout] {
            rule.on.add(always);
        }
        if !stanza.codes.is_empty() {
            rule.on.only_statuses(stanza.codes.clone());
        }
        rule.attempts = stanza.attempts;
        if let Some(least) = stanza.backoff {
            rule.backoff = Backoff::AtLeast(least);
        }
        rule
    }
}

/// GEP-1731: connection errors are tried again wherever there is a stanza.
impl From<&Retry> for RetryRule {
    fn from(stanza: &Retry) -> Self {
        let conditions =
            [Condition::ConnectFailure, Condition::Refused, Condition::Reset, Condition::Timeout];
        Self {
            said: None,
            mode: Mode::Enforce,
            on: RetryOn::new(&conditions, stanza.codes.clone(), &[]),
            attempts: stanza.attempts,
            per_try: None,
            backoff: stanza.backoff.map_or_else(Backoff::default, Backoff::AtLeast),
            max_wait: None,
            methods: Box::default(),
            allow_unsafe: false,
            budget: BudgetShare::default(),
            body_limit: DEFAULT_BODY_LIMIT,
            hedge: None,
            tell_attempts: false,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential { base: Duration::from_millis(25), max: Duration::from_millis(250) }
    }
}
