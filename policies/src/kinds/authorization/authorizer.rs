//! WHERE ACCESS IS DECIDED: the policies of one target, together.
//!
//! Deny rules first, whatever allows; then, where something must allow, whether anything does. Policies in Shadow are asked
//! after those that hold, of what these let pass: what would be refused if they held as well.

use std::sync::Arc;

use super::Authorization;
use super::rule::{Action, Asked, Rule};
use super::truth::Truth;
use crate::decision::{Decision, Decisions, Detail, Outcome, RuleRef};
use crate::expression::Facts;
use crate::model::PolicyRef;
use crate::pipeline::{ConnectionContext, Cut, Filter, Ongoing, Phase, RequestContext, Verdict};
use crate::reason::Reason;

/// One level of those that a request must pass.
#[derive(Debug)]
pub(crate) struct Authorizer {
    /// Of one target; the one first that is told where none of them allows.
    policies: Box<[Arc<Authorization>]>,
    /// Where requests and connections arrive that meet this.
    port: Option<u16>,
}

/// What the rules say, and which of them.
enum Ruling<'a> {
    /// Nothing forbids it, and nothing has to allow it.
    Silent,
    Allowed(Word<'a>),
    Denied(Word<'a>),
}

struct Word<'a> {
    policy: &'a Arc<PolicyRef>,
    rule: &'a Arc<RuleRef>,
    /// What was known of the match.
    sure: bool,
}

impl Authorizer {
    pub(crate) fn new(policies: impl IntoIterator<Item = Arc<Authorization>>, port: Option<u16>) -> Self {
        Self { policies: policies.into_iter().collect(), port }
    }

    /// Whether it is let pass. What is decided of it is written to `decisions`.
    fn judge(&self, asked: &Asked<'_>, decisions: &mut Decisions) -> bool {
        for (policy, rule) in self.policies.iter().flat_map(|policy| policy.of(Action::Audit)) {
            if rule.matches(asked) == Truth::Yes {
                decisions.push(Word { policy, rule: &rule.rule, sure: true }.decides(Outcome::Audited));
            }
        }
        let enforced = || self.policies.iter().filter(|policy| !policy.shadow);
        match rule(enforced, asked) {
            Ruling::Denied(word) => {
                decisions.push(word.decides(Outcome::Refused(Reason::AccessDenied)));
                return false;
            }
            Ruling::Allowed(word) => decisions.push(word.decides(Outcome::Allowed)),
            Ruling::Silent => {}
        }
        if self.policies.iter().any(|policy| policy.shadow)
            && let Ruling::Denied(word) = rule(|| self.policies.iter(), asked)
        {
            decisions.push(word.decides(Outcome::WouldRefuse(Reason::AccessDenied)));
        }
        true
    }
}

/// What these policies say together; the order in which they come decides only who is named.
fn rule<'a, I: Iterator<Item = &'a Arc<Authorization>>>(
    policies: impl Fn() -> I,
    asked: &Asked<'_>,
) -> Ruling<'a> {
    for (policy, rule) in policies().flat_map(|policy| policy.of(Action::Deny)) {
        let matches = rule.matches(asked);
        if matches >= Truth::Unknown {
            return Ruling::Denied(Word { policy, rule: &rule.rule, sure: matches == Truth::Yes });
        }
    }
    let mut undecided = None;
    for (policy, rule) in policies().flat_map(|policy| policy.of(Action::Allow)) {
        let word = |sure| Word { policy, rule: &rule.rule, sure };
        match rule.matches(asked) {
            Truth::Yes => return Ruling::Allowed(word(true)),
            Truth::Unknown => undecided = undecided.or(Some(word(false))),
            Truth::No => {}
        }
    }
    let closed = policies()
        .find_map(|policy| Some(Word { policy: &policy.policy, rule: policy.closed.as_ref()?, sure: true }));
    match closed {
        Some(closed) => Ruling::Denied(undecided.unwrap_or(closed)),
        None => Ruling::Silent,
    }
}

impl Authorization {
    fn of(&self, action: Action) -> impl Iterator<Item = (&Arc<PolicyRef>, &Rule)> {
        self.rules.iter().filter(move |rule| rule.action == action).map(|rule| (&self.policy, rule))
    }
}

impl Word<'_> {
    fn decides(&self, outcome: Outcome) -> Decision {
        let detail = (!self.sure).then_some(Detail::Undecidable);
        Decision { policy: self.policy.clone(), rule: self.rule.clone(), outcome, detail }
    }
}

impl Filter for Authorizer {
    fn phase(&self) -> Phase {
        Phase::Authorize
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        let request = Facts { head: cx.head, peer: cx.peer, route: cx.route, claims: cx.claims.as_deref() };
        let asked = Asked { peer: cx.peer, port: self.port, server_name: None, request: Some(request) };
        match self.judge(&asked, cx.decisions) {
            true => Verdict::Continue,
            false => Verdict::Reply(Reason::AccessDenied.into()),
        }
    }

    /// Where there are requests, they are judged one by one, when more is known.
    fn on_connection(&self, cx: &mut ConnectionContext<'_>) -> Result<(), Cut> {
        if !cx.carried {
            return Ok(());
        }
        let asked = Asked { peer: cx.peer, port: self.port, server_name: cx.server_name, request: None };
        if self.judge(&asked, cx.decisions) { Ok(()) } else { Err(DENIED) }
    }

    fn on_change(&self, cx: &mut Ongoing<'_>) -> Result<(), Cut> {
        let request = cx.opened_by.map(|opened| Facts {
            head: opened.head,
            peer: cx.peer,
            route: opened.route,
            claims: opened.claims,
        });
        let asked = Asked { peer: cx.peer, port: self.port, server_name: cx.server_name, request };
        if self.judge(&asked, cx.decisions) { Ok(()) } else { Err(DENIED) }
    }
}

/// By a reset, which nobody takes for the end of an answer.
const DENIED: Cut = Cut { reason: Reason::AccessDenied, reset: true };
