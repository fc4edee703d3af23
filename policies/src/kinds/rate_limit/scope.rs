//! Who shares the budget of a policy, and so what keeps the counters of its limits.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RateLimitPolicySpec;
use super::cell::{Level, Rate, Spend};
use super::exact::{Exact, Written};
use super::mesh::{LentBucket, LentBuckets, Mesh};
use super::response_cost::Kept;
use super::service;
use super::state::{self, LimitState};
use super::table;
use crate::kind::CompileContext;
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;

/// Who shares the budget of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Scope {
    /// Each proxy has one.
    #[default]
    Local,
    /// All proxies have one. The control plane lends each of them a share of it, by what it is asked for; no request
    /// waits for that.
    Mesh,
    /// All proxies have one, counted exactly in the Redis that they are started with (`--redis`). Each request waits for
    /// its answer.
    Exact,
    /// All who ask it have one: a rate limit service counts, by Envoy's protocol. Each request waits for its answer.
    Service,
}

/// A scope with what is written for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Local,
    Mesh(Mesh),
    Exact(Exact),
    /// Of each limit, what this proxy lets through by itself while the service does not answer, in percent.
    Service(u32),
}

/// What the counters of a limit, or of one key with a limit of its own, are found under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) owner: &'a Arc<str>,
    /// Namespace and name.
    pub(super) policy: &'a str,
    pub(super) limit: &'a str,
    /// The parts of the key, by name.
    pub(super) parts: &'a str,
    /// The key that has a limit of its own.
    pub(super) own: Option<&'a [String]>,
}

/// What keeps the counters of a limit.
#[derive(Clone, Debug)]
pub(super) enum Counters {
    Here(Arc<LimitState>),
    Lent(Arc<LentBuckets>),
}

/// One limit's bucket for one request.
#[derive(Debug)]
pub(super) enum Bucket<'a> {
    Here(state::Bucket<'a>),
    Lent(Arc<LentBucket>),
}

impl Sharing {
    pub(super) fn compile(spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) -> Self {
        if spec.exact.is_some() && spec.scope != Scope::Exact {
            cx.error("/exact", "`exact` goes with `scope: Exact` only");
        }
        if spec.mesh.is_some() && spec.scope != Scope::Mesh {
            cx.error("/mesh", "`mesh` goes with `scope: Mesh` only");
        }
        if spec.scope != Scope::Service {
            service::check_absence(spec, cx);
        }
        match spec.scope {
            Scope::Local => Self::Local,
            Scope::Mesh => Self::Mesh(Mesh::compile(spec.mesh.as_ref(), cx)),
            Scope::Exact => Self::Exact(Exact::compile(spec, cx)),
            Scope::Service => Self::Service(service::percent(spec)),
        }
    }

    pub(super) fn exact(self) -> Option<Exact> {
        if let Self::Exact(exact) = self { Some(exact) } else { None }
    }

    /// Where somebody else counts, what each proxy lets through by itself without him, in percent.
    fn part(self) -> Option<u32> {
        match self {
            Self::Local | Self::Mesh(_) => None,
            Self::Exact(exact) => Some(exact.percent()),
            Self::Service(percent) => Some(percent),
        }
    }

    /// What is counted here of a limit: all of it or, where somebody else counts, what passes without him.
    pub(super) fn rate(self, written: Written, rate: Rate) -> Rate {
        self.part().and_then(|percent| written.share(percent)).unwrap_or(rate)
    }

    /// The counters of a limit, found again or made, with the [`Sharing::rate`] of it. The rate is not part of the place: a
    /// changed one finds what was spent.
    pub(super) fn counters(
        self,
        place: Place<'_>,
        (written, rate): (Written, Rate),
        is_keyed: bool,
        store: &StateStore,
    ) -> Counters {
        if let Self::Mesh(mesh) = self {
            return Counters::Lent(LentBuckets::bind(place, mesh, written, store));
        }
        let max_keys = is_keyed.then_some(table::MAX_KEYS);
        let without = if self.part().is_some() { "|without-store" } else { "" };
        let state = store.get_or_restore(place.state_key(without), || LimitState::new(rate, max_keys));
        state.want(rate);
        Counters::Here(state)
    }
}

impl Place<'_> {
    pub(super) fn state_key(&self, mark: &str) -> StateKey {
        let Self { owner, limit, parts, own, .. } = *self;
        let own = own.map(|key| format!("|own:{key:?}")).unwrap_or_default();
        StateKey::new(Arc::clone(owner), format!("{limit}{parts}{mark}{own}"))
    }
}

impl Counters {
    /// Buckets of several limits must be asked for in one fixed order of the limits: each may hold a lock. `bytes`: the key as
    /// every proxy has it.
    pub(super) fn bucket(&self, key: u128, bytes: impl FnOnce() -> Vec<u8>, now: Timestamp) -> Bucket<'_> {
        match self {
            Self::Here(state) => Bucket::Here(state.bucket(key, now)),
            Self::Lent(buckets) => Bucket::Lent(buckets.bucket(key, bytes, now)),
        }
    }
}

impl Counters {
    /// The bucket, to be charged later.
    pub(super) fn keep(&self, key: u128, bytes: impl FnOnce() -> Vec<u8>, now: Timestamp) -> Kept {
        match self {
            Self::Here(state) => Kept::Here(Arc::clone(state), key),
            Self::Lent(buckets) => Kept::Lent(buckets.bucket(key, bytes, now)),
        }
    }
}

impl Bucket<'_> {
    /// With the rate of this request, where it has one of its own. What is lent has one for all.
    pub(super) fn with(self, rate: Option<Rate>) -> Self {
        match (self, rate) {
            (Self::Here(bucket), Some(rate)) => Self::Here(bucket.with(rate)),
            (bucket, _) => bucket,
        }
    }

    /// Whether `cost` requests would be let through together; takes nothing.
    ///
    /// # Errors
    /// How long to wait, `None` for ever.
    pub(super) fn check(&self, cost: u32, now: Timestamp) -> Result<(), Option<Duration>> {
        match self {
            Self::Here(bucket) => bucket.check(cost, now),
            Self::Lent(bucket) => bucket.check(cost, now),
        }
    }

    /// Takes `cost` requests together.
    ///
    /// # Errors
    /// How long to wait, `None` for ever; nothing was taken.
    pub(super) fn spend(&self, cost: u32, now: Timestamp) -> Result<Spend, Option<Duration>> {
        match self {
            Self::Here(bucket) => bucket.spend(cost, now),
            Self::Lent(bucket) => bucket.spend(cost, now).map(Spend::of_a_share),
        }
    }

    /// Takes `cost` requests together, for who waits up to `patience`. What is lent cannot be waited for.
    ///
    /// # Errors
    /// How long to wait, `None` for ever; nothing was taken.
    pub(super) fn reserve(
        &self,
        cost: u32,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Spend, Option<Duration>> {
        match self {
            Self::Here(bucket) => bucket.reserve(cost, now, patience),
            Self::Lent(bucket) => bucket.spend(cost, now).map(Spend::of_a_share),
        }
    }

    /// What is left; takes nothing.
    pub(super) fn level(&self, now: Timestamp) -> Level {
        match self {
            Self::Here(bucket) => bucket.level(now),
            Self::Lent(bucket) => bucket.level(now),
        }
    }

    /// Undoes the [`Bucket::spend`] of the same cost that gave `after`.
    pub(super) fn give_back(&self, cost: u32, after: u64) {
        match self {
            Self::Here(bucket) => bucket.give_back(cost, after),
            Self::Lent(bucket) => bucket.give_back(cost),
        }
    }
}
