//! WHERE A LIMIT IS DECIDED: all limits of one policy are looked at, then all are spent, or none.
//!
//! Limits in Shadow are judged after those that hold, for requests that these let through, and in the same way among
//! themselves: so their counters stand where they would if only they held.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::cell::Level;
use super::cost::Cost;
use super::fields::{RATE_LIMIT, RATE_LIMIT_POLICY, rate_limit};
use super::key::{self, Key, KeyPart};
use super::overrides::{Own, OwnLimit};
use super::state::{Bucket, LimitState};
use super::told::{Standing, Told};
use crate::decision::{Decision, Detail, Outcome, RuleRef};
use crate::expression::{Expression, Facts};
use crate::model::PolicyRef;
use crate::pipeline::{Filter, LocalReply, Phase, RequestContext, Verdict};
use crate::reason::Reason;
use crate::time::{Timestamp, whole_seconds};

#[derive(Debug)]
pub(super) struct RateLimitFilter {
    pub(super) policy: Arc<PolicyRef>,
    /// The requests that are counted at all.
    pub(super) when: Option<Arc<Expression>>,
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
    /// `RateLimit-Policy` member.
    pub(super) member: Arc<str>,
    /// Keys with a limit of their own.
    pub(super) own: FxHashMap<u128, Own>,
    pub(super) key: Arc<[KeyPart]>,
    pub(super) when: Option<Arc<Expression>>,
    pub(super) cost: Cost,
    pub(super) shadow: bool,
    pub(super) state: Arc<LimitState>,
}

/// A limit that counts a request, and what it would spend.
struct Part<'a> {
    limit: &'a BoundLimit,
    own: Option<&'a OwnLimit>,
    bucket: Bucket<'a>,
    cost: u32,
}

/// What the limits said together.
#[derive(Clone, Copy)]
enum Ruling<'a> {
    /// All let it through, and have been spent; this one is closest to exhaustion.
    Allowed(&'a BoundLimit, Level),
    /// None was spent; this one takes longest to let it through, or (`None`) never will.
    Refused(&'a BoundLimit, Option<Duration>),
}

type Parts<'a> = SmallVec<[Part<'a>; 4]>;

/// The limits that have a limit of its own for this request's key.
type Owns<'a> = SmallVec<[(&'a BoundLimit, &'a OwnLimit); 1]>;

impl Filter for RateLimitFilter {
    fn phase(&self) -> Phase {
        Phase::RateLimit
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        if !holds(self.when.as_deref(), cx) {
            return Verdict::Continue;
        }
        if let Some((ruling, own)) = self.decide(cx, false) {
            self.explain(ruling, cx);
            self.tell((ruling, own), cx);
            if let Ruling::Refused(_, wait) = ruling {
                let again = wait.map(|wait| (RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
                let headers = again.into_iter().collect();
                return Verdict::Reply(LocalReply { reason: Reason::RateLimited, headers });
            }
        }
        if let Some((ruling, _)) = self.decide(cx, true) {
            self.explain(ruling, cx);
        }
        Verdict::Continue
    }
}

/// A condition that fails does not hold: what it asks of the request is not there.
fn holds(when: Option<&Expression>, cx: &RequestContext<'_>) -> bool {
    let facts = || Facts { head: cx.head, peer: cx.peer, route: cx.route };
    when.is_none_or(|when| when.holds(&facts()).unwrap_or(false))
}

impl RateLimitFilter {
    fn tell(&self, (ruling, owns): (Ruling<'_>, Owns<'_>), cx: &mut RequestContext<'_>) {
        let (limit, remaining, next, refused) = match ruling {
            Ruling::Allowed(limit, level) => (limit, level.remaining, Some(level.next), false),
            Ruling::Refused(limit, wait) => (limit, 0, wait, true),
        };
        if self.told.draft {
            cx.response_headers.append(RATE_LIMIT_POLICY, self.policy_field(&owns));
            let value = next.and_then(|next| rate_limit(&limit.rule.name, remaining, next));
            if let Some(value) = value {
                cx.response_headers.append(RATE_LIMIT, value);
            }
        }
        if self.told.x {
            let own = owns.iter().find(|(of, _)| std::ptr::eq(*of, limit));
            let limit = own.map_or(limit.burst, |(_, own)| own.burst);
            let reset = next.map_or(0, whole_seconds);
            Standing { limit, remaining, reset, refused }.tell(cx.response_headers);
        }
    }

    /// What those limits say that hold, or those that are in Shadow. `None` if none of them counts the request.
    fn decide(&self, cx: &RequestContext<'_>, shadow: bool) -> Option<(Ruling<'_>, Owns<'_>)> {
        let now = cx.now;
        let mut parts = Parts::new();
        for limit in self.limits.iter().filter(|limit| limit.shadow == shadow) {
            match limit.part(cx, self.seed) {
                Ok(part) => parts.extend(part),
                Err(ruling) => return Some((ruling, Owns::new())),
            }
        }
        let refusals = parts.iter().filter_map(|part| {
            let refused = part.bucket.cell().check(part.bucket.rate(), part.cost, now);
            refused.err().map(|wait| (part.limit, wait))
        });
        // For ever is longest.
        let ruling = match refusals.max_by_key(|(_, wait)| (wait.is_none(), *wait)) {
            Some((limit, wait)) => Ruling::Refused(limit, wait),
            None => spend(&parts, now)?,
        };
        Some((ruling, parts.iter().filter_map(|part| Some((part.limit, part.own?))).collect()))
    }

    /// `RateLimit-Policy`, with what this request's keys have of their own.
    fn policy_field(&self, owns: &Owns<'_>) -> HeaderValue {
        if owns.is_empty() {
            return self.policy_field.clone();
        }
        let member = |limit: &'_ BoundLimit| {
            let own = owns.iter().find(|(of, _)| std::ptr::eq(*of, limit));
            own.map_or_else(|| limit.member.to_string(), |(_, own)| own.member.to_string())
        };
        let members: Vec<_> = self.limits.iter().filter(|limit| !limit.shadow).map(member).collect();
        HeaderValue::try_from(members.join(", ")).unwrap_or_else(|_| self.policy_field.clone())
    }

    fn explain(&self, ruling: Ruling<'_>, cx: &mut RequestContext<'_>) {
        let (limit, outcome, detail) = match ruling {
            Ruling::Allowed(limit, level) => {
                (limit, Outcome::Allowed, Some(Detail::Remaining(level.remaining)))
            }
            Ruling::Refused(limit, wait) => {
                let outcome = match limit.shadow {
                    false => Outcome::Refused(Reason::RateLimited),
                    true => Outcome::WouldRefuse(Reason::RateLimited),
                };
                (limit, outcome, wait.map(Detail::RetryAfter))
            }
        };
        let (policy, rule) = (Arc::clone(&self.policy), Arc::clone(&limit.rule));
        cx.decisions.push(Decision { policy, rule, outcome, detail });
    }
}

fn spend<'a>(parts: &[Part<'a>], now: Timestamp) -> Option<Ruling<'a>> {
    let mut tightest: Option<(&BoundLimit, Level)> = None;
    for (i, part) in parts.iter().enumerate() {
        match part.bucket.cell().spend(part.bucket.rate(), part.cost, now) {
            Ok(level) => {
                let tighter = tightest.is_none_or(|(_, least)| level.remaining < least.remaining);
                tightest = if tighter { Some((part.limit, level)) } else { tightest };
            }
            // Another request was faster since the look.
            Err(wait) => {
                let spent = &parts[..i];
                spent.iter().for_each(|spent| spent.bucket.cell().give_back(spent.bucket.rate(), spent.cost));
                return Some(Ruling::Refused(part.limit, wait));
            }
        }
    }
    tightest.map(|(limit, level)| Ruling::Allowed(limit, level))
}

