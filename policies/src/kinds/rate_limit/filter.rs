//! WHERE A LIMIT IS DECIDED: all limits of one policy are looked at, then all are spent, or none. Places and quotas are
//! taken before, and given back where the limits refuse.
//!
//! Limits in Shadow are judged after those that hold, for requests that these let through, and in the same way among
//! themselves: so their counters stand where they would if only they held.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, request};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::cell::{Level, Rate, Spend};
use super::concurrent::BoundConcurrent;
use super::connections::BoundConnections;
use super::cost::Cost;
use super::delay::take_turns;
use super::exact::{Exact, Written};
use super::fields::{RATE_LIMIT, RATE_LIMIT_POLICY, policy_member, rate_limit};
use super::key::{self, Key, KeyPart};
use super::on_limit::OnLimit;
use super::overrides::{Own, OwnLimit};
use super::quotas::BoundQuota;
use super::requests_from::RequestsFrom;
use super::response_cost::{ResponseCost, Settle};
use super::scope::{Bucket, Counters};
use super::told::{Standing, Told};
use crate::decision::{Decision, Decisions, Detail, Outcome, RuleRef};
use crate::expression::{Expression, Facts};
use crate::model::{Peer, PolicyRef};
use crate::pipeline::{
    ConnectionContext, Cut, Effect, Filter, Held, Performed, Phase, RequestContext, Verdict,
};
use crate::reason::Reason;
use crate::time::{Timestamp, whole_seconds};

#[derive(Debug)]
pub(super) struct RateLimitFilter {
    pub(super) policy: Arc<PolicyRef>,
    /// The requests that are counted at all.
    pub(super) when: Option<Arc<Expression>>,
    /// Ordered by name: what keeps the locks of two versions of a policy in one order.
    pub(super) limits: Box<[BoundLimit]>,
    pub(super) concurrent: Box<[BoundConcurrent]>,
    pub(super) quotas: Box<[BoundQuota]>,
    /// Ordered by name as well.
    pub(super) connections: Box<[BoundConnections]>,
    /// `RateLimit-Policy`, pre-rendered.
    pub(super) policy_field: HeaderValue,
    pub(super) told: Told,
    /// Where a store counts.
    pub(super) exact: Option<Exact>,
    pub(super) on_limit: OnLimit,
    pub(super) seed: [u64; 2],
}

/// A limit joined to its counters.
#[derive(Debug)]
pub(super) struct BoundLimit {
    pub(super) rule: Arc<RuleRef>,
    pub(super) written: Written,
    /// What tells the number of it, request by request.
    pub(super) from: Option<RequestsFrom>,
    /// `RateLimit-Policy` member.
    pub(super) member: Arc<str>,
    /// Keys with a limit of their own.
    pub(super) own: FxHashMap<u128, Own>,
    pub(super) key: Arc<[KeyPart]>,
    pub(super) when: Option<Arc<Expression>>,
    pub(super) cost: Cost,
    /// In place of the cost: what the answer says.
    pub(super) response_cost: Option<ResponseCost>,
    pub(super) shadow: bool,
    pub(super) counters: Counters,
}

/// A limit that counts a request, and what that would spend.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    pub(super) limit: &'a BoundLimit,
    pub(super) own: Option<&'a OwnLimit>,
    pub(super) key: u128,
    pub(super) cost: u32,
    /// The limit's number for this request, where it is told by an expression.
    pub(super) number: Option<NonZeroU32>,
}

/// The same, with the bucket in hand.
pub(super) struct Part<'a> {
    pub(super) wish: Wish<'a>,
    pub(super) bucket: Bucket<'a>,
}

