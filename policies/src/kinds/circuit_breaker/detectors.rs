//! The reasons to trip as they are written.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MOST;
use crate::document::crd::rules;
use crate::health::{Among, PeerLatency, Rate, SlowCalls, Span, SuccessRate};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;

/// A share of the calls within a window: of time (`window`) or of the latest calls (`calls`), one of the two.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["window", "calls"])]))]
pub(super) struct RateSpec {
    #[schemars(range(min = 1, max = 100))]
    percent: u32,
    #[schemars(range(min = 1))]
    minimum_calls: u32,
    /// 100ms to 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<GepDuration>,
    /// So many of the latest calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    calls: Option<u32>,
}

/// A share of slow calls. A call counts when its response begins, or when it ends without one: by a failure, a timeout or a
/// client that leaves.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["window", "calls"])]))]
pub(super) struct SlowCallRateSpec {
    #[schemars(range(min = 1, max = 100))]
    percent: u32,
    /// 1ms to 1h, until the head of the response.
    slower_than: GepDuration,
    #[schemars(range(min = 1))]
    minimum_calls: u32,
    /// 100ms to 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<GepDuration>,
    /// So many of the latest calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    calls: Option<u32>,
}

/// An endpoint is an outlier if its share of successes is less than the mean of the others by so many of their standard
/// deviations; at least five percentage points count as one. Only endpoints with `minimumCalls` within `window` are compared.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SuccessRateSpec {
    /// 0.1 to 10. Default: 1.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.1, max = 10.0))]
    standard_deviations: Option<f64>,
    /// Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1000))]
    minimum_endpoints: Option<u32>,
    #[schemars(range(min = 1))]
    minimum_calls: u32,
    /// 100ms to 10m.
    window: GepDuration,
}

/// An endpoint is an outlier if its latency (the geometric mean) is at least `factor` times the median of the others.
/// Only endpoints with `minimumCalls` within `window` are compared.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LatencySpec {
    /// 1.1 to 1000.
    #[schemars(range(min = 1.1, max = 1000.0))]
    factor: f64,
    /// Whoever is faster is no outlier, whatever the others do. Default: 10ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<GepDuration>,
    /// Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1000))]
    minimum_endpoints: Option<u32>,
    #[schemars(range(min = 1))]
    minimum_calls: u32,
    /// 100ms to 10m.
    window: GepDuration,
}

const WINDOW: (&str, &str) = ("100ms", "10m");
const DEFAULT_DEVIATIONS: f64 = 1.9;
const DEFAULT_ENDPOINTS: u32 = 3;
const DEFAULT_AT_LEAST: Duration = Duration::from_millis(10);

impl RateSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Rate {
        let Self { percent, minimum_calls, window, calls } = *self;
        rate(at, (percent, minimum_calls), (window, calls), cx)
    }
}

impl SlowCallRateSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> SlowCalls {
        let Self { percent, slower_than, minimum_calls, window, calls } = *self;
        let slower_than = check::duration_within(cx, &format!("{at}/slowerThan"), slower_than, ("1ms", "1h"));
        SlowCalls { rate: rate(at, (percent, minimum_calls), (window, calls), cx), slower_than }
    }
}

impl SuccessRateSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> SuccessRate {
        let standard_deviations = self.standard_deviations.unwrap_or(DEFAULT_DEVIATIONS);
        number(cx, &format!("{at}/standardDeviations"), standard_deviations, (0.1, 10.0));
        let among = among(at, (self.minimum_endpoints, self.minimum_calls), self.window, cx);
        SuccessRate { standard_deviations, among }
    }
}

impl LatencySpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> PeerLatency {
        number(cx, &format!("{at}/factor"), self.factor, (1.1, 1000.0));
        let minimum = self
            .at_least
            .map(|least| check::duration_within(cx, &format!("{at}/atLeast"), least, ("0s", "1h")));
        PeerLatency {
            factor: self.factor,
            minimum: minimum.unwrap_or(DEFAULT_AT_LEAST),
            among: among(at, (self.minimum_endpoints, self.minimum_calls), self.window, cx),
        }
    }
}

fn rate(
    at: &str,
    (percent, minimum_calls): (u32, u32),
    (window, calls): (Option<GepDuration>, Option<u32>),
    cx: &mut CompileContext<'_>,
) -> Rate {
    check::within(cx, &format!("{at}/percent"), percent, 1..=100);
    check::within(cx, &format!("{at}/minimumCalls"), minimum_calls, 1..=MOST);
    let window = match (window, calls) {
        (Some(window), None) => {
            Span::Time(check::duration_within(cx, &format!("{at}/window"), window, WINDOW))
        }
        (None, Some(calls)) => {
            check::within(cx, &format!("{at}/calls"), calls, 1..=10_000);
            if minimum_calls > calls {
                let why = format!("never trips: the window has no more than {calls} calls");
                cx.error(format!("{at}/minimumCalls"), why);
            }
            Span::Calls(calls)
        }
        (None, None) => {
            cx.error(at, "no window: write `window` (a time) or `calls` (so many of the latest)");
            Span::Calls(1)
        }
        (Some(_), Some(calls)) => {
            cx.error(format!("{at}/calls"), "two windows: write `window` or `calls`, not both");
            Span::Calls(calls)
        }
    };
    // What does not fit has just been refused.
    Rate { percent: u8::try_from(percent).unwrap_or(100), minimum_calls, window }
}

fn among(
    at: &str,
    (endpoints, minimum_calls): (Option<u32>, u32),
    window: GepDuration,
    cx: &mut CompileContext<'_>,
) -> Among {
    let minimum_endpoints = endpoints.unwrap_or(DEFAULT_ENDPOINTS);
    check::within(cx, &format!("{at}/minimumEndpoints"), minimum_endpoints, 2..=1000);
    check::within(cx, &format!("{at}/minimumCalls"), minimum_calls, 1..=MOST);
    let window = check::duration_within(cx, &format!("{at}/window"), window, WINDOW);
    Among { minimum_endpoints, minimum_calls, window }
}

fn number(cx: &mut CompileContext<'_>, pointer: &str, value: f64, (low, high): (f64, f64)) {
    if !(low..=high).contains(&value) {
        cx.error(pointer, format!("{value} is out of range: use {low} to {high}"));
    }
}