impl BoundLimit {
    /// What a request would spend; nothing, if the limit does not count it.
    ///
    /// # Errors
    /// The limit lets no such request pass.
    fn part(&self, cx: &RequestContext<'_>, seed: [u64; 2]) -> Result<Option<Part<'_>>, Ruling<'_>> {
        if !holds(self.when.as_deref(), cx) {
            return Ok(None);
        }
        let key = match key::of(&self.key, cx, seed) {
            Key::Of(key) => key,
            Key::Skip => return Ok(None),
            Key::Deny => return Err(Ruling::Refused(self, None)),
        };
        let own = match self.own.get(&key) {
            None => None,
            Some(Some(own)) => Some(&**own),
            // Not counted.
            Some(None) => return Ok(None),
        };
        let state = own.map_or(&self.state, |own| &own.state);
        let cost = self.cost.of(cx);
        Ok((cost > 0).then(|| Part { limit: self, own, bucket: state.bucket(key, cx.now), cost }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Rate;
    use super::*;
    use crate::model::SourceRef;
    use std::num::NonZeroU32;

    fn limit(name: &str, burst: u32) -> BoundLimit {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = Rate::new(number(1), Duration::from_secs(60), number(burst)).unwrap();
        let source = SourceRef::File { path: "p.yaml".into(), line: 1 };
        let rule = Arc::new(RuleRef { name: name.into(), source });
        BoundLimit {
            rule,
            burst,
            member: "".into(),
            own: FxHashMap::default(),
            key: Arc::new([]),
            when: None,
            cost: Cost::One,
            shadow: false,
            state: Arc::new(LimitState::new(rate, None)),
        }
    }

    #[test]
    fn a_spend_that_loses_a_race_gives_back_what_was_already_spent() {
        let limits = [limit("a", 2), limit("b", 1)];
        let now = Timestamp::from_millis(1);
        let part = |limit| Part { limit, own: None, bucket: limit.state.bucket(0, now), cost: 1 };
        let parts: Vec<_> = limits.iter().map(part).collect();
        let left = || matches!(spend(&parts, now), Some(Ruling::Allowed(..)));
        assert!(left());
        // As if another request took the last of `b` between the look and the spending.
        assert!(!left() && !left());
        let rest = parts[0].bucket.cell().spend(parts[0].bucket.rate(), 1, now);
        assert_eq!(rest.map(|level| level.remaining), Ok(0), "one of `a` was left, and still is");
    }
}
