//! What one request takes of the quotas that count it, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use smallvec::SmallVec;

use super::calendar::Window;
use super::counts::Taken;
use super::{BoundQuota, Demand};
use crate::decision::{Decision, Detail, Outcome};
use crate::kinds::rate_limit::fields::{RATE_LIMIT, RATE_LIMIT_POLICY, policy_member, rate_limit};
use crate::kinds::rate_limit::filter::RateLimitFilter;
use crate::kinds::rate_limit::told::Standing;
use crate::pipeline::{Held, RequestContext, Verdict};
use crate::reason::Reason;
use crate::time::whole_seconds;

/// What a request has taken of all quotas that count it; given back when it is dropped, unless it is kept.
#[derive(Debug, Default)]
pub(in crate::kinds::rate_limit) struct TakenQuotas<'a> {
    taken: SmallVec<[(Demand<'a>, Taken); 2]>,
    /// When; only asked for where a quota counts.
    wall: Option<Duration>,
}

/// The same of a request that waits for its turn: kept when that comes, given back if it gives up.
#[derive(Debug)]
struct Waiting(SmallVec<[Taken; 2]>);

impl RateLimitFilter {
    /// What it costs of each quota that counts the request, or nothing; of those that hold, or of those in Shadow.
    ///
    /// # Errors
    /// What follows if there is not so much left.
    pub(in crate::kinds::rate_limit) fn take_quotas(
        &self,
        shadow: bool,
        cx: &mut RequestContext<'_>,
    ) -> Result<TakenQuotas<'_>, Verdict> {
        let mut all = TakenQuotas::default();
        for quota in self.quotas.iter().filter(|quota| quota.shadow == shadow) {
            let demand = match quota.demand(cx, self.seed) {
                Ok(Some(demand)) => demand,
                Ok(None) => continue,
                Err(()) => return Err(self.refuse_by_quota(quota, None, cx)),
            };
            let wall = *all.wall.get_or_insert_with(cx.unix);
            match demand.take(wall) {
                Ok(taken) => all.taken.push((demand, taken)),
                Err(window) => return Err(self.refuse_by_quota(quota, Some((demand, window, wall)), cx)),
            }
        }
        Ok(all)
    }

    /// `full`: what was asked of the window in which not so much is left, and what time it is; else the request is without what it must have.
    pub(in crate::kinds::rate_limit) fn refuse_by_quota(
        &self,
        quota: &BoundQuota,
        full: Option<(Demand<'_>, Window, Duration)>,
        cx: &mut RequestContext<'_>,
    ) -> Verdict {
        let wait = full.map(|(_, window, wall)| window.left(wall));
        let outcome = match quota.shadow {
            false => Outcome::Refused(Reason::RateLimited),
            true => Outcome::WouldRefuse(Reason::RateLimited),
        };
        self.explain_quota(quota, (outcome, wait.map(Detail::RetryAfter)), cx);
        if quota.shadow {
            return Verdict::Continue;
        }
        if let Some((demand, window, wall)) = full {
            self.tell_member(&demand, window, cx);
            self.tell_level(&demand, (0, window.left(wall), true), cx);
        }
        self.refuse(wait)
    }

    /// What the quotas say of a request that has passed the limits too.
    pub(in crate::kinds::rate_limit) fn tell_quotas(
        &self,
        all: &TakenQuotas<'_>,
        cx: &mut RequestContext<'_>,
    ) {
        let stand: SmallVec<[_; 2]> =
            all.taken.iter().map(|(demand, taken)| (*demand, taken.window, taken.remaining)).collect();
        self.tell_passed(&stand, all.wall.unwrap_or_default(), cx);
    }

    /// Of each quota that has let the request through, its window, and what is left after it.
    pub(in crate::kinds::rate_limit) fn tell_passed(
        &self,
        stand: &[(Demand<'_>, Window, u32)],
        wall: Duration,
        cx: &mut RequestContext<'_>,
    ) {
        let Some((demand, window, remaining)) = stand.iter().min_by_key(|(_, _, remaining)| *remaining)
        else {
            return;
        };
        self.explain_quota(demand.quota, (Outcome::Allowed, Some(Detail::Remaining(*remaining))), cx);
        if demand.quota.shadow {
            return;
        }
        stand.iter().for_each(|(demand, window, _)| self.tell_member(demand, *window, cx));
        self.tell_level(demand, (*remaining, window.left(wall), false), cx);
    }

    fn explain_quota(
        &self,
        quota: &BoundQuota,
        (outcome, detail): (Outcome, Option<Detail>),
        cx: &mut RequestContext<'_>,
    ) {
        let (policy, rule) = (Arc::clone(&self.policy), Arc::clone(&quota.rule));
        cx.decisions.push(Decision { policy, rule, outcome, detail });
    }

    fn tell_member(&self, demand: &Demand<'_>, window: Window, cx: &mut RequestContext<'_>) {
        let Demand { quota, most, .. } = demand;
        let member = || policy_member(&quota.rule.name, most.requests, window.length());
        if self.told.draft
            && let Ok(member) = HeaderValue::try_from(member())
        {
            cx.response_headers.append(RATE_LIMIT_POLICY, member);
        }
    }

    fn tell_level(
        &self,
        Demand { quota, most, .. }: &Demand<'_>,
        (remaining, left, refused): (u32, Duration, bool),
        cx: &mut RequestContext<'_>,
    ) {
        if self.told.draft
            && let Some(value) = rate_limit(&quota.rule.name, remaining, left)
        {
            cx.response_headers.append(RATE_LIMIT, value);
        }
        if self.told.x {
            let (limit, reset) = (most.requests.get(), whole_seconds(left));
            Standing { limit: Some(limit), remaining, reset, refused }.tell(cx.response_headers);
        }
    }
}

impl TakenQuotas<'_> {
    /// All of it stays taken.
    pub(in crate::kinds::rate_limit) fn keep(mut self) {
        self.taken.iter_mut().for_each(|(_, taken)| taken.keep());
    }

    /// It stays taken if the request's turn comes.
    pub(in crate::kinds::rate_limit) fn keep_if_resumed(self, cx: &mut RequestContext<'_>) {
        if !self.taken.is_empty() {
            let taken = self.taken.into_iter().map(|(_, taken)| taken).collect();
            cx.held.push(Box::new(Waiting(taken)));
        }
    }
}

impl Held for Waiting {
    fn on_resume(&mut self) {
        self.0.iter_mut().for_each(Taken::keep);
    }
}
