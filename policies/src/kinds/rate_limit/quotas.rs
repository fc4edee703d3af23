//! `quotas`: how many requests of a key in an hour, a day, a week or a month of the calendar. Beside `limits`, which know
//! no calendar: those say how fast, these how much in all.
//!
//! A request spends one of each quota that counts it, and one of its limits, or nothing of any. While two race, one may be
//! refused for what the other gives back a moment later; never are more let through than is written.

mod calendar;
mod counts;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::fields::{RATE_LIMIT, RATE_LIMIT_POLICY, policy_member, rate_limit};
use super::filter::{RateLimitFilter, holds};
use super::key::{self, Key, KeyPart, KeySpec};
use super::scope::Scope;
use super::told::Standing;
use super::{
    LimitMode, MOST_KEY_PARTS, MOST_LIMITS, RateLimitPolicySpec, at_least_one, condition, key_parts,
};
use crate::decision::{Decision, Detail, Outcome, RuleRef};
use crate::expression::Expression;
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::model::Mode;
use crate::pipeline::{Held, RequestContext, Verdict};
use crate::reason::Reason;
use crate::state::{StateKey, StateStore};
use crate::time::whole_seconds;
use calendar::{Calendar, Every, Window};
use counts::{Counts, Taken};

/// At most so many requests from one begin to the next, in each proxy. Each request is one.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct QuotaSpec {
    /// For logs, traces, metrics and the RateLimit response fields; unique in the policy, its limits included.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// At least 1.
    #[schemars(range(min = 1))]
    requests: u32,
    /// A week begins on Monday. A day is as long as it is: 23 or 25 hours where the clock is changed.
    every: Every,
    /// Whose calendar, by its IANA name (`Europe/Berlin`). Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    time_zone: Option<String>,
    /// What is counted apart. Default: nothing, one count for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    key: Vec<KeySpec>,
    /// The requests that are counted, as `when` of a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    when: Option<String>,
    /// Shadow: only tells whom it would have refused. Default: the mode of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<LimitMode>,
}

/// The same, valid.
#[derive(Debug)]
pub(super) struct Quota {
    rule: Arc<RuleRef>,
    requests: NonZeroU32,
    calendar: Calendar,
    key: Arc<[KeyPart]>,
    when: Option<Arc<Expression>>,
    shadow: bool,
}

/// Joined to its counts.
#[derive(Debug)]
pub(super) struct BoundQuota {
    rule: Arc<RuleRef>,
    requests: NonZeroU32,
    calendar: Calendar,
    key: Arc<[KeyPart]>,
    when: Option<Arc<Expression>>,
    shadow: bool,
    counts: Arc<Counts>,
}