/// What the limits said together.
#[derive(Clone, Copy)]
pub(super) enum Ruling<'a> {
    /// All let it through, and have been spent; this one is closest to exhaustion.
    Allowed(&'a BoundLimit, Level),
    /// All let it through in time, and have been spent; for this one it waits longest.
    Delayed(&'a BoundLimit, Duration),
    /// None was spent; this one takes longest to let it through, or (`None`) never will.
    Refused(&'a BoundLimit, Option<Duration>),
}

pub(super) type Parts<'a> = SmallVec<[Part<'a>; 4]>;
pub(super) type Wishes<'a> = SmallVec<[Wish<'a>; 4]>;

impl Filter for RateLimitFilter {
    fn phase(&self) -> Phase {
        Phase::RateLimit
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        if !holds(self.when.as_deref(), cx) {
            return Verdict::Continue;
        }
        let before = cx.held.len();
        // First: a place is given back as if it had never been taken.
        if let Err(verdict) = self.take_places(cx) {
            return verdict;
        }
        let verdict = match self.exact {
            Some(exact) => self.ask(exact, cx),
            None => self.judge(cx),
        };
        if let Verdict::Reply(_) = verdict {
            cx.held.truncate(before);
        }
        verdict
    }

    fn key_text(
        &self,
        rule: &Arc<RuleRef>,
        asked: (&request::Parts, &Peer),
        route: Option<&str>,
    ) -> Option<String> {
        self.shown_key(rule, asked, route)
    }

    fn judges_connections(&self) -> bool {
        !self.connections.is_empty()
    }

    fn on_connection(&self, cx: &mut ConnectionContext<'_>) -> Result<(), Cut> {
        self.judge_connection(false, cx)?;
        self.judge_connection(true, cx)
    }

    fn on_effect(&self, cx: &mut RequestContext<'_>, performed: &Performed) -> Verdict {
        if *performed == Performed::Waited {
            return self.judge_of(true, cx);
        }
        let answered = match performed {
            Performed::Spent(spent) => self.answered(spent, cx),
            Performed::Unanswered
            | Performed::Waited
            | Performed::Answered(_)
            | Performed::Turned(_)
            | Performed::Plugged(_) => None,
        };
        answered.unwrap_or_else(|| {
            let verdict = self.judge(cx);
            cx.decisions
                .iter_mut()
                .filter(|decision| Arc::ptr_eq(&decision.policy, &self.policy))
                .for_each(|decision| decision.detail = Some(Detail::StoreUnanswered));
            verdict
        })
    }
}

/// A condition that fails does not hold: what it asks of the request is not there.
pub(in crate::kinds) fn holds(when: Option<&Expression>, cx: &RequestContext<'_>) -> bool {
    when.is_none_or(|when| when.holds(&Facts::of(cx)).unwrap_or(false))
}

impl RateLimitFilter {
    /// A place of each that counts the request, or none.
    fn take_places(&self, cx: &mut RequestContext<'_>) -> Result<(), Verdict> {
        let before = cx.held.len();
        for one in &self.concurrent {
            match one.take(&self.policy, self.seed, cx) {
                Ok(place) => cx.held.extend(place.map(|place| Box::new(place) as Box<dyn Held>)),
                Err(()) => {
                    cx.held.truncate(before);
                    return Err(self.refuse(None));
                }
            }
        }
        Ok(())
    }

    /// By what is counted here: first the limits that hold, then those in Shadow.
    fn judge(&self, cx: &mut RequestContext<'_>) -> Verdict {
        match self.judge_of(false, cx) {
            Verdict::Continue => self.judge_of(true, cx),
            verdict => verdict,
        }
    }

