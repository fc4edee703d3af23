//! A breaker as it is written.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MOST;
use super::detectors::{LatencySpec, RateSpec, SlowCallRateSpec, SuccessRateSpec};
use super::failures::FailuresSpec;
use crate::document::crd::rules;
use crate::health::{BreakerParams, BreakerRule, BreakerScope};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;

/// Needs at least one reason to trip: `failureRate`, `slowCallRate`, `consecutiveFailures`, `successRate`, `latency` or
/// `honorRetryAfter`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [rules::at_least_one(&["failureRate", "slowCallRate", "consecutiveFailures", "successRate", "latency", "honorRetryAfter"])]))]
pub(super) struct BreakerSpec {
    /// For logs, traces and metrics. Default: `breakers[0]`, `breakers[1]`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub(super) name: Option<String>,
    pub(super) scope: BreakerScope,
    /// Trips when at least `percent` of the calls within the window failed, once there were `minimumCalls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failure_rate: Option<RateSpec>,
    /// Trips when at least `percent` of the calls within the window took longer than `slowerThan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slow_call_rate: Option<SlowCallRateSpec>,
    /// Trips after this many failures in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    consecutive_failures: Option<u32>,
    /// With scope Endpoint: trips when the endpoint succeeds much less often than the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    success_rate: Option<SuccessRateSpec>,
    /// With scope Endpoint: trips when the endpoint is much slower than the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<LatencySpec>,
    /// What counts as a failure. Default: HTTP statuses from 500 up, the gRPC codes UNKNOWN, DEADLINE_EXCEEDED, INTERNAL,
    /// UNAVAILABLE and DATA_LOSS, and calls without a response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failures: Option<FailuresSpec>,
    /// Trips when a response asks to be left alone, for as long as it asks: 429 or 503 with `Retry-After`, or gRPC's
    /// `grpc-retry-pushback-ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    honor_retry_after: Option<HonorRetryAfterSpec>,
    /// How long calls are refused before probes are let through. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<GepDuration>,
    /// `open` doubles with every trip in a row, up to this. Trips are in a row until the breaker has stayed closed for as
    /// long as it was open the last time. Default: `open` does not grow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_open: Option<GepDuration>,
    /// Up to so many percent of the time come on top, drawn at each trip, so that proxies do not all probe at the same moment;
    /// where that would be more than `maxOpen`, they come off. Default: 10 with `maxOpen`, else 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    jitter: Option<u32>,
    /// Calls let through when half-open; all must succeed, and none may be slow, to close. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    probes: Option<u32>,
    /// After closing, a tenth of the calls is let through, and a share that grows evenly to all within this time. The others
    /// go to other endpoints; with scope Backend they are refused. Where no other endpoint is left, all are let through.
    /// Default: none, all are let through at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ramp: Option<GepDuration>,
}

/// The most that a response may ask for.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HonorRetryAfterSpec {
    /// 100ms to 1h. Whoever asks for more is left alone for this long.
    max: GepDuration,
}

const DEFAULT_JITTER: u32 = 10;

impl BreakerSpec {
    pub(super) fn compile(&self, index: usize, cx: &mut CompileContext<'_>) -> BreakerRule {
        let at = format!("/breakers/{index}");
        let name = self.name.clone().unwrap_or_else(|| format!("breakers[{index}]"));
        if self.name.is_some() {
            check::name(cx, &format!("{at}/name"), &name);
        }
        self.check_detectors(&at, cx);
        let usual = BreakerParams::default();
        let mut params = BreakerParams {
            failure_rate: self
                .failure_rate
                .as_ref()
                .map(|rate| rate.compile(&format!("{at}/failureRate"), cx)),
            slow_calls: self
                .slow_call_rate
                .as_ref()
                .map(|rate| rate.compile(&format!("{at}/slowCallRate"), cx)),
            consecutive_failures: self.consecutive_failures,
            success_rate: self
                .success_rate
                .as_ref()
                .map(|rate| rate.compile(&format!("{at}/successRate"), cx)),
            latency: self.latency.as_ref().map(|latency| latency.compile(&format!("{at}/latency"), cx)),
            probes: self.probes.unwrap_or(usual.probes),
            ..usual
        };
        check::within(cx, &format!("{at}/probes"), params.probes, 1..=1000);
        self.pauses(&at, &mut params, cx);
        let failures = self.failures.as_ref().map(|failures| failures.compile(&format!("{at}/failures"), cx));
        let honor_retry_after = self.honor_retry_after.as_ref().map(|honor| {
            check::duration_within(cx, &format!("{at}/honorRetryAfter/max"), honor.max, ("100ms", "1h"))
        });
        BreakerRule {
            rule: cx.rule(&name, &at),
            scope: self.scope,
            params,
            failures: failures.unwrap_or_default(),
            honor_retry_after,
        }
    }

    fn check_detectors(&self, at: &str, cx: &mut CompileContext<'_>) {
        let counts = self.failure_rate.is_some()
            || self.slow_call_rate.is_some()
            || self.consecutive_failures.is_some()
            || self.honor_retry_after.is_some();
        let compares = self.success_rate.is_some() || self.latency.is_some();
        if !counts && !compares {
            let reasons = "`failureRate`, `slowCallRate`, `consecutiveFailures`, `successRate`, `latency`";
            cx.error(at, format!("never trips: write at least one of {reasons} and `honorRetryAfter`"));
        }
        for (field, written) in
            [("successRate", self.success_rate.is_some()), ("latency", self.latency.is_some())]
        {
            if written && self.scope != BreakerScope::Endpoint {
                let fix = "compares endpoints with each other: use scope Endpoint";
                cx.error(format!("{at}/{field}"), format!("`{field}` {fix}"));
            }
        }
        if let Some(limit) = self.consecutive_failures {
            check::within(cx, &format!("{at}/consecutiveFailures"), limit, 1..=MOST);
        }
    }

    /// How long it stays open, and how it comes back.
    fn pauses(&self, at: &str, params: &mut BreakerParams, cx: &mut CompileContext<'_>) {
        let mut within = |field: &str, value: Option<GepDuration>, bounds| {
            value.map(|value| check::duration_within(cx, &format!("{at}/{field}"), value, bounds))
        };
        params.open = within("open", self.open, ("10ms", "1h")).unwrap_or(params.open);
        params.max_open = within("maxOpen", self.max_open, ("10ms", "24h"));
        params.ramp = within("ramp", self.ramp, ("100ms", "1h")).unwrap_or(Duration::ZERO);
        if params.max_open.is_some_and(|most| most < params.open) {
            let open = params.open;
            cx.error(format!("{at}/maxOpen"), format!("shorter than `open` ({open:?}), which it bounds"));
        }
        let jitter = self.jitter.unwrap_or(if self.max_open.is_some() { DEFAULT_JITTER } else { 0 });
        check::within(cx, &format!("{at}/jitter"), jitter, 0..=100);
        params.jitter = u8::try_from(jitter).unwrap_or(100);
    }
}
