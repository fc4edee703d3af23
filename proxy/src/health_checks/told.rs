//! What status and metrics show of health checks.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_policy::Timestamp;
use tidegate_policy::health::check::{Cause, CheckStatus, HealthGuard};

use crate::state::ProxyState;
use crate::telemetry::HealthSample;

impl ProxyState {
    pub(crate) fn health_status(&self) -> Vec<Value> {
        let now = self.clock.now();
        self.store.load().checks().iter().map(|guard| of_backend(guard, now)).collect()
    }

    pub(crate) fn health_samples(&self) -> Vec<HealthSample> {
        let now = self.clock.now();
        let snapshot = self.store.load();
        let sample = |guard: &Arc<HealthGuard>| HealthSample {
            policy: guard.health.policy.name.to_string().into(),
            backend: guard.backend.label.clone(),
            // Of those that are not checked nothing is known.
            endpoints: guard
                .endpoints()
                .filter(|_| guard.is_watched(now))
                .map(|(label, healthy)| (label.clone(), healthy))
                .collect(),
            results: guard.counts().collect(),
        };
        snapshot.checks().iter().map(sample).collect()
    }
}

fn of_backend(guard: &HealthGuard, now: Timestamp) -> Value {
    let standing = guard.standing();
    json!({
        "policy": guard.health.policy.name,
        "source": guard.health.policy.source,
        "mode": guard.health.mode,
        "backend": guard.backend.name,
        // A sidecar checks only what its application calls.
        "checked": guard.is_watched(now),
        "healthy_endpoints": standing.healthy,
        "all_endpoints": standing.all,
        "ignored": standing.is_panic(guard.health.panic_percent),
        "endpoints": guard.status().map(|status| of_endpoint(&status, now)).collect::<Vec<_>>(),
    })
}

fn of_endpoint(CheckStatus { rule, endpoint, view }: &CheckStatus, now: Timestamp) -> Value {
    json!({
        "endpoint": endpoint,
        "check": rule.name,
        "source": rule.source,
        "state": match (view.healthy, view.judged) {
            (true, true) => "healthy",
            (false, true) => "unhealthy",
            (_, false) => "unknown",
        },
        "for_seconds": view.since.map(|since| now.since(since).as_secs_f64()),
        "last_failure": view.failed.map(|(cause, _)| of_cause(cause)),
        "last_failure_seconds_ago": view.failed.map(|(_, at)| now.since(at).as_secs_f64()),
        "next_check_in_seconds": view.due.map(|due| due.since(now).as_secs_f64()),
    })
}

fn of_cause(cause: Cause) -> String {
    format!("{}: {cause}", cause.as_str())
}
