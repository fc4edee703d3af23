//! `RetryPolicy`: when a request is sent again, or to a second endpoint beside the first.
//!
//! This file checks what was written; [`crate::call`] decides.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::call::{
    Backoff, BudgetShare, Condition, DEFAULT_BODY_LIMIT, Hedge, HedgeAfter, MAX_INTERVAL, RetryOn, RetryRule,
    Said,
};
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::kinds::grpc_code::GrpcCode;
use crate::model::TargetKind;
use crate::objects::GepDuration;

#[derive(Debug)]
pub(super) struct RetryPolicy;

/// Holds for the calls to a backend, where they are made: at a gateway, or in the caller's sidecar. What a route's rule
/// writes in `retry` wins, field by field: its `codes` take the place of `statuses`, GatewayError and 5xx, its `attempts` (1
/// where it writes none) and its `backoff` that of these. A retry goes to an endpoint that was not tried, as long as there is one,
/// and only one tier retries: `x-tidegate-attempt` tells the next. A gRPC status in trailers comes after the head was passed
/// on: it is never tried again.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RetryPolicySpec {
    /// What is tried again. Default: ConnectFailure, Refused and Reset.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "retryOn")]
    on: Option<OnSpec>,
    /// Retries and hedges together, not counting the first attempt. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    attempts: Option<u32>,
    /// From the beginning of one attempt to the end of its answer, 1ms to 1h. Takes the place of the `perTry` of a
    /// TimeoutPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_try_timeout: Option<GepDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    backoff: Option<BackoffSpec>,
    /// The longest wait that an answer may ask for by `Retry-After` or `grpc-retry-pushback-ms`; where it asks for
    /// more, or for no retry at all, none is made. Default: 1s. 0s to 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_wait: Option<GepDuration>,
    /// Only requests of these methods. Default: all, each as far as it is safe.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    methods: Vec<String>,
    /// What is not idempotent (POST, PATCH) is repeated too, even if an application may have seen it. Without this it
    /// is only if nobody can have seen it, or if the very status or gRPC code is listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    allow_unsafe: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<BudgetSpec>,
    /// The most of a request's body that is kept for another attempt, in bytes. What passes is copied, never waited for; past
    /// this the copy is dropped, the request is not sent again, and the decision says `body_gone`. Default: 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_048_576))]
    body_limit: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hedge: Option<HedgeSpec>,
    /// Tells the client how often a backend was asked, by `x-tidegate-attempts`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tell_attempts: bool,
}

/// At least one of these.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OnSpec {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
    /// Statuses of answers; listed, they are tried again whatever the method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(range(min = 400, max = 599)))]
    statuses: Vec<u16>,
    /// gRPC codes of answers without a message; the same holds for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    grpc: Vec<GrpcCode>,
}

/// Before the first retry, anything up to `base`, by chance; then up to twice that, and so on, up to `max`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BackoffSpec {
    /// Default: 25ms. 0s to 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<GepDuration>,
    /// Default: ten times `base`. 0s to 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<GepDuration>,
}

/// How much of the traffic to a backend, through one proxy, may be retries and hedges: a failing backend must not be buried
/// under them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BudgetSpec {
    /// Of the requests of the last `interval`. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    percent: Option<u32>,
    /// So many are allowed in each second in any case. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000))]
    min_per_second: Option<u32>,
    /// Whole seconds, 1s to 1m. Default: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<GepDuration>,
}

/// A second attempt, at another endpoint, when one has not answered for so long; the first answer that is not to be tried
/// again wins, and the others are cancelled. Only for idempotent requests (or with `allowUnsafe`) whose body, if there is one,
/// has come whole within `bodyLimit`. Exactly one of `after` and `quantile`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HedgeSpec {
    /// 1ms to 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<GepDuration>,
    /// As long as this share of the backend's calls takes at most, e.g. 0.95; none while fewer than 20 calls of the last seconds
    /// are known. 0.5 to 0.999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.5, max = 0.999))]
    quantile: Option<f64>,
    /// Hedges of one request; each is one of `attempts` too. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    max: Option<u32>,
}

const MOST_ATTEMPTS: u32 = 10;
const MOST_KEPT: u32 = 1024 * 1024;
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
const DEFAULT_CONDITIONS: [Condition; 3] = [Condition::ConnectFailure, Condition::Refused, Condition::Reset];

