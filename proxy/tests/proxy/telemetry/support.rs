//! One request, its policies and its end, to vary.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode, request};
use tidegate_policy::decision::{Detail, RuleRef};
use tidegate_policy::health::{BreakerPhase, TransitionCounts};
use tidegate_policy::model::{Identity, Peer, PolicyRef, ResourceName, SourceRef};
use tidegate_policy::{Decision, Decisions, Outcome, Reason};
use tidegate_proxy::telemetry::{
    AttemptInfo, BreakerSample, Destination, Finished, LogTarget, Scrape, Telemetry, TelemetryConfig,
    TraceSettings,
};
use tidegate_testkit::otlp::OtlpCollector;

pub(crate) const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// No log, no collector; the same whatever the environment says.
pub(crate) fn quiet() -> TelemetryConfig {
    TelemetryConfig {
        access_log: LogTarget::Off,
        flush_bound: Duration::from_secs(60),
        ..TelemetryConfig::default()
    }
}

pub(crate) fn to(collector: &OtlpCollector) -> TelemetryConfig {
    let endpoint = Some(collector.endpoint());
    let traces = TraceSettings { endpoint, delay: Duration::from_millis(1), ..TraceSettings::default() };
    TelemetryConfig { traces, ..quiet() }
}

pub(crate) fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).expect("the head is valid").into_parts().0
}

pub(crate) fn peer() -> Peer {
    let identity = Identity("spiffe://cluster.local/ns/shop/sa/storefront".into());
    Peer { address: ([192, 0, 2, 7], 5555).into(), identity: Some(identity) }
}

pub(crate) fn destination() -> Destination {
    Destination {
        route: Some("shop/checkout".into()),
        rule: "pay".into(),
        source: Some(SourceRef::File { path: "routes.yaml".into(), line: 7 }),
        backend: Some("shop/checkout-v2:8080".into()),
        weight: 10,
    }
}

pub(crate) fn attempt(number: u32) -> AttemptInfo {
    AttemptInfo {
        backend: "shop/checkout-v2:8080".into(),
        endpoint: "10.0.0.2:8080".into(),
        weight: 10,
        number,
        tls: false,
    }
}

pub(crate) fn finished(status: u16) -> Finished {
    Finished {
        status: StatusCode::from_u16(status).expect("the status is valid"),
        grpc_status: None,
        reason: None,
        decisions: Decisions::new(),
        plugins: Vec::new(),
        bytes_in: 0,
        bytes_out: 2,
    }
}

/// Refused by a limit, after a shadowed circuit breaker would have.
pub(crate) fn refusal() -> Finished {
    Finished {
        reason: Some(Reason::RateLimited),
        decisions: [breaker(Outcome::WouldRefuse(Reason::CircuitOpen)), limiter(14)].into_iter().collect(),
        plugins: Vec::new(),
        bytes_out: 18,
        ..finished(429)
    }
}

pub(crate) fn limiter(line: u32) -> Decision {
    let source = |line| SourceRef::File { path: "policies/limits.yaml".into(), line };
    Decision {
        policy: Arc::new(PolicyRef {
            kind: "RateLimitPolicy".into(),
            name: ResourceName::new("shop", "per-user"),
            source: source(1),
        }),
        rule: Arc::new(RuleRef { name: "burst".into(), source: source(line) }),
        outcome: Outcome::Refused(Reason::RateLimited),
        detail: Some(Detail::Remaining(0)),
    }
}

pub(crate) fn breaker(outcome: Outcome) -> Decision {
    let name = ResourceName::new("shop", "checkout-circuit");
    let source = SourceRef::Object { name: name.clone(), generation: 3 };
    Decision {
        policy: Arc::new(PolicyRef { kind: "CircuitBreakerPolicy".into(), name, source: source.clone() }),
        rule: Arc::new(RuleRef { name: "failures".into(), source }),
        outcome,
        detail: Some(Detail::State(BreakerPhase::HalfOpen)),
    }
}

pub(crate) fn breaker_sample() -> BreakerSample {
    BreakerSample {
        policy: "shop/checkout-circuit".into(),
        backend: "shop/checkout:8080".into(),
        endpoint: Some("10.0.0.2:8080".into()),
        rule: "failures".into(),
        state: 2,
        transitions: TransitionCounts { closed: 1, opened: 2, half_opened: 1, ramped: 0 },
    }
}

/// The value of the series that is written exactly so.
pub(crate) fn metric(telemetry: &Telemetry, series: &str) -> u64 {
    let text = telemetry.render_metrics(&Scrape::default());
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in\n{text}")).parse().expect("the value is a whole number")
}
