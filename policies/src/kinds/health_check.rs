//! `HealthCheckPolicy`: endpoints are asked how they are, and those that fail are not called.
//!
//! This file checks what was written; [`crate::health::check`] judges, [`crate::call`] keeps calls away, and the proxy
//! asks.

mod probe;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::probe::{GrpcSpec, HttpSpec, TcpSpec};
use super::check;
use crate::document::crd::rules;
use crate::health::check::{CheckRule, CheckTiming, HealthCheck, Initial, Probe};
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;
use crate::objects::GepDuration;

#[derive(Debug)]
pub(super) struct HealthCheckPolicy;

/// Checks are made by the proxies that call the backend, beside traffic, over connections of their own. A gateway checks
/// what its routes lead to; a sidecar checks only what its application called lately, for sidecars are many, and each
/// endpoint would be asked by all of them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct HealthCheckPolicySpec {
    /// An endpoint is healthy if all of them find it so.
    #[schemars(length(min = 1, max = 8))]
    checks: Vec<CheckSpec>,
    /// What is thought of an endpoint before its first checks. Healthy: it is called until it has failed. Unhealthy: it
    /// is called once a first check has passed, so the first calls of a sidecar find nobody. Default: Healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    initial: Option<InitialSpec>,
    /// With a smaller share of endpoints than this, in percent, that are healthy and not ejected by breakers, health is ignored:
    /// the few that are left would not bear all calls, and what fails everywhere is likely the check. 0: never; then calls are refused when no endpoint is
    /// healthy. Default: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    panic_percent: Option<u32>,
    /// A sidecar stops its checks of a backend that has not been called for this long, and forgets what they found; the
    /// next call starts them again. 10s to 24h. Default: 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_after: Option<GepDuration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum InitialSpec {
    Healthy,
    Unhealthy,
}

/// Exactly one of `http`, `grpc` and `tcp`. Made with the backend's own protocol and TLS settings; what takes longer than
/// `timeout`, from the connection to the end of the answer, has failed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["http", "grpc", "tcp"])]))]
struct CheckSpec {
    /// For status, logs and metrics; what is known of the endpoints is kept under it. Default: `checks[0]`, `checks[1]`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grpc: Option<GrpcSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpSpec>,
    /// From the beginning of one check to that of the next. 100ms to 1h. Default: 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<GepDuration>,
    /// The same while the endpoint is unhealthy. Default: as `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unhealthy_interval: Option<GepDuration>,
    /// 10ms to 1m. Default: 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<GepDuration>,
    /// Checks that must fail in a row before the endpoint is called no more. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    unhealthy_threshold: Option<u32>,
    /// Checks that must pass in a row before it is called again; of an endpoint that was never checked before, one.
    /// Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    healthy_threshold: Option<u32>,
    /// Each wait is longer or shorter by up to this much, so that proxies do not ask together. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 50))]
    jitter_percent: Option<u32>,
    /// Asked at this port of the endpoint's address instead of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    port: Option<u32>,
}

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_IDLE_AFTER: Duration = Duration::from_secs(300);
const DEFAULT_PANIC_PERCENT: u32 = 50;
const DEFAULT_JITTER_PERCENT: u32 = 20;
const MOST_CHECKS: usize = 8;