    fn judge_of(&self, shadow: bool, cx: &mut RequestContext<'_>) -> Verdict {
        // Given back if the limits refuse.
        let quotas = match self.take_quotas(shadow, cx) {
            Ok(quotas) => quotas,
            Err(verdict) => return verdict,
        };
        let decided = self.decide(cx, shadow);
        match &decided {
            Some((Ruling::Refused(..), _)) => drop(quotas),
            // In Shadow nobody waits, so nobody gives up.
            Some((Ruling::Delayed(..), _)) if !shadow => {
                self.tell_quotas(&quotas, cx);
                quotas.keep_if_resumed(cx);
            }
            _ => {
                self.tell_quotas(&quotas, cx);
                quotas.keep();
            }
        }
        let Some((ruling, wishes)) = decided else { return Verdict::Continue };
        if let Ruling::Allowed(..) = ruling {
            wishes.iter().for_each(|wish| wish.settle_later(cx));
        }
        self.rule(ruling, &wishes, cx)
    }

    /// What follows from a ruling.
    pub(super) fn rule(
        &self,
        ruling: Ruling<'_>,
        wishes: &[Wish<'_>],
        cx: &mut RequestContext<'_>,
    ) -> Verdict {
        self.explain(ruling, cx.decisions);
        let (Ruling::Allowed(limit, _) | Ruling::Delayed(limit, _) | Ruling::Refused(limit, _)) = ruling;
        if limit.shadow {
            return Verdict::Continue;
        }
        self.tell(ruling, wishes, cx);
        match ruling {
            Ruling::Allowed(..) => Verdict::Continue,
            Ruling::Delayed(_, wait) => Verdict::Effect(Effect::Wait(wait)),
            Ruling::Refused(_, wait) => self.refuse(wait),
        }
    }

    /// `wait`: after which another try may be worth it, where that is known.
    pub(super) fn refuse(&self, wait: Option<Duration>) -> Verdict {
        Verdict::Reply(self.on_limit.refusal(wait))
    }

    fn tell(&self, ruling: Ruling<'_>, wishes: &[Wish<'_>], cx: &mut RequestContext<'_>) {
        let (limit, remaining, next, refused) = match ruling {
            Ruling::Allowed(limit, level) => (limit, level.remaining, Some(level.next), false),
            Ruling::Delayed(limit, wait) => (limit, 0, Some(wait), false),
            Ruling::Refused(limit, wait) => (limit, 0, wait, true),
        };
        if self.told.draft {
            cx.response_headers.append(RATE_LIMIT_POLICY, self.policy_field(wishes));
            let value = next.and_then(|next| rate_limit(&limit.rule.name, remaining, next));
            if let Some(value) = value {
                cx.response_headers.append(RATE_LIMIT, value);
            }
        }
        if self.told.x {
            let written = wish_of(wishes, limit).map_or(limit.written, Wish::written);
            let (limit, reset) = (Some(written.burst.get()), next.map_or(0, whole_seconds));
            Standing { limit, remaining, reset, refused }.tell(cx.response_headers);
        }
    }

    /// `RateLimit-Policy`, with what this request and its keys have of their own.
    fn policy_field(&self, wishes: &[Wish<'_>]) -> HeaderValue {
        if wishes.iter().all(|wish| wish.own.is_none() && wish.number.is_none()) {
            return self.policy_field.clone();
        }
        let member = |limit: &'_ BoundLimit| {
            wish_of(wishes, limit).map_or_else(|| limit.member.to_string(), Wish::member)
        };
        let members: Vec<_> = self.limits.iter().filter(|limit| !limit.shadow).map(member).collect();
        HeaderValue::try_from(members.join(", ")).unwrap_or_else(|_| self.policy_field.clone())
    }

    /// All limits that count a request.
    ///
    /// # Errors
    /// One of them lets no such request pass.
    pub(super) fn wishes(&self, cx: &RequestContext<'_>) -> Result<Wishes<'_>, Ruling<'_>> {
        let wishes = self.limits.iter().filter_map(|limit| limit.wish(cx, self.seed).transpose());
        wishes.collect()
    }

