//! `RateLimitPolicy`: how often. Checks what was written and joins it to its counters; [`filter`] decides.

mod cell;
mod descriptor;
mod fields;
mod filter;
mod key;
mod state;
mod table;
mod told;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::decision::RuleRef;
use crate::kind::{BindFilter, CompileContext, Compiled, PolicyKind};
use crate::model::{Mode, PolicyRef, TargetKind};
use crate::objects::GepDuration;
use crate::pipeline::Filter;
use crate::state::{StateKey, StateStore};
use cell::Rate;
pub use descriptor::{Descriptor, DescriptorLimiter, Judged, Judgement};
use filter::{BoundLimit, RateLimitFilter};
use key::KeyPart;
use state::LimitState;
use told::Told;

#[derive(Debug)]
pub(super) struct RateLimitPolicy;

/// All limits must let a request through; one that refuses it costs the others nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RateLimitPolicySpec {
    /// Serves these limits, under this name, to whoever asks the control plane by Envoy's rate limit protocol. Their keys
    /// are of type Descriptor then, and the policy has no targetRefs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    domain: Option<String>,
    #[schemars(length(min = 1, max = 16))]
    limits: Vec<LimitSpec>,
    /// The fields that tell clients of their limits. Default: RateLimit; `[]` for none.
    #[serde(default = "told::default_fields")]
    #[schemars(length(max = 2))]
    response_headers: Vec<told::FieldSet>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LimitSpec {
    /// For logs, traces, metrics and the RateLimit response fields; unique in the policy.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// At least 1; at most 1 million per second.
    #[schemars(range(min = 1))]
    requests: u32,
    /// 1ms to 8760h.
    per: GepDuration,
    /// Requests that may come at once after a pause. Default: `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// What is counted apart. Default: nothing, one bucket for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    key: Vec<KeySpec>,
}

/// One part of what is counted apart. Requests without it share one bucket.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KeySpec {
    r#type: KeyType,
    /// The header's name, or the descriptor entry's, for types Header and Descriptor only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum KeyType {
    /// The IP address of the other side of the connection; never taken from a header.
    ClientAddress,
    /// The value of a request header; all its values, in order, where there are several.
    Header,
    /// The path without the query.
    Path,
    /// The HTTP method.
    Method,
    /// The SPIFFE id that mTLS verified.
    PeerIdentity,
    /// The host name, without the port.
    Host,
    /// The value of a descriptor's entry, in a policy with a `domain` only. A descriptor without it is not counted.
    Descriptor,
}

/// A policy that has passed validation.
#[derive(Debug)]
struct RateLimit {
    policy: Arc<PolicyRef>,
    mode: Mode,
    /// Ordered by name, see [`RateLimitFilter`].
    limits: Vec<Limit>,
    policy_field: HeaderValue,
    told: Told,
}

#[derive(Debug)]
struct Limit {
    rule: Arc<RuleRef>,
    rate: Rate,
    /// What `x-ratelimit-limit` tells.
    burst: u32,
    key: Arc<[KeyPart]>,
    /// `RateLimit-Policy` member.
    member: String,
}

const MOST_LIMITS: usize = 16;
const MOST_KEY_PARTS: usize = 8;
/// A nanosecond clock counts faster rates with an error above one in a thousand.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(1);
const LONGEST_REFILL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl PolicyKind for RateLimitPolicy {
    const KIND: &'static str = "RateLimitPolicy";
    const ABOUT: &'static str = "Limits how many requests pass per time, for all together or by key.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = RateLimitPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        if spec.limits.is_empty() || spec.limits.len() > MOST_LIMITS {
            cx.error("/limits", format!("{} limits: write 1 to {MOST_LIMITS}", spec.limits.len()));
        }
        check::unique(cx, "/limits", spec.limits.iter().map(|limit| Some(limit.name.as_str())));
        descriptor::check(&spec, cx);
        let compiled =
            spec.limits.iter().enumerate().map(|(i, limit)| limit.compile(&format!("/limits/{i}"), cx));
        let mut limits: Vec<Limit> = compiled.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
        limits.sort_by(|a, b| a.rule.name.cmp(&b.rule.name));
        let members: Vec<&str> = limits.iter().map(|limit| limit.member.as_str()).collect();
        let policy_field = HeaderValue::try_from(members.join(", ")).ok()?;
        let told = Told::new(&spec.response_headers);
        let (policy, mode) = (cx.policy().clone(), cx.mode());
        Some(Compiled::Filter(Arc::new(RateLimit { policy, mode, limits, policy_field, told })))
    }
}

