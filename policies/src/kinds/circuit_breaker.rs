//! `CircuitBreakerPolicy`: how much a backend is asked at once, and when it is left alone.
//!
//! This file checks what was written; [`crate::health`] does the counting and [`crate::call`] the refusing.

mod shared;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::health::{
    BreakerParams, BreakerRule, BreakerScope, CapLimits, CapRule, CircuitBreaker, FailureRate, SharedRule,
};
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;
use crate::objects::GepDuration;
use shared::SharedSpec;

pub use shared::SharedRules;

#[derive(Debug)]
pub(super) struct CircuitBreakerPolicy;

/// At least one of `caps` and `breakers`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CircuitBreakerPolicySpec {
    /// How much may be open or in flight at once; at most one entry per scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    caps: Vec<CapsSpec>,
    /// What stops calls when too many of them fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    breakers: Vec<BreakerSpec>,
    /// What other proxies know counts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<SharedSpec>,
}

/// At least one of `connections`, `pending` and `requests`. Strict: never one more, across all threads of a proxy.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CapsSpec {
    scope: CapScope,
    /// Open connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    connections: Option<u32>,
    /// Requests that wait for a connection; 0 means that none may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<u32>,
    /// Requests in flight, until the end of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    requests: Option<u32>,
}

/// What a cap counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum CapScope {
    /// All calls to the backend.
    Backend,
}

/// At least one of `failureRate` and `consecutiveFailures`. A failure is an HTTP status from 500 up, one of the gRPC
/// codes UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS, or a call without a response.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BreakerSpec {
    /// For logs, traces and metrics. Default: `breakers[0]`, `breakers[1]`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    name: Option<String>,
    scope: BreakerScope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_rate: Option<FailureRateSpec>,
    /// Trips after this many failures in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    consecutive_failures: Option<u32>,
    /// How long calls are refused before probes are let through. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<GepDuration>,
    /// Calls let through when half-open; all must succeed to close. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    probes: Option<u32>,
}

/// Trips when at least `percent` of the calls within `window` failed, once there were `minimumCalls`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FailureRateSpec {
    #[schemars(range(min = 1, max = 100))]
    percent: u32,
    #[schemars(range(min = 1))]
    minimum_calls: u32,
    /// 100ms to 10m.
    window: GepDuration,
}

const DEFAULT_OPEN: Duration = Duration::from_secs(5);
const MOST: u32 = 1_000_000;

impl PolicyKind for CircuitBreakerPolicy {
    const KIND: &'static str = "CircuitBreakerPolicy";
    const ABOUT: &'static str = "Caps what a backend is asked at once, and stops calling what keeps failing.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = CircuitBreakerPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        if spec.caps.is_empty() && spec.breakers.is_empty() && spec.shared.is_none() {
            cx.error("", "nothing to do: write `caps`, `breakers` or `shared`");
        }
        check::unique(cx, "/breakers", spec.breakers.iter().map(|breaker| breaker.name.as_deref()));
        let caps = caps(&spec.caps, cx);
        let breakers = spec.breakers.iter().enumerate().map(|(i, breaker)| breaker.compile(i, cx)).collect();
        let shared = spec
            .shared
            .as_ref()
            .map(|shared| SharedRule { rule: cx.rule("shared", "/shared"), rules: shared.compile(cx) });
        let circuit = CircuitBreaker { policy: cx.policy().clone(), mode: cx.mode(), caps, breakers, shared };
        Some(Compiled::CircuitBreaker(circuit.into()))
    }
}

fn caps(written: &[CapsSpec], cx: &mut CompileContext<'_>) -> Option<CapRule> {
    let mut rule = None;
    for (i, caps) in written.iter().enumerate() {
        let at = format!("/caps/{i}");
        let CapScope::Backend = caps.scope;
        if rule.is_some() {
            cx.error(format!("{at}/scope"), "there is already an entry for this scope: merge the two");
        }
        let limits =
            CapLimits { connections: caps.connections, pending: caps.pending, requests: caps.requests };
        if limits == CapLimits::default() {
            cx.error(&*at, "caps nothing: write at least one of `connections`, `pending` and `requests`");
        }
        for (field, value, least) in [
            ("connections", caps.connections, 1),
            ("pending", caps.pending, 0),
            ("requests", caps.requests, 1),
        ] {
            if let Some(value) = value {
                check::within(cx, &format!("{at}/{field}"), value, least..=MOST);
            }
        }
        rule = Some(CapRule { rule: cx.rule(&format!("caps[{i}]"), &at), limits });
    }
    rule
}

impl BreakerSpec {
    fn compile(&self, index: usize, cx: &mut CompileContext<'_>) -> BreakerRule {
        let at = format!("/breakers/{index}");
        let name = self.name.clone().unwrap_or_else(|| format!("breakers[{index}]"));
        if self.name.is_some() {
            check::name(cx, &format!("{at}/name"), &name);
        }
        if self.failure_rate.is_none() && self.consecutive_failures.is_none() {
            cx.error(&*at, "never trips: write `failureRate`, `consecutiveFailures` or both");
        }
        if let Some(limit) = self.consecutive_failures {
            check::within(cx, &format!("{at}/consecutiveFailures"), limit, 1..=MOST);
        }
        let open = match self.open {
            Some(open) => check::duration_within(cx, &format!("{at}/open"), open, ("10ms", "1h")),
            None => DEFAULT_OPEN,
        };
        let probes = self.probes.unwrap_or(1);
        check::within(cx, &format!("{at}/probes"), probes, 1..=1000);
        let failure_rate = self.failure_rate.as_ref().map(|rate| rate.compile(&at, cx));
        let consecutive_failures = self.consecutive_failures;
        let params = BreakerParams { failure_rate, consecutive_failures, open, probes };
        BreakerRule { rule: cx.rule(&name, &at), scope: self.scope, params }
    }
}

impl FailureRateSpec {
    fn compile(&self, breaker: &str, cx: &mut CompileContext<'_>) -> FailureRate {
        let at = |field| format!("{breaker}/failureRate/{field}");
        check::within(cx, &at("percent"), self.percent, 1..=100);
        check::within(cx, &at("minimumCalls"), self.minimum_calls, 1..=MOST);
        let window = check::duration_within(cx, &at("window"), self.window, ("100ms", "10m"));
        // What does not fit has just been refused.
        let percent = u8::try_from(self.percent).unwrap_or(100);
        FailureRate { percent, minimum_calls: self.minimum_calls, window }
    }
}

#[cfg(test)]
mod tests;