    /// What those limits say that hold, or those that are in Shadow. `None` if none of them counts the request.
    fn decide(&self, cx: &mut RequestContext<'_>, shadow: bool) -> Option<(Ruling<'_>, Wishes<'_>)> {
        let now = cx.now;
        // All of them before any bucket, which holds a lock: expressions take their time.
        let mut wishes = Wishes::new();
        for limit in self.limits.iter().filter(|limit| limit.shadow == shadow) {
            match limit.wish(cx, self.seed) {
                Ok(Some(wish)) => wishes.push(wish),
                Ok(None) => {}
                Err(ruling) => return Some((ruling, Wishes::new())),
            }
        }
        let parts: Parts<'_> = wishes.iter().map(|wish| wish.part(cx)).collect();
        let patience = self.on_limit.delay.unwrap_or_default();
        let ruling = match refusal(&parts, patience, now) {
            Some(refused) => refused,
            None if self.exact.is_some_and(Exact::closes) => Ruling::Refused(parts.first()?.wish.limit, None),
            None if self.on_limit.delay.is_some() => take_turns(&parts, patience, cx)?,
            None => spend(&parts, now)?,
        };
        drop(parts);
        Some((ruling, wishes))
    }

    pub(super) fn explain(&self, ruling: Ruling<'_>, decisions: &mut Decisions) {
        let (limit, outcome, detail) = match ruling {
            Ruling::Allowed(limit, level) => {
                (limit, Outcome::Allowed, Some(Detail::Remaining(level.remaining)))
            }
            Ruling::Delayed(limit, wait) => (limit, Outcome::Allowed, Some(Detail::Delayed(wait))),
            Ruling::Refused(limit, wait) => {
                let outcome = match limit.shadow {
                    false => Outcome::Refused(Reason::RateLimited),
                    true => Outcome::WouldRefuse(Reason::RateLimited),
                };
                (limit, outcome, wait.map(Detail::RetryAfter))
            }
        };
        let (policy, rule) = (Arc::clone(&self.policy), Arc::clone(&limit.rule));
        decisions.push(Decision { policy, rule, outcome, detail });
    }
}

/// Which of them would refuse longest, if any would refuse whoever waits up to `patience`; takes nothing.
pub(super) fn refusal<'a>(parts: &[Part<'a>], patience: Duration, now: Timestamp) -> Option<Ruling<'a>> {
    let refusals = parts.iter().filter_map(|part| {
        let refused = part.bucket.check(part.wish.cost.max(1), now);
        let wait = refused.err().filter(|wait| wait.is_none_or(|wait| wait > patience));
        wait.map(|wait| (part.wish.limit, wait))
    });
    // For ever is longest. Of equals, the first by name has the word.
    let longest = refusals.rev().max_by_key(|(_, wait)| (wait.is_none(), *wait));
    longest.map(|(limit, wait)| Ruling::Refused(limit, wait))
}

/// All of them, or none. `None` if there are none.
pub(super) fn spend<'a>(parts: &[Part<'a>], now: Timestamp) -> Option<Ruling<'a>> {
    let mut tightest: Option<(&BoundLimit, Level)> = None;
    let mut spends = SmallVec::<[u64; 4]>::new();
    for part in parts {
        match part.bucket.spend(part.wish.cost, now) {
            Ok(Spend { level, after, .. }) => {
                spends.push(after);
                let tighter = tightest.is_none_or(|(_, least)| level.remaining < least.remaining);
                tightest = if tighter { Some((part.wish.limit, level)) } else { tightest };
            }
            // Another request was faster since the look.
            Err(wait) => {
                undo(parts, &spends);
                return Some(Ruling::Refused(part.wish.limit, wait));
            }
        }
    }
    tightest.map(|(limit, level)| Ruling::Allowed(limit, level))
}

/// Gives back what the first of them spent, each with what its bucket said after it.
pub(super) fn undo(parts: &[Part<'_>], spends: &[u64]) {
    parts.iter().zip(spends).for_each(|(part, after)| part.bucket.give_back(part.wish.cost, *after));
}

/// What the request would spend of one limit.
fn wish_of<'w, 'a>(wishes: &'w [Wish<'a>], limit: &BoundLimit) -> Option<&'w Wish<'a>> {
    wishes.iter().find(|wish| std::ptr::eq(wish.limit, limit))
}

