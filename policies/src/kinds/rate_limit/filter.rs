//! WHERE A LIMIT IS DECIDED: all limits of one policy are looked at, then all are spent, or none.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use smallvec::SmallVec;

use super::cell::Level;
use super::fields::{RATE_LIMIT, RATE_LIMIT_POLICY, rate_limit};
use super::key::{self, KeyPart};
use super::state::{Bucket, LimitState};
use super::told::{Standing, Told};
use crate::decision::{Decision, Detail, Outcome, RuleRef};
use crate::model::{Mode, PolicyRef};
use crate::pipeline::{Filter, LocalReply, Phase, RequestContext, Verdict};
use crate::reason::Reason;
use crate::time::{Timestamp, whole_seconds};

#[derive(Debug)]
pub(super) struct RateLimitFilter {
    pub(super) policy: Arc<PolicyRef>,
    pub(super) mode: Mode,
    /// Ordered by name: what keeps the locks of two versions of a policy in one order.
    pub(super) limits: Box<[BoundLimit]>,
    /// `RateLimit-Policy`, pre-rendered.
    pub(super) policy_field: HeaderValue,
    pub(super) told: Told,
    pub(super) seed: [u64; 2],
}

/// A limit joined to its counters.
#[derive(Debug)]
pub(super) struct BoundLimit {
    pub(super) rule: Arc<RuleRef>,
    pub(super) burst: u32,
    pub(super) key: Arc<[KeyPart]>,
    pub(super) state: Arc<LimitState>,
}

/// What the limits said together.
#[derive(Clone, Copy)]
enum Ruling<'a> {
    /// All let it through, and have been spent; this one is closest to exhaustion.
    Allowed(&'a BoundLimit, Level),
    /// None was spent; this one takes longest to let one more through.
    Refused(&'a BoundLimit, Duration),
}

impl Filter for RateLimitFilter {
    fn phase(&self) -> Phase {
        Phase::RateLimit
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        let Some(ruling) = self.decide(cx) else { return Verdict::Continue };
        self.explain(ruling, cx);
        if self.mode == Mode::Shadow {
            return Verdict::Continue;
        }
        self.tell(ruling, cx);
        match ruling {
            Ruling::Allowed(..) => Verdict::Continue,
            Ruling::Refused(_, wait) => {
                let retry_after = (RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
                Verdict::Reply(LocalReply { reason: Reason::RateLimited, headers: vec![retry_after] })
            }
        }
    }
}

impl RateLimitFilter {
    fn tell(&self, ruling: Ruling<'_>, cx: &mut RequestContext<'_>) {
        let (limit, remaining, next, refused) = match ruling {
            Ruling::Allowed(limit, level) => (limit, level.remaining, level.next, false),
            Ruling::Refused(limit, wait) => (limit, 0, wait, true),
        };
        if self.told.draft {
            cx.response_headers.append(RATE_LIMIT_POLICY, self.policy_field.clone());
            if let Some(value) = rate_limit(&limit.rule.name, remaining, next) {
                cx.response_headers.append(RATE_LIMIT, value);
            }
        }
        if self.told.x {
            let (limit, reset) = (limit.burst, whole_seconds(next));
            Standing { limit, remaining, reset, refused }.tell(cx.response_headers);
        }
    }

    /// `None` for a policy without limits, which is never compiled.
    fn decide(&self, cx: &RequestContext<'_>) -> Option<Ruling<'_>> {
        let now = cx.now;
        let mut buckets: SmallVec<[Bucket<'_>; 4]> = SmallVec::new();
        for limit in &self.limits {
            let key = key::hash(&limit.key, cx, self.seed);
            buckets.push(limit.state.bucket(key, now));
        }
        let refusals = self.limits.iter().zip(&buckets).filter_map(|(limit, bucket)| {
            bucket.cell().check(bucket.rate(), now).err().map(|wait| (limit, wait))
        });
        match refusals.max_by_key(|(_, wait)| *wait) {
            Some((limit, wait)) => Some(Ruling::Refused(limit, wait)),
            None => self.spend(&buckets, now),
        }
    }

    fn spend(&self, buckets: &[Bucket<'_>], now: Timestamp) -> Option<Ruling<'_>> {
        let mut tightest: Option<(&BoundLimit, Level)> = None;
        for (i, (limit, bucket)) in self.limits.iter().zip(buckets).enumerate() {
            match bucket.cell().spend(bucket.rate(), now) {
                Ok(level) => {
                    let tighter = tightest.is_none_or(|(_, least)| level.remaining < least.remaining);
                    tightest = if tighter { Some((limit, level)) } else { tightest };
                }
                // Another request was faster since the look.
                Err(wait) => {
                    buckets[..i].iter().for_each(|spent| spent.cell().give_back(spent.rate()));
                    return Some(Ruling::Refused(limit, wait));
                }
            }
        }
        tightest.map(|(limit, level)| Ruling::Allowed(limit, level))
    }

    fn explain(&self, ruling: Ruling<'_>, cx: &mut RequestContext<'_>) {
        let (limit, outcome, detail) = match ruling {
            Ruling::Allowed(limit, level) => (limit, Outcome::Allowed, Detail::Remaining(level.remaining)),
            Ruling::Refused(limit, wait) => {
                let outcome = match self.mode {
                    Mode::Enforce => Outcome::Refused(Reason::RateLimited),
                    Mode::Shadow => Outcome::WouldRefuse(Reason::RateLimited),
                };
                (limit, outcome, Detail::RetryAfter(wait))
            }
        };
        let (policy, rule) = (Arc::clone(&self.policy), Arc::clone(&limit.rule));
        cx.decisions.push(Decision { policy, rule, outcome, detail: Some(detail) });
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Rate;
    use super::*;
    use crate::model::{ResourceName, SourceRef};
    use std::num::NonZeroU32;

    fn limit(name: &str, burst: u32) -> BoundLimit {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = Rate::new(number(1), Duration::from_secs(60), number(burst)).unwrap();
        let source = SourceRef::File { path: "p.yaml".into(), line: 1 };
        let rule = Arc::new(RuleRef { name: name.into(), source });
        BoundLimit { rule, burst, key: Arc::new([]), state: Arc::new(LimitState::new(rate, None)) }
    }

    #[test]
    fn a_spend_that_loses_a_race_gives_back_what_was_already_spent() {
        let name = ResourceName::new("shop", "p");
        let source = SourceRef::File { path: "p.yaml".into(), line: 1 };
        let filter = RateLimitFilter {
            policy: Arc::new(PolicyRef { kind: "RateLimitPolicy".into(), name, source }),
            mode: Mode::Enforce,
            limits: [limit("a", 2), limit("b", 1)].into(),
            policy_field: HeaderValue::from_static("x"),
            told: Told { draft: true, x: false },
            seed: [0, 0],
        };
        let now = Timestamp::from_millis(1);
        let buckets: Vec<_> = filter.limits.iter().map(|limit| limit.state.bucket(0, now)).collect();
        let left = || matches!(filter.spend(&buckets, now), Some(Ruling::Allowed(..)));
        assert!(left());
        // As if another request took the last of `b` between the look and the spending.
        assert!(!left() && !left());
        let rest = buckets[0].cell().spend(buckets[0].rate(), now);
        assert_eq!(rest.map(|level| level.remaining), Ok(0), "one of `a` was left, and still is");
    }
}