impl PolicyKind for HealthCheckPolicy {
    const KIND: &'static str = "HealthCheckPolicy";
    const ABOUT: &'static str = "Asks a backend's endpoints how they are, and does not call those that fail.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = HealthCheckPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        if !(1..=MOST_CHECKS).contains(&spec.checks.len()) {
            cx.error("/checks", format!("write 1 to {MOST_CHECKS} checks"));
        }
        check::unique(cx, "/checks", spec.checks.iter().map(|check| check.name.as_deref()));
        let panic_percent = spec.panic_percent.unwrap_or(DEFAULT_PANIC_PERCENT);
        check::within(cx, "/panicPercent", panic_percent, 0..=100);
        let idle_after = match spec.idle_after {
            Some(idle) => check::duration_within(cx, "/idleAfter", idle, ("10s", "24h")),
            None => DEFAULT_IDLE_AFTER,
        };
        let checks = spec.checks.iter().enumerate().map(|(i, check)| check.compile(i, cx));
        // All of them, for the faults of each.
        let checks: Vec<_> = checks.collect();
        let checks: Option<Box<_>> = checks.into_iter().collect();
        let health = HealthCheck {
            policy: cx.policy().clone(),
            mode: cx.mode(),
            checks: checks?,
            initial: match spec.initial {
                Some(InitialSpec::Unhealthy) => Initial::Unhealthy,
                Some(InitialSpec::Healthy) | None => Initial::Healthy,
            },
            // What does not fit has just been refused.
            panic_percent: u8::try_from(panic_percent).unwrap_or(100),
            panic_rule: cx.rule("panicPercent", "/panicPercent"),
            idle_after,
        };
        Some(Compiled::HealthCheck(health.into()))
    }
}

impl CheckSpec {
    fn compile(&self, index: usize, cx: &mut CompileContext<'_>) -> Option<CheckRule> {
        let at = format!("/checks/{index}");
        let name = self.name.clone().unwrap_or_else(|| format!("checks[{index}]"));
        if self.name.is_some() {
            check::name(cx, &format!("{at}/name"), &name);
        }
        let timing = self.timing(&at, cx);
        if let Some(port) = self.port {
            check::within(cx, &format!("{at}/port"), port, 1..=65535);
        }
        let port = self.port.and_then(|port| u16::try_from(port).ok());
        let probe = self.probe(&at, cx)?;
        Some(CheckRule { rule: cx.rule(&name, &at), probe, timing, port })
    }

    fn probe(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Probe> {
        match (&self.http, &self.grpc, &self.tcp) {
            (Some(http), None, None) => http.compile(&format!("{at}/http"), cx).map(Probe::Http),
            (None, Some(grpc), None) => Some(grpc.compile(&format!("{at}/grpc"), cx)),
            (None, None, Some(TcpSpec {})) => Some(Probe::Tcp),
            (None, None, None) => {
                cx.error(at, "asks nothing: write one of `http`, `grpc` and `tcp`");
                None
            }
            _ => {
                cx.error(
                    at,
                    "asks in several ways: write each of `http`, `grpc` and `tcp` as a check of its own",
                );
                None
            }
        }
    }

    fn timing(&self, at: &str, cx: &mut CompileContext<'_>) -> CheckTiming {
        let mut duration = |field: &str, written: Option<GepDuration>, bounds, usual| match written {
            Some(written) => check::duration_within(cx, &format!("{at}/{field}"), written, bounds),
            None => usual,
        };
        let interval = duration("interval", self.interval, ("100ms", "1h"), DEFAULT_INTERVAL);
        let slow = duration("unhealthyInterval", self.unhealthy_interval, ("100ms", "1h"), interval);
        let timeout = duration("timeout", self.timeout, ("10ms", "1m"), DEFAULT_TIMEOUT);
        let mut number = |field: &str, written: Option<u32>, range, usual| {
            let number = written.unwrap_or(usual);
            check::within(cx, &format!("{at}/{field}"), number, range);
            number
        };
        let unhealthy = number("unhealthyThreshold", self.unhealthy_threshold, 1..=100, 3);
        let healthy = number("healthyThreshold", self.healthy_threshold, 1..=100, 2);
        let jitter = number("jitterPercent", self.jitter_percent, 0..=50, DEFAULT_JITTER_PERCENT);
        CheckTiming {
            interval,
            unhealthy_interval: slow,
            timeout,
            jitter_percent: u8::try_from(jitter).unwrap_or(50),
            unhealthy_threshold: unhealthy,
            healthy_threshold: healthy,
        }
    }
}

#[cfg(test)]
mod tests;