impl BoundLimit {
    /// What a request would spend; nothing, if the limit does not count it.
    ///
    /// # Errors
    /// The limit lets no such request pass.
    fn wish(&self, cx: &RequestContext<'_>, seed: [u64; 2]) -> Result<Option<Wish<'_>>, Ruling<'_>> {
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
        let number = self.from.as_ref().filter(|_| own.is_none()).map(|from| from.number(cx));
        let wish = Wish { limit: self, own, key, cost: 0, number };
        if self.response_cost.is_some() {
            return Ok(Some(wish));
        }
        let cost = self.cost.of(cx, wish.written().burst);
        Ok((cost > 0).then_some(Wish { cost, ..wish }))
    }
}

impl<'a> Wish<'a> {
    /// Where the answer says what it costs, keeps the bucket until then.
    fn settle_later(&self, cx: &mut RequestContext<'_>) {
        let Some(cost) = self.limit.response_cost.clone() else { return };
        let bucket = self.counters().keep(self.key, || key::bytes(&self.limit.key, cx), cx.now);
        let (rate, holds) = (self.rate(), self.written().burst);
        cx.held.push(Box::new(Settle { bucket, cost, rate, holds }));
    }

    pub(super) fn counters(&self) -> &'a Counters {
        self.own.map_or(&self.limit.counters, |own| &own.counters)
    }

    /// The limit as it holds for this request.
    pub(super) fn written(&self) -> Written {
        match (self.own, &self.limit.from, self.number) {
            (Some(own), ..) => own.written,
            (None, Some(from), Some(number)) => from.written(number),
            _ => self.limit.written,
        }
    }

    /// Where it is another one than that of its counters.
    pub(super) fn rate(&self) -> Option<Rate> {
        self.limit.from.as_ref()?.rate(self.number?)
    }

    /// `RateLimit-Policy` member.
    fn member(&self) -> String {
        match (self.own, self.number) {
            (Some(own), _) => own.member.to_string(),
            (None, Some(number)) => policy_member(&self.limit.rule.name, number, self.limit.written.per),
            (None, None) => self.limit.member.to_string(),
        }
    }

    fn part(self, cx: &RequestContext<'_>) -> Part<'a> {
        let bytes = || key::bytes(&self.limit.key, cx);
        Part { bucket: self.counters().bucket(self.key, bytes, cx.now).with(self.rate()), wish: self }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::LimitState;
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
            written: Written { requests: number(1), per: Duration::from_secs(60), burst: number(burst) },
            from: None,
            member: "".into(),
            own: FxHashMap::default(),
            key: Arc::new([]),
            when: None,
            cost: Cost::One,
            response_cost: None,
            shadow: false,
            counters: Counters::Here(Arc::new(LimitState::new(rate, None))),
        }
    }

    #[test]
    fn a_spend_that_loses_a_race_gives_back_what_was_already_spent() {
        let limits = [limit("a", 2), limit("b", 1)];
        let now = Timestamp::from_millis(1);
        fn part(limit: &BoundLimit, now: Timestamp) -> Part<'_> {
            let wish = Wish { limit, own: None, key: 0, cost: 1, number: None };
            Part { bucket: limit.counters.bucket(0, Vec::new, now), wish }
        }
        let parts: Vec<_> = limits.iter().map(|limit| part(limit, now)).collect();
        let left = || matches!(spend(&parts, now), Some(Ruling::Allowed(..)));
        assert!(left());
        // As if another request took the last of `b` between the look and the spending.
        assert!(!left() && !left());
        let rest = parts[0].bucket.spend(1, now);
        assert_eq!(rest.map(|spent| spent.level.remaining), Ok(0), "one of `a` was left, and still is");
    }
}