impl LimitSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Limit> {
        check::name(cx, &format!("{at}/name"), &self.name);
        let per = check::duration_within(cx, &format!("{at}/per"), self.per, ("1ms", "8760h"));
        let requests = at_least_one(self.requests, &format!("{at}/requests"), cx);
        let burst = match self.burst {
            Some(burst) => at_least_one(burst, &format!("{at}/burst"), cx),
            None => requests,
        };
        let key = self.key(at, cx);
        let (requests, burst) = (requests?, burst?);
        let rate = self.rate(at, (requests, per, burst), cx)?;
        let member = fields::policy_member(&self.name, requests, per);
        Some(Limit { rule: cx.rule(&self.name, at), rate, burst: burst.get(), key: key?, member })
    }

    fn rate(
        &self,
        at: &str,
        (requests, per, burst): (NonZeroU32, Duration, NonZeroU32),
        cx: &mut CompileContext<'_>,
    ) -> Option<Rate> {
        if per < SHORTEST_INTERVAL * requests.get() {
            let message =
                format!("{requests} per {}: more than 1 million per second cannot be counted", self.per);
            cx.error(format!("{at}/requests"), message);
            return None;
        }
        let rate = Rate::new(requests, per, burst).filter(|rate| rate.refill() <= LONGEST_REFILL);
        if rate.is_none() {
            let field = if self.burst.is_some() { "burst" } else { "requests" };
            cx.error(format!("{at}/{field}"), format!("{burst} would take more than 10 years to refill"));
        }
        rate
    }

    fn key(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Arc<[KeyPart]>> {
        if self.key.len() > MOST_KEY_PARTS {
            cx.error(
                format!("{at}/key"),
                format!("{} parts: write at most {MOST_KEY_PARTS}", self.key.len()),
            );
        }
        let parts = self.key.iter().enumerate().map(|(i, part)| part.compile(&format!("{at}/key/{i}"), cx));
        let parts: Vec<KeyPart> = parts.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
        for (i, part) in parts.iter().enumerate() {
            if parts[..i].contains(part) {
                cx.error(format!("{at}/key/{i}"), "the same part is written twice");
            }
        }
        Some(parts.into())
    }
}

impl KeySpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<KeyPart> {
        let plain = match self.r#type {
            KeyType::Header => return self.header(at, cx),
            KeyType::Descriptor => return self.descriptor(at, cx),
            KeyType::ClientAddress => KeyPart::ClientAddress,
            KeyType::Path => KeyPart::Path,
            KeyType::Method => KeyPart::Method,
            KeyType::PeerIdentity => KeyPart::PeerIdentity,
            KeyType::Host => KeyPart::Host,
        };
        if self.name.is_some() {
            cx.error(format!("{at}/name"), "`name` goes with types Header and Descriptor only");
        }
        Some(plain)
    }

    fn descriptor(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<KeyPart> {
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        if name.is_none() {
            cx.error(at, "type Descriptor needs the `name` of the descriptor's entry");
        }
        name.map(|name| KeyPart::Descriptor(name.into()))
    }

    fn header(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<KeyPart> {
        let Some(name) = &self.name else {
            cx.error(at, "type Header needs the `name` of the header");
            return None;
        };
        match HeaderName::try_from(name) {
            Ok(name) => Some(KeyPart::Header(name)),
            Err(_) => {
                cx.error(format!("{at}/name"), format!("`{name}` is not the name of a header"));
                None
            }
        }
    }
}

fn at_least_one(value: u32, pointer: &str, cx: &mut CompileContext<'_>) -> Option<NonZeroU32> {
    let value = NonZeroU32::new(value);
    if value.is_none() {
        cx.error(pointer, "0 is out of range: use at least 1");
    }
    value
}

impl BindFilter for RateLimit {
    fn bind(&self, state: &StateStore) -> Arc<dyn Filter> {
        let owner: Arc<str> = format!("{}/{}", self.policy.kind, self.policy.name).into();
        let limits = self.limits.iter().map(|limit| limit.bind(&owner, state)).collect();
        Arc::new(RateLimitFilter {
            policy: Arc::clone(&self.policy),
            mode: self.mode,
            limits,
            policy_field: self.policy_field.clone(),
            told: self.told,
            seed: state.hash_seed(),
        })
    }
}

impl Limit {
    /// The rate is not part of the place: a changed one finds what was spent.
    fn bind(&self, owner: &Arc<str>, state: &StateStore) -> BoundLimit {
        let place =
            StateKey::new(Arc::clone(owner), format!("{}{}", self.rule.name, key::describe(&self.key)));
        let max_keys = (!self.key.is_empty()).then_some(table::MAX_KEYS);
        let state = state.get_or_insert(place, || LimitState::new(self.rate, max_keys));
        state.want(self.rate);
        BoundLimit { rule: Arc::clone(&self.rule), burst: self.burst, key: Arc::clone(&self.key), state }
    }
}

#[cfg(test)]
mod tests;