/// What a request has taken of all quotas that count it; given back when it is dropped, unless it is kept.
#[derive(Debug, Default)]
pub(super) struct TakenQuotas<'a> {
    taken: SmallVec<[(&'a BoundQuota, Taken); 2]>,
    /// When; only asked for where a quota counts.
    wall: Option<Duration>,
}

/// The same of a request that waits for its turn: kept when that comes, given back if it gives up.
#[derive(Debug)]
struct Waiting(SmallVec<[Taken; 2]>);

impl RateLimitPolicySpec {
    pub(super) fn quotas(&self, cx: &mut CompileContext<'_>) -> Option<Vec<Quota>> {
        let count = self.quotas.len();
        if count > MOST_LIMITS {
            cx.error("/quotas", format!("{count} of them: write at most {MOST_LIMITS}"));
        }
        if count > 0 && self.scope != Scope::Local && self.domain.is_none() {
            cx.error("/quotas", "`quotas` go with `scope: Local` only: each proxy counts its own");
        }
        check::unique(cx, "/quotas", self.quotas.iter().map(|quota| Some(quota.name.as_str())));
        for (i, QuotaSpec { name, .. }) in self.quotas.iter().enumerate() {
            if self.limits.iter().any(|limit| limit.name == *name) {
                cx.error(format!("/quotas/{i}/name"), "a limit of this policy has the same name");
            }
            if self.concurrent.iter().any(|one| one.name() == name) {
                cx.error(format!("/quotas/{i}/name"), "one of `concurrent` has the same name");
            }
        }
        let each = self.quotas.iter().enumerate();
        let compiled: Vec<_> = each.map(|(i, quota)| quota.compile(&format!("/quotas/{i}"), cx)).collect();
        let mut quotas: Vec<Quota> = compiled.into_iter().collect::<Option<_>>()?;
        // Of several that refuse, the first is told: the one that takes longest to begin anew.
        quotas.sort_by_key(|quota| std::cmp::Reverse(quota.calendar.every()));
        Some(quotas)
    }
}

impl QuotaSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Quota> {
        check::name(cx, &format!("{at}/name"), &self.name);
        let requests = at_least_one(self.requests, &format!("{at}/requests"), cx);
        let calendar = self.calendar(at, cx);
        let key = key_parts(&self.key, MOST_KEY_PARTS, at, cx);
        let when = condition(self.when.as_deref(), &format!("{at}/when"), cx);
        Some(Quota {
            rule: cx.rule(&self.name, at),
            requests: requests?,
            calendar: calendar?,
            key: key?,
            when,
            shadow: cx.mode() == Mode::Shadow || self.mode == Some(LimitMode::Shadow),
        })
    }

    fn calendar(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Calendar> {
        let zone = self.time_zone.as_deref().unwrap_or("UTC");
        let calendar = Calendar::new(self.every, zone);
        let say = |near: Option<String>| {
            let hint = near.map_or(String::from("use an IANA name, such as `Europe/Berlin`"), |near| {
                format!("did you mean `{near}`?")
            });
            cx.error(format!("{at}/timeZone"), format!("`{zone}` is no time zone: {hint}"));
        };
        calendar.map_err(say).ok()
    }
}

impl Quota {
    /// Another number finds the same counts; another calendar begins anew.
    pub(super) fn bind(&self, owner: &Arc<str>, store: &StateStore) -> BoundQuota {
        let (name, parts, calendar) = (&self.rule.name, key::describe(&self.key), self.calendar.describe());
        let part = StateKey::new(Arc::clone(owner), format!("{name}{parts}|quota|{calendar}"));
        BoundQuota {
            rule: Arc::clone(&self.rule),
            requests: self.requests,
            calendar: self.calendar.clone(),
            key: Arc::clone(&self.key),
            when: self.when.clone(),
            shadow: self.shadow,
            counts: store.get_or_restore(part, Counts::new),
        }
    }
}

impl BoundQuota {
    fn take(&self, key: u128, wall: Duration) -> Result<Taken, Window> {
        self.counts.take(key, self.requests.get(), |window| {
            if window.is_over(wall) { self.calendar.window(wall) } else { window }
        })
    }
}

impl RateLimitFilter {
    /// One of each quota that counts the request, or none; of those that hold, or of those in Shadow.
    ///
    /// # Errors
    /// What follows if there is none left.
    pub(super) fn take_quotas(
        &self,
        shadow: bool,
        cx: &mut RequestContext<'_>,
    ) -> Result<TakenQuotas<'_>, Verdict> {
        let mut all = TakenQuotas::default();
        for quota in self.quotas.iter().filter(|quota| quota.shadow == shadow) {
            if !holds(quota.when.as_deref(), cx) {
                continue;
            }
            let key = match key::of(&quota.key, cx, self.seed) {
                Key::Of(key) => key,
                Key::Skip => continue,
                Key::Deny => return Err(self.refuse_by_quota(quota, None, cx)),
            };
            let wall = *all.wall.get_or_insert_with(cx.unix);
            match quota.take(key, wall) {
                Ok(taken) => all.taken.push((quota, taken)),
                Err(window) => return Err(self.refuse_by_quota(quota, Some((window, wall)), cx)),
            }
        }
        Ok(all)
    }

    /// `full`: the window in which nothing is left, and what time it is; else the request is without what it must have.
    fn refuse_by_quota(
        &self,
        quota: &BoundQuota,
        full: Option<(Window, Duration)>,
        cx: &mut RequestContext<'_>,
    ) -> Verdict {
        let wait = full.map(|(window, wall)| window.left(wall));
        let outcome = match quota.shadow {
            false => Outcome::Refused(Reason::RateLimited),
            true => Outcome::WouldRefuse(Reason::RateLimited),
        };
        self.explain_quota(quota, (outcome, wait.map(Detail::RetryAfter)), cx);
        if quota.shadow {
            return Verdict::Continue;
        }
        if let Some((window, wall)) = full {
            self.tell_member(quota, window, cx);
            self.tell_level(quota, (0, window.left(wall), true), cx);
        }
        self.refuse(wait)
    }

    /// What the quotas say of a request that has passed the limits too.
    pub(super) fn tell_quotas(&self, all: &TakenQuotas<'_>, cx: &mut RequestContext<'_>) {
        let Some((quota, tightest)) = all.taken.iter().min_by_key(|(_, taken)| taken.remaining) else {
            return;
        };
        self.explain_quota(quota, (Outcome::Allowed, Some(Detail::Remaining(tightest.remaining))), cx);
        if quota.shadow {
            return;
        }
        all.taken.iter().for_each(|(quota, taken)| self.tell_member(quota, taken.window, cx));
        let left = tightest.window.left(all.wall.unwrap_or_default());
        self.tell_level(quota, (tightest.remaining, left, false), cx);
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

    fn tell_member(&self, quota: &BoundQuota, window: Window, cx: &mut RequestContext<'_>) {
        let member = || policy_member(&quota.rule.name, quota.requests, window.length());
        if self.told.draft
            && let Ok(member) = HeaderValue::try_from(member())
        {
            cx.response_headers.append(RATE_LIMIT_POLICY, member);
        }
    }

    fn tell_level(
        &self,
        quota: &BoundQuota,
        (remaining, left, refused): (u32, Duration, bool),
        cx: &mut RequestContext<'_>,
    ) {
        if self.told.draft
            && let Some(value) = rate_limit(&quota.rule.name, remaining, left)
        {
            cx.response_headers.append(RATE_LIMIT, value);
        }
        if self.told.x {
            let (limit, reset) = (quota.requests.get(), whole_seconds(left));
            Standing { limit, remaining, reset, refused }.tell(cx.response_headers);
        }
    }
}

impl TakenQuotas<'_> {
    /// All of it stays taken.
    pub(super) fn keep(mut self) {
        self.taken.iter_mut().for_each(|(_, taken)| taken.keep());
    }

    /// It stays taken if the request's turn comes.
    pub(super) fn keep_if_resumed(self, cx: &mut RequestContext<'_>) {
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
