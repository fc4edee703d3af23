//! `quotas`: how many requests of a key in an hour, a day, a week or a month of the calendar. Beside `limits`, which know
//! no calendar: those say how fast, these how much in all.
//!
//! A request spends of each quota that counts it, and of its limits, or nothing of any. While two race, one may be
//! refused for what the other gives back a moment later; never are more let through than is written.

mod calendar;
mod counts;
mod own;
pub(super) mod shared;
mod taken;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::{Cost, CostSpec};
use super::idle::{self, Counted};
use super::key::{self, KeyPart, KeySpec};
use super::scope::Scope;
use super::{LimitMode, MOST_LIMITS, RateLimitPolicySpec, condition, key_parts};
use crate::decision::RuleRef;
use crate::expression::Expression;
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::state::{StateKey, StateStore};
use calendar::{Calendar, Every, Window};
use counts::{Counts, Taken};
pub(super) use own::Demand;
use own::{Most, OwnQuota, OwnQuotaSpec, OwnQuotas};

/// At most so many requests from one begin to the next: at each proxy or, with `scope: Exact`, at all of them together.
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
    /// How much a request spends. Default: one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<CostSpec>,
    /// What holds for named keys in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    overrides: Vec<OwnQuotaSpec>,
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
    cost: Cost,
    own: Vec<OwnQuota>,
    shadow: bool,
}

/// Joined to its counts.
#[derive(Debug)]
pub(super) struct BoundQuota {
    rule: Arc<RuleRef>,
    most: Most,
    /// Of keys that have a number of their own.
    own: OwnQuotas,
    cost: Cost,
    calendar: Calendar,
    key: Arc<[KeyPart]>,
    when: Option<Arc<Expression>>,
    shadow: bool,
    counts: Arc<Counts>,
}

impl RateLimitPolicySpec {
    pub(super) fn quotas(&self, cx: &mut CompileContext<'_>) -> Option<Vec<Quota>> {
        let count = self.quotas.len();
        if count > MOST_LIMITS {
            cx.error("/quotas", format!("{count} of them: write at most {MOST_LIMITS}"));
        }
        if count > 0 && !matches!(self.scope, Scope::Local | Scope::Exact) && self.domain.is_none() {
            let message = "`quotas` go with `scope: Local`, where each proxy counts its own, and with `scope: Exact`, where \
                           all count together";
            cx.error("/quotas", message);
        }
        check::unique(cx, "/quotas", self.quotas.iter().map(|quota| Some(quota.name.as_str())));
        for (i, QuotaSpec { name, mode, .. }) in self.quotas.iter().enumerate() {
            if self.scope == Scope::Exact && *mode == Some(LimitMode::Shadow) {
                let message = "with `scope: Exact`, write quotas in Shadow into a policy of their own";
                cx.error(format!("/quotas/{i}/mode"), message);
            }
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

impl idle::Written for Quota {
    fn rule(&self) -> &Arc<RuleRef> {
        &self.rule
    }
}

impl Quota {
    pub(super) fn counted(&self) -> Counted<'_> {
        Counted { key: &self.key, when: self.when.as_ref(), shadow: self.shadow }
    }

    /// From one begin to the next, at most: clocks are put back by no more than an hour.
    pub(super) fn longest(&self) -> Duration {
        let hours = match self.calendar.every() {
            Every::Hour => 2,
            Every::Day => 25,
            Every::Week => 7 * 24 + 1,
            Every::Month => 31 * 24 + 1,
        };
        Duration::from_secs(hours * 3600)
    }

    pub(super) fn most(&self) -> u128 {
        u128::from(self.requests.get())
    }

    /// Whether all that it lets through is less than `other` would.
    pub(super) fn beats(&self, other: &Self) -> bool {
        let times = match (self.calendar.every(), other.calendar.every()) {
            _ if self.calendar.is_same(&other.calendar) => 1,
            (Every::Hour, Every::Day) => 25,
            (Every::Hour, Every::Week) => 7 * 24 + 2,
            (Every::Hour, Every::Month) => 31 * 24 + 2,
            (Every::Day, Every::Week) => 8,
            (Every::Day, Every::Month) => 32,
            (Every::Week, Every::Month) => 6,
            _ => return false,
        };
        self.most() * times <= other.most() && self.counted().includes(other.counted())
    }
}

impl QuotaSpec {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn key(&self) -> &[KeySpec] {
        &self.key
    }

    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Quota> {
        check::name(cx, &format!("{at}/name"), &self.name);
        let requests = check::at_least_one(self.requests, &format!("{at}/requests"), cx);
        let calendar = self.calendar(at, cx);
        let key = key_parts(&self.key, KeySpec::compile, &format!("{at}/key"), cx);
        let when = condition(self.when.as_deref(), &format!("{at}/when"), cx);
        let own = self.own(at, cx);
        let holds = requests.unwrap_or(NonZeroU32::MAX);
        let cost = self.cost.as_ref().map(|cost| cost.compile(&format!("{at}/cost"), holds, cx));
        Some(Quota {
            rule: cx.rule(&self.name, at),
            requests: requests?,
            calendar: calendar?,
            key: key?,
            when,
            cost: cost.unwrap_or(Some(Cost::One))?,
            own: own?,
            shadow: LimitMode::is_shadow(self.mode, cx),
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
    /// Another number finds the same counts; another calendar begins anew. `percent`: of the whole, where somebody else
    /// counts as a rule.
    pub(super) fn bind(&self, owner: &Arc<str>, percent: Option<u32>, store: &StateStore) -> BoundQuota {
        let (name, parts, calendar) = (&self.rule.name, key::describe(&self.key), self.calendar.describe());
        let place = StateKey::new(Arc::clone(owner), format!("{name}{parts}|quota|{calendar}"));
        BoundQuota {
            rule: Arc::clone(&self.rule),
            most: Most::new(self.requests, percent),
            own: OwnQuota::bind(&self.own, &self.key, percent, store.hash_seed()),
            cost: self.cost.clone(),
            calendar: self.calendar.clone(),
            key: Arc::clone(&self.key),
            when: self.when.clone(),
            shadow: self.shadow,
            counts: store.get_or_restore(place, Counts::new),
        }
    }
}

impl BoundQuota {
    /// Its rule, and what it counts apart.
    pub(super) fn counts_by(&self) -> (&Arc<RuleRef>, &Arc<[KeyPart]>) {
        (&self.rule, &self.key)
    }
}

impl Demand<'_> {
    fn take(&self, wall: Duration) -> Result<Taken, Window> {
        let Self { quota, key, most, cost } = self;
        quota.counts.take(*key, (*cost, most.here), |window| {
            if window.is_over(wall) { quota.calendar.window(wall) } else { window }
        })
    }
}

/// At least one, unless it is to be nothing.
fn part(whole: NonZeroU32, percent: u32) -> u32 {
    let part = u64::from(whole.get()) * u64::from(percent) / 100;
    u32::try_from(part).unwrap_or(u32::MAX).max(u32::from(percent > 0))
}
