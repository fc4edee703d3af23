//! One rule: from whom, for what, with which claims and when; and what follows.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::operation::{Operation, OperationSpec};
use super::source::{Source, SourceSpec};
use super::truth::Truth;
use crate::decision::RuleRef;
use crate::expression::{ConnectionFacts, Expression, Facts, Kind};
use crate::jwt::{ClaimPath, plain};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::model::{Peer, TargetKind};

/// Matches where `from`, `to`, `claims` and `when` all do; what is left out does. Where the rule asks for what is not there (a
/// connection that is only carried has no method, an expression fails), nobody can tell: a Deny rule refuses then, and an
/// Allow rule does not let pass.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RuleSpec {
    /// For logs, traces and metrics; unique in the policy.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    action: Action,
    /// One of them must fit. Default: everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    from: Vec<SourceSpec>,
    /// One of them must fit. Default: everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    to: Vec<OperationSpec>,
    /// All of them must be claimed by a token that a JwtAuthenticationPolicy has verified.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    claims: Vec<ClaimSpec>,
    /// True or false, in CEL over `request`, `source`, `destination` and `jwt.claims`; ask by `has(…)` for what may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    when: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Action {
    Allow,
    /// Whatever else allows it.
    Deny,
    /// Is told of, in decisions, metrics and log, and changes nothing.
    Audit,
}

/// Write one of `claim` and `path`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClaimSpec {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    claim: Option<String>,
    /// Its name within another, from the outside in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    path: Vec<String>,
    /// It must be one of these, or a list with one of these. Numbers and truth values are written as texts.
    #[schemars(length(min = 1, max = 64), inner(length(max = 1024)))]
    values: Vec<String>,
}

/// What a claim must be one of.
type Claimed = (ClaimPath, Box<[Box<str>]>);

/// A rule that has passed validation.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) rule: Arc<RuleRef>,
    pub(super) action: Action,
    from: Box<[Source]>,
    to: Box<[Operation]>,
    claims: Box<[Claimed]>,
    when: Option<Arc<Expression>>,
}

/// Who asks for what.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) peer: &'a Peer,
    /// Where it arrives.
    pub(super) port: Option<u16>,
    /// Of a connection.
    pub(super) server_name: Option<&'a str>,
    /// `None` for a connection that is carried as a whole.
    pub(super) request: Option<Facts<'a>>,
}

const MOST: usize = 32;
const MOST_CLAIMS: usize = 16;
const MOST_VALUES: usize = 64;

impl RuleSpec {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn action(&self) -> Action {
        self.action
    }

    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Rule> {
        check::name(cx, &format!("{at}/name"), &self.name);
        at_most(cx, &format!("{at}/from"), self.from.len(), MOST);
        at_most(cx, &format!("{at}/to"), self.to.len(), MOST);
        at_most(cx, &format!("{at}/claims"), self.claims.len(), MOST_CLAIMS);
        let from = self.from.iter().enumerate();
        let from: Vec<_> = from.map(|(i, one)| one.compile(&format!("{at}/from/{i}"), cx)).collect();
        let to = self.to.iter().enumerate();
        let to: Vec<_> = to.map(|(i, one)| one.compile(&format!("{at}/to/{i}"), cx)).collect();
        let claims = self.claims.iter().enumerate();
        let claims: Vec<_> = claims.map(|(i, one)| one.compile(&format!("{at}/claims/{i}"), cx)).collect();
        let written = self.when.as_ref();
        let when =
            written.map(|text| check::expression(cx, &format!("{at}/when"), text, Kind::Bool).ok_or(()));
        let rule = Rule {
            rule: cx.rule(&self.name, at),
            action: self.action,
            from: from.into_iter().collect::<Option<_>>()?,
            to: to.into_iter().collect::<Option<_>>()?,
            claims: claims.into_iter().collect::<Option<_>>()?,
            when: when.transpose().ok()?,
        };
        if rule.action == Action::Allow && rule.is_of_requests() && carries_only(cx) {
            let message =
                "it can never match: routes of its kind carry connections, and nobody sees requests in them";
            cx.error(at, message);
        }
        Some(rule)
    }
}

/// Whether all that the policy is attached to are connections that are carried.
fn carries_only(cx: &CompileContext<'_>) -> bool {
    let carried = |kind: &TargetKind| matches!(kind, TargetKind::TCPRoute | TargetKind::TLSRoute);
    cx.has_targets() && cx.target_kinds().iter().all(carried)
}

impl ClaimSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Claimed> {
        if !(1..=MOST_VALUES).contains(&self.values.len()) {
            cx.error(format!("{at}/values"), format!("write 1 to {MOST_VALUES} values"));
        }
        let path = check::claim(cx, at, ("claim", self.claim.as_deref()), &self.path)?;
        Some((path, self.values.iter().map(|value| value.as_str().into()).collect()))
    }
}

impl Rule {
    pub(super) fn matches(&self, asked: &Asked<'_>) -> Truth {
        let from = || Truth::any(self.from.iter().map(|source| source.fits(asked)));
        let to = || Truth::any(self.to.iter().map(|operation| operation.fits(asked)));
        let claims = || Truth::all(self.claims.iter().map(|claim| claimed(claim, asked)));
        Truth::Yes
            .and(|| if self.from.is_empty() { Truth::Yes } else { from() })
            .and(|| if self.to.is_empty() { Truth::Yes } else { to() })
            .and(claims)
            .and(|| self.when.as_ref().map_or(Truth::Yes, |when| holds(when, asked)))
    }

    /// Whether it asks, in every way in which it can match, for what only requests have.
    fn is_of_requests(&self) -> bool {
        let to = !self.to.is_empty() && self.to.iter().all(Operation::is_of_requests);
        to || !self.claims.is_empty()
    }
}

/// Whoever has no token claims nothing.
fn claimed((path, values): &Claimed, asked: &Asked<'_>) -> Truth {
    let Some(facts) = &asked.request else { return Truth::Unknown };
    let is = |value: &Value| plain(value).is_some_and(|text| values.iter().any(|wanted| **wanted == *text));
    let claim = facts.claims.and_then(|claims| claims.get(path));
    let holds = match claim {
        Some(Value::Array(list)) => list.iter().any(is),
        Some(value) => is(value),
        None => false,
    };
    holds.into()
}

fn holds(when: &Expression, asked: &Asked<'_>) -> Truth {
    let said = match &asked.request {
        Some(facts) => when.holds(facts),
        None => when.holds(&ConnectionFacts(asked.peer)),
    };
    said.map_or(Truth::Unknown, Truth::from)
}

pub(super) fn at_most(cx: &mut CompileContext<'_>, at: &str, count: usize, most: usize) {
    if count > most {
        cx.error(at, format!("{count} of them: write at most {most}"));
    }
}

/// Every entry of a list, or what is wrong with each.
pub(super) fn each<S, T>(
    cx: &mut CompileContext<'_>,
    at: &str,
    written: &[S],
    compile: impl Fn(&S) -> Result<T, String>,
) -> Option<Box<[T]>> {
    let mut all = Vec::with_capacity(written.len());
    for (i, one) in written.iter().enumerate() {
        match compile(one) {
            Ok(one) => all.push(one),
            Err(why) => cx.error(format!("{at}/{i}"), why),
        }
    }
    (all.len() == written.len()).then(|| all.into())
}
