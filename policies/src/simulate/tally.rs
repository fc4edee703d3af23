use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::frequent::Frequent;
use super::outcomes::Outcomes;
use super::series::Series;
use crate::decision::{Decision, Outcome, RuleRef};
use crate::model::{PolicyRef, SourceRef};
use crate::snapshot::{BackendState, Rule};
use crate::story::Told;
use crate::time::Timestamp;
use crate::{Reason, story};

/// What is counted over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Requests,
    /// A rate limit refused it.
    Limited,
    /// A policy refused it, a rate limit or another.
    Refused,
    WouldRefuse,
    Delayed,
    /// Attempts after a first.
    Retries,
    /// Answered with 5xx, or with a code of gRPC that means as much.
    Failed,
}

pub(super) const COLUMNS: usize = 7;

/// What came of all requests together.
#[derive(Debug, Default)]
pub struct Tally {
    pub series: Series<COLUMNS>,
    pub sums: [u64; COLUMNS],
    /// Requests that were sent again at least once.
    pub retried: u64,
    /// Calls of backends.
    pub calls: u64,
    pub waited: Duration,
    pub longest_wait: Duration,
    pub statuses: BTreeMap<u16, u64>,
    /// What the log says that they were answered with.
    pub logged: BTreeMap<u16, u64>,
    pub reasons: BTreeMap<Reason, u64>,
    pub routes: Vec<RouteTally>,
    pub rules: Vec<RuleTally>,
    pub backends: Vec<BackendTally>,
    pub first: Option<Timestamp>,
    pub last: Timestamp,
    /// There were so many under way that some ended early.
    pub cut_short: u64,
    by_route: FxHashMap<usize, usize>,
    by_rule: FxHashMap<usize, usize>,
    by_backend: FxHashMap<usize, usize>,
}

/// One rule of a route.
#[derive(Debug)]
pub struct RouteTally {
    pub rule: Arc<Rule>,
    pub requests: u64,
    pub refused: u64,
    pub failed: u64,
}

/// One rule of a policy.
#[derive(Debug)]
pub struct RuleTally {
    pub policy: Arc<PolicyRef>,
    pub rule: Arc<RuleRef>,
    pub outcomes: Outcomes,
    /// Whom it refuses, or would refuse.
    pub keys: Option<KeyTally>,
}

/// Which keys are refused most.
#[derive(Debug)]
pub struct KeyTally(pub Frequent);

/// One backend.
#[derive(Debug)]
pub struct BackendTally {
    pub backend: Arc<BackendState>,
    pub calls: u64,
    pub failed: u64,
    pub in_flight: u64,
    /// The most calls at one time.
    pub peak: u64,
    pub series: Series<1>,
}

/// What came of one request, as far as two replays can be compared by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub status: u16,
    pub reason: Option<Reason>,
    /// Its label, if one was called.
    pub backend: Option<Arc<str>>,
    /// Of those that decide what the other replay decides otherwise: the one that refused, else that would have.
    pub by: Option<By>,
}

/// A rule and its policy.
#[derive(Clone, Debug)]
pub struct By {
    pub policy: Arc<PolicyRef>,
    pub rule: Arc<RuleRef>,
}

/// How many keys of a rule are looked at.
const KEYS: usize = 256;
/// No more rules have their keys looked at.
const KEYED_RULES: usize = 64;

impl PartialEq for By {
    fn eq(&self, other: &Self) -> bool {
        self.rule.name == other.rule.name && self.policy.name == other.policy.name
    }
}

impl Eq for By {}

impl By {
    pub fn source(&self) -> &SourceRef {
        &self.rule.source
    }
}

impl Verdict {
    pub(super) fn of(told: &Told) -> Self {
        let backend = told.backend().filter(|_| told.attempts > 0).map(|backend| backend.label.clone());
        let by = deciding(told).map(|d| By { policy: d.policy.clone(), rule: d.rule.clone() });
        Self { status: status(told), reason: told.reason, backend, by }
    }
}

/// The decision that the answer came of, else the first that would have refused.
fn deciding(told: &Told) -> Option<&Decision> {
    let refused = told.decisions.iter().rev().find(|d| is_refusal(d, told.reason));
    refused.or_else(|| told.decisions.iter().find(|d| matches!(d.outcome, Outcome::WouldRefuse(_))))
}

fn is_refusal(decision: &Decision, ended: Option<Reason>) -> bool {
    matches!(decision.outcome, Outcome::Refused(reason) if Some(reason) == ended)
}

/// As a client of HTTP would see it; a gRPC code in the form of a status, for there is one scale.
fn status(told: &Told) -> u16 {
    match (told.grpc, told.reason) {
        (Some(0) | None, _) => told.response.status.as_u16(),
        (Some(_), Some(reason)) => reason.answer().status.as_u16(),
        (Some(code), None) => {
            if is_failure(code) {
                500
            } else {
                400
            }
        }
    }
}

