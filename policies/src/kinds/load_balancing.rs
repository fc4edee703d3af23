//! `LoadBalancingPolicy`: which endpoint of a backend takes a call.
//!
//! This file says what may be written and [`compile`] checks it; [`crate::balance`] chooses.

mod compile;
mod hash_key;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::key::KeySpec;
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;
use crate::objects::GepDuration;

#[derive(Debug)]
pub(super) struct LoadBalancingPolicy;

/// Without a policy, calls go to the better of two endpoints by what their latency has been: PeakEwma.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LoadBalancingPolicySpec {
    /// Default: PeakEwma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    algorithm: Option<AlgorithmSpec>,
    /// For algorithm PeakEwma: the time after which a third of what was known of a latency still counts, 1s to 10m. Default:
    /// 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decay: Option<GepDuration>,
    /// For algorithm LeastRequest: of how many endpoints the one with the least in flight is taken. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    choices: Option<u32>,
    /// For RingHash and Maglev: what of a request decides where it goes, all of these together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    hash_key: Vec<KeySpec>,
    /// For RingHash and Maglev: what chooses for requests that are without a part of the key. Default: PeakEwma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_missing_key: Option<KeylessSpec>,
    /// For RingHash and Maglev: how many times its share of the calls in flight an endpoint may have before keys go on to the
    /// next. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.05, max = 100.0))]
    max_load_factor: Option<f64>,
    /// For algorithm RingHash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ring_size: Option<RingSizeSpec>,
    /// For algorithm Maglev: how many slots endpoints share, a prime from 251 to 655373. Default: 65537.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 251, max = 655_373))]
    table_size: Option<u32>,
    /// Which zones are called first. Default: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locality: Option<LocalitySpec>,
    /// How many times its share of the traffic the endpoints of a priority or zone that are well can take. While fewer than
    /// 1 of so many are, what they cannot take goes to the next. Default: 1.4, so that it begins below 71 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 100.0))]
    overprovisioning_factor: Option<f64>,
    /// Endpoints that are new get less than their share for a while. Not for RingHash and Maglev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slow_start: Option<SlowStartSpec>,
    /// Each proxy calls only some endpoints, for backends that have very many. Not for RingHash and Maglev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subset: Option<SubsetSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum AlgorithmSpec {
    /// Of two endpoints drawn by weight, the one where a call is expected to end sooner: by a moving average of its
    /// latency that follows peaks at once, times the calls in flight. Failures count as slow.
    PeakEwma,
    /// Of `choices` endpoints drawn by weight, the one with the fewest calls in flight per weight.
    LeastRequest,
    /// In turn, as often as the weights say.
    RoundRobin,
    /// By weight and chance.
    Random,
    /// By `hashKey`, on a ring: when an endpoint goes, only its keys move.
    RingHash,
    /// By `hashKey`, with a table: more even than a ring, and a few more keys move.
    Maglev,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum KeylessSpec {
    PeakEwma,
    Random,
}

/// Points on the ring, for all endpoints together.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RingSizeSpec {
    /// Default: 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_048_576))]
    minimum: Option<u32>,
    /// Default: 262144.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_048_576))]
    maximum: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LocalitySpec {
    prefer: PreferSpec,
    /// Where calls go that their own zone cannot take, in this order; then all other zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    failover: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum PreferSpec {
    /// Endpoints in the zone of the proxy (its `--zone`).
    SameZone,
    /// Endpoints whose EndpointSlice hints name the zone of the proxy, where all endpoints have hints.
    Hints,
    /// None: zones mean nothing.
    None,
}

/// The weight of a new endpoint is multiplied by `max(minPercent / 100, (time / window) ^ (1 / aggression))`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SlowStartSpec {
    /// 1s to 1h. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<GepDuration>,
    /// Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    min_percent: Option<u32>,
    /// Above 1 it is faster at first. Default: 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.1, max = 10.0))]
    aggression: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SubsetSpec {
    /// How many endpoints of each priority and zone one proxy calls.
    #[schemars(range(min = 1, max = 10_000))]
    size: u32,
}

impl PolicyKind for LoadBalancingPolicy {
    const KIND: &'static str = "LoadBalancingPolicy";
    const ABOUT: &'static str = "Says which endpoint of a backend takes a call: by latency, load, turn, chance or key, near ones first.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = LoadBalancingPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        spec.compile(cx).map(|settings| Compiled::LoadBalancing(settings.into()))
    }
}
