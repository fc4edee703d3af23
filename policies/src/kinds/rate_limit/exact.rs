//! `scope: Exact`: one budget for all proxies, counted in a store that they share. The filter says what it wants spent, the
//! shell asks the store, and the filter judges by the answer. Without one, each proxy lets through a written part of each
//! limit by itself: so nobody waits for a store that is away, and nothing is all open or all closed.

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::cell::{Level, Rate};
use super::filter::{BoundLimit, RateLimitFilter, Ruling, Wish};
use super::key;
use super::quotas::shared;
use super::{LimitMode, RateLimitPolicySpec};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;
use crate::pipeline::{Effect, Holds, RequestContext, SharedBucket, Spend, Spent, Verdict};

/// How a policy with `scope: Exact` asks, and what it does without an answer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ExactSpec {
    /// How long a request waits for the answer, 1ms to 100ms. Default: 5ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<GepDuration>,
    /// Of each limit and quota, what each proxy lets through by itself while there is no answer, in percent. Default: 10. 0 refuses
    /// everything then; 100 is the whole limit at each proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    fallback_percent: Option<u32>,
}

/// The same, valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    timeout: Duration,
    percent: u32,
}

/// A limit as it is written, for whoever else counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) requests: NonZeroU32,
    pub(super) per: Duration,
    pub(super) burst: NonZeroU32,
}

const TIMEOUT: Duration = Duration::from_millis(5);
const PERCENT: u32 = 10;

/// No part of a key is this short: times of another kind, for whoever finds them.
const NUMBERED: &[u8] = b"#";

impl Exact {
    pub(super) fn compile(spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) -> Self {
        let written = spec.exact.as_ref();
        for (i, _) in
            spec.limits.iter().enumerate().filter(|(_, limit)| limit.mode == Some(LimitMode::Shadow))
        {
            let message = "with `scope: Exact`, write limits in Shadow into a policy of their own";
            cx.error(format!("/limits/{i}/mode"), message);
        }
        for (i, _) in spec.limits.iter().enumerate().filter(|(_, limit)| limit.response_cost.is_some()) {
            let message =
                "`responseCost` goes with `scope: Local` and `scope: Mesh`: the store is asked once";
            cx.error(format!("/limits/{i}/responseCost"), message);
        }
        let timeout = written.and_then(|exact| exact.timeout);
        let timeout =
            timeout.map(|timeout| check::duration_within(cx, "/exact/timeout", timeout, ("1ms", "100ms")));
        let percent = written.and_then(|exact| exact.fallback_percent).unwrap_or(PERCENT);
        check::within(cx, "/exact/fallbackPercent", percent, 0..=100);
        Self { timeout: timeout.unwrap_or(TIMEOUT), percent }
    }

    /// Whether nothing passes without an answer.
    pub(super) fn closes(self) -> bool {
        self.percent == 0
    }

    pub(super) fn percent(self) -> u32 {
        self.percent
    }
}

impl Written {
    /// What one proxy lets through of a limit by itself; at least one request at a time.
    pub(super) fn share(self, percent: u32) -> Option<Rate> {
        let of = |whole: NonZeroU32| {
            let part = u64::from(whole.get()) * u64::from(percent) / 100;
            NonZeroU32::new(u32::try_from(part).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
        };
        // A rate of less than one per period is one per a longer period.
        let requests = of(self.requests);
        let exact = u64::from(self.requests.get()) * u64::from(percent.max(1));
        let per =
            if exact < 100 { self.per * 100 / u32::try_from(exact.max(1)).unwrap_or(1) } else { self.per };
        Rate::new(requests, per, of(self.burst))
    }
}

impl RateLimitFilter {
    /// What is to be spent in the store; nothing, if neither a limit nor a quota counts the request.
    pub(super) fn ask(&self, exact: Exact, cx: &mut RequestContext<'_>) -> Verdict {
        let wishes = match self.wishes(cx) {
            Ok(wishes) => wishes,
            Err(ruling) => return self.rule(ruling, &[], cx),
        };
        let due = match self.due(self.wall(cx), cx) {
            Ok(due) => due,
            Err(quota) => return self.refuse_by_quota(quota, None, cx),
        };
        if wishes.is_empty() && due.is_empty() {
            return Verdict::Continue;
        }
        let bucket = |wish: &Wish<'_>| {
            let Written { requests, per, burst } = wish.written();
            let mut key = key::bytes(&wish.limit.key, cx);
            if wish.number.is_some() {
                key.extend(NUMBERED);
            }
            SharedBucket {
                limit: wish.limit.rule.name.clone(),
                key,
                holds: Holds::Rate {
                    requests: requests.get(),
                    per,
                    burst: burst.get(),
                    in_proportion: wish.number.is_some(),
                },
                cost: wish.cost,
            }
        };
        let windows = due.iter().map(|(demand, window)| shared::bucket(demand, *window, cx));
        let buckets = wishes.iter().map(bucket).chain(windows).collect();
        Verdict::Effect(Effect::Spend(Spend { policy: self.policy.clone(), buckets, timeout: exact.timeout }))
    }

    /// Judges by the answer of the store. `None` if it is none to what was asked.
    pub(super) fn answered(&self, spent: &Spent, cx: &mut RequestContext<'_>) -> Option<Verdict> {
        let wall = self.wall(cx);
        let (wishes, due) = (self.wishes(cx).ok()?, self.due(wall, cx).ok()?);
        if wishes.len() + due.len() != spent.levels.len() || spent.levels.is_empty() {
            return None;
        }
        let (levels, windows) = spent.levels.split_at(wishes.len());
        let limits: SmallVec<[&BoundLimit; 4]> = wishes.iter().map(|wish| wish.limit).collect();
        let told = limits.iter().copied().zip(levels);
        if spent.allowed {
            let left = due.iter().zip(windows).map(|((demand, window), (left, _))| (*demand, *window, *left));
            self.tell_passed(&left.collect::<SmallVec<[_; 2]>>(), wall, cx);
            let Some((limit, (remaining, next))) = told.min_by_key(|(_, (remaining, _))| *remaining) else {
                return Some(Verdict::Continue);
            };
            let level = Level { remaining: *remaining, next: *next };
            return Some(self.rule(Ruling::Allowed(limit, level), &wishes, cx));
        }
        // Whoever takes longest has the word; of equals, the first by name.
        let longest = told.rev().max_by_key(|(_, (_, wait))| *wait);
        let full = due.iter().zip(windows).rev().max_by_key(|(_, (_, wait))| *wait);
        match (longest, full) {
            (longest, Some(((demand, window), (_, wait))))
                if longest.is_none_or(|(_, (_, limits))| wait > limits) =>
            {
                Some(self.refuse_by_quota(demand.quota, Some((*demand, *window, wall)), cx))
            }
            (Some((limit, (_, wait))), _) => {
                Some(self.rule(Ruling::Refused(limit, Some(*wait)), &wishes, cx))
            }
            (None, _) => None,
        }
    }

    /// What time it is, where a calendar is asked.
    fn wall(&self, cx: &RequestContext<'_>) -> Duration {
        if self.quotas.is_empty() { Duration::ZERO } else { (cx.unix)() }
    }
}