impl PolicyKind for RetryPolicy {
    const KIND: &'static str = "RetryPolicy";
    const ABOUT: &'static str =
        "Sends failed requests again, and slow ones to a second endpoint, within a budget.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = RetryPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let attempts = spec.attempts.unwrap_or(1);
        check::within(cx, "/attempts", attempts, 1..=MOST_ATTEMPTS);
        let bounded = |cx: &mut CompileContext<'_>, at, value: Option<GepDuration>, bounds| {
            value.map(|value| check::duration_within(cx, at, value, bounds))
        };
        let per_try = bounded(cx, "/perTryTimeout", spec.per_try_timeout, ("1ms", "1h"));
        let max_wait = bounded(cx, "/maxWait", spec.max_wait, ("0s", "1m"));
        let kept = spec.body_limit.map(|limit| {
            check::within(cx, "/bodyLimit", limit, 0..=MOST_KEPT);
            limit as usize
        });
        let pointer = if spec.on.is_some() { "/retryOn" } else { "" };
        let said = Said { policy: cx.policy().clone(), rule: cx.rule("retry", pointer) };
        let rule = RetryRule {
            said: Some(said),
            mode: cx.mode(),
            on: on(spec.on.as_ref(), cx),
            attempts,
            per_try,
            backoff: spec.backoff.as_ref().map_or_else(Backoff::default, |backoff| backoff.compile(cx)),
            max_wait: Some(max_wait.unwrap_or(DEFAULT_WAIT)),
            methods: methods(&spec.methods, cx),
            allow_unsafe: spec.allow_unsafe,
            budget: spec.budget.as_ref().map_or_else(BudgetShare::default, |budget| budget.compile(cx)),
            body_limit: kept.unwrap_or(DEFAULT_BODY_LIMIT),
            hedge: spec.hedge.as_ref().and_then(|hedge| hedge.compile(attempts, cx)),
            tell_attempts: spec.tell_attempts,
        };
        Some(Compiled::Retry(Arc::new(rule)))
    }
}

fn on(written: Option<&OnSpec>, cx: &mut CompileContext<'_>) -> RetryOn {
    let Some(on) = written else { return RetryOn::new(&DEFAULT_CONDITIONS, Box::default(), &[]) };
    if on.conditions.is_empty() && on.statuses.is_empty() && on.grpc.is_empty() {
        cx.error(
            "/retryOn",
            "nothing is tried again: write `conditions`, `statuses` or `grpc`, or leave out `retryOn`",
        );
    }
    for (i, status) in on.statuses.iter().enumerate() {
        check::within(cx, &format!("/retryOn/statuses/{i}"), u32::from(*status), 400..=599);
    }
    let codes: Vec<_> = on.grpc.iter().map(|code| *code as u8).collect();
    RetryOn::new(&on.conditions, on.statuses.clone().into(), &codes)
}

fn methods(written: &[String], cx: &mut CompileContext<'_>) -> Box<[Method]> {
    let mut methods = Vec::new();
    for (i, name) in written.iter().enumerate() {
        match Method::from_bytes(name.as_bytes()) {
            Ok(method) if method != Method::CONNECT => methods.push(method),
            Ok(_) => cx.error(format!("/methods/{i}"), "a tunnel is never opened twice: leave out CONNECT"),
            Err(_) => {
                cx.error(format!("/methods/{i}"), format!("`{name}` is not a method: write GET, PUT, …"));
            }
        }
    }
    methods.into()
}

impl BackoffSpec {
    fn compile(&self, cx: &mut CompileContext<'_>) -> Backoff {
        let base = self.base.map(|base| check::duration_within(cx, "/backoff/base", base, ("0s", "1m")));
        let max = self.max.map(|max| check::duration_within(cx, "/backoff/max", max, ("0s", "10m")));
        let base = base.unwrap_or(Duration::from_millis(25));
        let max = max.unwrap_or(base * 10);
        if max < base {
            cx.error("/backoff/max", "shorter than `base`: no wait would be as long as the first");
        }
        Backoff::Exponential { base, max }
    }
}

impl BudgetSpec {
    fn compile(&self, cx: &mut CompileContext<'_>) -> BudgetShare {
        let default = BudgetShare::default();
        let percent = self.percent.unwrap_or(default.percent);
        check::within(cx, "/budget/percent", percent, 0..=100);
        let min_per_second = self.min_per_second.unwrap_or(default.min_per_second);
        check::within(cx, "/budget/minPerSecond", min_per_second, 0..=1_000_000);
        if percent == 0 && min_per_second == 0 {
            cx.error("/budget", "there is never a retry: give `percent` or `minPerSecond` more than 0");
        }
        let interval = self.interval.map_or(default.interval, |interval| {
            let time = check::duration_within(cx, "/budget/interval", interval, ("1s", "1m"));
            if time.subsec_nanos() > 0 {
                cx.error("/budget/interval", format!("{interval} is not a number of whole seconds"));
            }
            time.as_secs().clamp(1, MAX_INTERVAL)
        });
        BudgetShare { percent, min_per_second, interval }
    }
}

impl HedgeSpec {
    fn compile(&self, attempts: u32, cx: &mut CompileContext<'_>) -> Option<Hedge> {
        let max = self.max.unwrap_or(1);
        check::within(cx, "/hedge/max", max, 1..=5);
        if max > attempts {
            cx.error("/hedge/max", format!("each is one of `attempts`, and there are {attempts} of these"));
        }
        let after = match (self.after, self.quantile) {
            (Some(after), None) => {
                HedgeAfter::Fixed(check::duration_within(cx, "/hedge/after", after, ("1ms", "1m")))
            }
            (None, Some(quantile)) if (0.5..=0.999).contains(&quantile) =>
            {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "500 to 999, as just seen"
                )]
                HedgeAfter::Permille((quantile * 1000.0).round() as u32)
            }
            (None, Some(quantile)) => {
                cx.error("/hedge/quantile", format!("{quantile} is out of range: use 0.5 to 0.999"));
                return None;
            }
            (Some(_), Some(_)) | (None, None) => {
                cx.error("/hedge", "write one of `after` and `quantile`");
                return None;
            }
        };
        Some(Hedge { after, max })
    }
}

#[cfg(test)]
mod tests;
