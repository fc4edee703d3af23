//! Limits of their own for named keys: the tenant who pays for more, the partner who may do what he likes.

use std::num::NonZeroU32;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cell::Rate;
use super::exact::Written;
use super::key::{self, KeyPart, KeySpec};
use super::scope::{Counters, Place, Sharing};
use super::{LimitSpec, fields, written_rate};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;
use crate::state::StateStore;

pub(super) const MOST: usize = 1_000;

/// What holds for one key in place of the limit. Its bucket is its own.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OverrideSpec {
    /// One value for each part of the limit's key, in order, as the request has them.
    #[schemars(length(min = 1, max = 8))]
    key: Vec<String>,
    /// Default: as the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    requests: Option<u32>,
    /// Default: as the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per: Option<GepDuration>,
    /// Default: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// This key is not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unlimited: bool,
}

/// An override that has passed validation. Without an allowance, the key is not counted.
#[derive(Debug)]
pub(super) struct Override {
    key: Vec<String>,
    allowance: Option<Allowance>,
}

#[derive(Debug)]
struct Allowance {
    rate: Rate,
    written: Written,
    member: Arc<str>,
}

/// An override joined to its counter; `None` for a key that is not counted.
pub(super) type Own = Option<Arc<OwnLimit>>;

/// What one key has of its own.
#[derive(Debug)]
pub(super) struct OwnLimit {
    pub(super) counters: Counters,
    pub(super) written: Written,
    /// `RateLimit-Policy` member.
    pub(super) member: Arc<str>,
}

impl OverrideSpec {
    pub(super) fn compile(
        &self,
        at: &str,
        limit: &LimitSpec,
        cx: &mut CompileContext<'_>,
    ) -> Option<Override> {
        check_key(&self.key, (&limit.key, "limit"), at, cx);
        let written = self.requests.is_some() || self.per.is_some() || self.burst.is_some();
        match (self.unlimited, written) {
            (true, true) => {
                cx.error(format!("{at}/unlimited"), "it goes without `requests`, `per` and `burst`");
            }
            (false, false) => cx.error(at, "write `requests`, `per` or `burst`, or `unlimited: true`"),
            _ => {}
        }
        let key = self.key.clone();
        if self.unlimited {
            return Some(Override { key, allowance: None });
        }
        let (per, requests) = (self.per.or(limit.per)?, self.requests.or(limit.requests)?);
        let duration = check::duration_within(cx, &format!("{at}/per"), per, ("1ms", "8760h"));
        let requests = check::at_least_one(requests, &format!("{at}/requests"), cx)?;
        let burst = self.burst(requests, at, cx)?;
        let rate = written_rate(at, "requests", (requests, (per, duration), burst), cx)?;
        let member = fields::policy_member(&limit.name, requests, duration).into();
        Some(Override {
            key,
            allowance: Some(Allowance { rate, written: Written { requests, per: duration, burst }, member }),
        })
    }

    fn burst(&self, requests: NonZeroU32, at: &str, cx: &mut CompileContext<'_>) -> Option<NonZeroU32> {
        match self.burst {
            Some(burst) => check::at_least_one(burst, &format!("{at}/burst"), cx),
            None => Some(requests),
        }
    }
}

/// Whether the values are such as the key of a limit, or of a quota, may have.
pub(super) fn check_key(
    values: &[String],
    (parts, whose): (&[KeySpec], &str),
    at: &str,
    cx: &mut CompileContext<'_>,
) {
    if values.len() != parts.len() {
        let message = format!("{} values: the {whose}'s key has {} parts", values.len(), parts.len());
        cx.error(format!("{at}/key"), message);
    }
    if let Some(i) = parts.iter().position(|part| !part.is_text()) {
        let message = format!("a client address cannot be overridden: write a {whose} with `when`");
        cx.error(format!("{at}/key/{i}"), message);
    }
}

impl Override {
    /// The keys of a limit that have something of their own. `place`: of the limit's counters.
    pub(super) fn bind(
        (all, parts): (&[Self], &[KeyPart]),
        place: Place<'_>,
        sharing: Sharing,
        store: &StateStore,
    ) -> FxHashMap<u128, Own> {
        let of = |written: &Self| {
            let hash = key::hash_written(parts, &written.key, store.hash_seed());
            let place = Place { own: Some(&written.key), ..place };
            let own = written.allowance.as_ref().map(|own| Arc::new(own.bind(place, sharing, store)));
            (hash, own)
        };
        all.iter().map(of).collect()
    }

    /// The key, and what it may; `None` for one that is not counted.
    pub(super) fn written(&self) -> Option<(&[String], Written)> {
        Some((&self.key, self.allowance.as_ref()?.written))
    }
}

impl Allowance {
    fn bind(&self, place: Place<'_>, sharing: Sharing, store: &StateStore) -> OwnLimit {
        let rate = sharing.rate(self.written, self.rate);
        let counters = sharing.counters(place, (self.written, rate), false, store);
        OwnLimit { counters, written: self.written, member: Arc::clone(&self.member) }
    }
}