/// The codes that the conventions of RPC call errors of the server.
fn is_failure(code: u8) -> bool {
    matches!(code, 2 | 4 | 12 | 13 | 14 | 15)
}

impl Tally {
    pub fn sum(&self, column: Column) -> u64 {
        self.sums[column as usize]
    }

    /// Counts a request that has ended, which came `at`.
    pub(super) fn ended(&mut self, story: &story::Story, at: Timestamp, waited: Duration) {
        let told = &story.told;
        let status = status(told);
        let mut counts = [0; COLUMNS];
        counts[Column::Requests as usize] = 1;
        counts[Column::Limited as usize] = u64::from(told.reason == Some(Reason::RateLimited));
        counts[Column::Delayed as usize] = u64::from(!waited.is_zero());
        counts[Column::Retries as usize] = u64::from(told.attempts.saturating_sub(1));
        counts[Column::Failed as usize] = u64::from(status >= 500);
        for decision in &told.decisions {
            let refused = is_refusal(decision, told.reason);
            let would = matches!(decision.outcome, Outcome::WouldRefuse(_));
            counts[Column::Refused as usize] |= u64::from(refused);
            counts[Column::WouldRefuse as usize] |= u64::from(would);
            self.decided(decision, (refused || would).then_some(story));
        }
        self.calls += u64::from(told.attempts);
        self.retried += u64::from(told.attempts > 1);
        self.waited += waited;
        self.longest_wait = self.longest_wait.max(waited);
        *self.statuses.entry(status).or_default() += 1;
        if let Some(reason) = told.reason {
            *self.reasons.entry(reason).or_default() += 1;
        }
        self.routed(told, &counts);
        let step = self.series.at(at);
        for (column, count) in counts.iter().enumerate() {
            step[column] += count;
            self.sums[column] += count;
        }
    }

    pub(super) fn came(&mut self, at: Timestamp, logged: Option<u16>) {
        self.first.get_or_insert(at);
        self.last = at;
        if let Some(status) = logged {
            *self.logged.entry(status).or_default() += 1;
        }
    }

    fn routed(&mut self, told: &Told, counts: &[u64; COLUMNS]) {
        let Some(selected) = &told.selected else { return };
        let rule = &selected.rule;
        let routes = &mut self.routes;
        let index = *self.by_route.entry(Arc::as_ptr(rule).addr()).or_insert_with(|| {
            routes.push(RouteTally { rule: rule.clone(), requests: 0, refused: 0, failed: 0 });
            routes.len() - 1
        });
        let route = &mut self.routes[index];
        route.requests += 1;
        route.refused += counts[Column::Refused as usize];
        route.failed += counts[Column::Failed as usize];
    }

    fn decided(&mut self, decision: &Decision, refused: Option<&story::Story>) {
        let rules = &mut self.rules;
        let index = *self.by_rule.entry(Arc::as_ptr(&decision.rule).addr()).or_insert_with(|| {
            let (policy, rule) = (decision.policy.clone(), decision.rule.clone());
            rules.push(RuleTally { policy, rule, outcomes: Outcomes::default(), keys: None });
            rules.len() - 1
        });
        let rule = &mut self.rules[index];
        rule.outcomes.add(decision.outcome);
        if let Some(key) = refused.filter(|_| index < KEYED_RULES).and_then(|story| story.key_of(decision)) {
            rule.keys.get_or_insert_with(|| KeyTally(Frequent::new(KEYS))).0.add(&key);
        }
    }

    /// A call of the backend begins: its number here, to be told at its end.
    pub(super) fn called(&mut self, backend: &Arc<BackendState>, now: Timestamp) -> usize {
        let (backends, start) = (&mut self.backends, self.first);
        let index = *self.by_backend.entry(Arc::as_ptr(backend).addr()).or_insert_with(|| {
            let series = start.map_or_else(Series::default, Series::starting);
            let backend = backend.clone();
            backends.push(BackendTally { backend, calls: 0, failed: 0, in_flight: 0, peak: 0, series });
            backends.len() - 1
        });
        let tally = &mut self.backends[index];
        tally.calls += 1;
        tally.in_flight += 1;
        tally.peak = tally.peak.max(tally.in_flight);
        tally.series.at(now)[0] += 1;
        index
    }

    pub(super) fn returned(&mut self, backend: usize, failed: bool) {
        if let Some(tally) = self.backends.get_mut(backend) {
            tally.in_flight = tally.in_flight.saturating_sub(1);
            tally.failed += u64::from(failed);
        }
    }
}
