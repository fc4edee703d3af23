//! Quotas of their own for named keys, and what one request asks of a quota.

use std::num::NonZeroU32;

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BoundQuota, QuotaSpec, part};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::kinds::rate_limit::filter::holds;
use crate::kinds::rate_limit::key::{self, Key, KeyPart};
use crate::kinds::rate_limit::overrides::{self, MOST};
use crate::pipeline::RequestContext;

/// What holds for one key in place of the quota.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnQuotaSpec {
    /// One value for each part of the quota's key, in order, as the request has them.
    #[schemars(length(min = 1, max = 8))]
    key: Vec<String>,
    /// In place of those of the quota.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    requests: Option<u32>,
    /// This key is not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unlimited: bool,
}

/// The same, valid. Without a number, the key is not counted.
#[derive(Clone, Debug)]
pub(super) struct OwnQuota {
    key: Vec<String>,
    requests: Option<NonZeroU32>,
}

/// By key, how much; `None` for one that is not counted.
pub(super) type OwnQuotas = FxHashMap<u128, Option<Most>>;

/// How much there is for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kinds::rate_limit) struct Most {
    pub(in crate::kinds::rate_limit) requests: NonZeroU32,
    /// What is let through by what is counted here alone.
    pub(super) here: u32,
}

/// A quota that counts a request, and what it would take of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::kinds::rate_limit) struct Demand<'a> {
    pub(in crate::kinds::rate_limit) quota: &'a BoundQuota,
    pub(super) key: u128,
    pub(super) most: Most,
    pub(super) cost: u32,
}

impl QuotaSpec {
    pub(super) fn own(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Vec<OwnQuota>> {
        let count = self.overrides.len();
        if count > MOST {
            cx.error(format!("{at}/overrides"), format!("{count} overrides: write at most {MOST}"));
        }
        let each = self.overrides.iter().enumerate();
        let all: Vec<_> =
            each.map(|(i, own)| own.compile(&format!("{at}/overrides/{i}"), self, cx)).collect();
        all.into_iter().collect()
    }
}

impl OwnQuotaSpec {
    fn compile(&self, at: &str, quota: &QuotaSpec, cx: &mut CompileContext<'_>) -> Option<OwnQuota> {
        overrides::check_key(&self.key, (&quota.key, "quota"), at, cx);
        match (self.unlimited, self.requests) {
            (true, Some(_)) => cx.error(format!("{at}/unlimited"), "it goes without `requests`"),
            (false, None) => cx.error(at, "write `requests` or `unlimited: true`"),
            _ => {}
        }
        let requests = self.requests.map(|n| check::at_least_one(n, &format!("{at}/requests"), cx));
        let requests = requests.map_or(Some(None), |valid| valid.map(Some))?;
        Some(OwnQuota { key: self.key.clone(), requests })
    }
}

impl OwnQuota {
    pub(super) fn bind(all: &[Self], parts: &[KeyPart], percent: Option<u32>, seed: [u64; 2]) -> OwnQuotas {
        let most = |requests| Most::new(requests, percent);
        all.iter().map(|own| (key::hash_written(parts, &own.key, seed), own.requests.map(most))).collect()
    }
}

impl Most {
    /// `percent`: of the whole, where somebody else counts as a rule.
    pub(super) fn new(requests: NonZeroU32, percent: Option<u32>) -> Self {
        Self { requests, here: percent.map_or(requests.get(), |percent| part(requests, percent)) }
    }
}

impl BoundQuota {
    /// What the request would take of it, if anything.
    ///
    /// # Errors
    /// It lets no such request pass.
    pub(super) fn demand(&self, cx: &RequestContext<'_>, seed: [u64; 2]) -> Result<Option<Demand<'_>>, ()> {
        if !holds(self.when.as_deref(), cx) {
            return Ok(None);
        }
        let key = match key::of(&self.key, cx, seed) {
            Key::Of(key) => key,
            Key::Skip => return Ok(None),
            Key::Deny => return Err(()),
        };
        let Some(most) = self.own.get(&key).copied().unwrap_or(Some(self.most)) else { return Ok(None) };
        let cost = self.cost.of(cx, most.requests);
        Ok((cost > 0).then_some(Demand { quota: self, key, most, cost }))
    }
}
