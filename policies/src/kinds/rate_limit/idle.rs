//! Limits that never refuse anybody, because another one of the policy refuses first, whoever asks and whenever.
//!
//! Only what can be shown is told: the buckets of one must lie within those of the other, and everything that the other
//! lets through must fit. A limit whose numbers depend on the request shows nothing.

use std::sync::Arc;
use std::time::Duration;

use super::concurrent::Concurrent;
use super::cost::Cost;
use super::quotas::Quota;
use super::scope::Sharing;
use super::{Limit, RateLimit};
use crate::decision::RuleRef;
use crate::expression::Expression;
use crate::kind::Idle;
use crate::kinds::key::{KeyPart, Source};

/// Whom a limit counts together.
#[derive(Clone, Copy)]
pub(super) struct Counted<'a> {
    pub(super) key: &'a [KeyPart],
    pub(super) when: Option<&'a Arc<Expression>>,
    pub(super) shadow: bool,
}

impl RateLimit {
    pub(super) fn idle_rules(&self) -> Vec<Idle> {
        // What is lent runs out here or there, whatever the sum; and who waits for one limit may come late for another.
        if !matches!(self.sharing, Sharing::Local | Sharing::Exact(_)) || self.on_limit.delay.is_some() {
            return Vec::new();
        }
        // Of a descriptor exactly those limits hold whose keys are its entries.
        let mut keys = self.limits.iter().flat_map(|limit| limit.key.iter());
        if keys.any(|part| matches!(part.source, Source::Descriptor(_))) {
            return Vec::new();
        }
        let limits: Vec<_> = self.limits.iter().filter(|limit| limit.is_plain()).collect();
        let connections: Vec<_> =
            self.connections.iter().map(super::connections::Connections::limit).collect();
        let concurrent: Vec<_> = self.concurrent.iter().collect();
        let quotas: Vec<_> = self.quotas.iter().collect();
        let mut idle = beaten(&limits, Limit::beats);
        idle.extend(beaten(&connections, Limit::beats));
        idle.extend(beaten(&concurrent, Concurrent::beats));
        idle.extend(beaten(&quotas, Quota::beats));
        for quota in &quotas {
            let by = limits.iter().find(|limit| limit.leaves(quota));
            idle.extend(by.map(|limit| Idle::new(*quota, *limit)));
        }
        // Each once, by the first that does.
        let mut told: Vec<Idle> = Vec::new();
        for one in idle {
            if !told.iter().any(|known| Arc::ptr_eq(&known.rule, &one.rule)) {
                told.push(one);
            }
        }
        told
    }
}

/// What has a rule.
pub(super) trait Written {
    fn rule(&self) -> &Arc<RuleRef>;
}

impl Written for Limit {
    fn rule(&self) -> &Arc<RuleRef> {
        &self.rule
    }
}

/// Those that another one beats. Of two that beat each other, the second is idle.
fn beaten<R: Written>(all: &[&R], beats: impl Fn(&R, &R) -> bool) -> Vec<Idle> {
    let mut idle: Vec<Idle> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let because = all.iter().enumerate().find(|(by, other)| {
            let is_idle = idle.iter().any(|known| Arc::ptr_eq(&known.rule, other.rule()));
            *by != at && !is_idle && beats(other, one) && (*by < at || !beats(one, other))
        });
        idle.extend(because.map(|(_, other)| Idle::new(*one, *other)));
    }
    idle
}

impl Idle {
    fn new(one: &impl Written, because: &impl Written) -> Self {
        Self { rule: Arc::clone(one.rule()), because: Arc::clone(because.rule()) }
    }
}

impl Counted<'_> {
    /// Whether whoever is counted in one bucket of `other` is counted in one of these, too.
    pub(super) fn includes(self, other: Self) -> bool {
        let same_requests = self.when.is_none() || self.when == other.when;
        let coarser = self.key.iter().all(|part| other.key.contains(part));
        let others_deny = other.key.iter().any(|part| part.denies() && !self.key.contains(part));
        same_requests && coarser && !others_deny && (!self.shadow || other.shadow)
    }
}

impl Limit {
    fn counted(&self) -> Counted<'_> {
        Counted { key: &self.key, when: self.when.as_ref(), shadow: self.shadow }
    }

    /// Its numbers are those that are written, for everybody.
    fn is_plain(&self) -> bool {
        self.from.is_none() && self.overrides.is_empty() && self.response_cost.is_none()
    }

    /// Whether a quota has more than this lets through within its time.
    fn leaves(&self, quota: &Quota) -> bool {
        let each_costs = matches!(self.cost, Cost::One | Cost::Fixed(_));
        each_costs && self.counted().includes(quota.counted()) && self.most_in(quota.longest()) < quota.most()
    }

    fn beats(&self, other: &Self) -> bool {
        let (a, b) = (self.written, other.written);
        let slower = u128::from(a.requests.get()) * b.per.as_nanos()
            <= u128::from(b.requests.get()) * a.per.as_nanos();
        let costs = match (&self.cost, &other.cost) {
            (Cost::Fixed(_) | Cost::One, Cost::One) => true,
            (Cost::Fixed(mine), Cost::Fixed(its)) => mine >= its,
            (Cost::One, Cost::Fixed(its)) => *its <= 1,
            (Cost::Header(a, most), Cost::Header(b, other)) => a == b && most == other && most.is_some(),
            (Cost::Expression(a, most), Cost::Expression(b, other)) => {
                a == b && most == other && most.is_some()
            }
            _ => false,
        };
        slower && a.burst <= b.burst && costs && self.counted().includes(other.counted())
    }

    /// What it lets through of one key within such a time, at most.
    fn most_in(&self, time: Duration) -> u128 {
        let written = self.written;
        let refilled = time.as_nanos() * u128::from(written.requests.get()) / written.per.as_nanos().max(1);
        refilled + 1 + u128::from(written.burst.get())
    }
}
