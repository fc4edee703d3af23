//! What status and metrics show of health checks.

use std::sync::Arc;

use tidegate_policy::health::check::{HealthGuard, HealthReport};

use crate::state::ProxyState;
use crate::telemetry::HealthSample;

impl ProxyState {
    pub(crate) fn health_status(&self) -> Vec<HealthReport> {
        let now = self.clock.now();
        self.store.load().checks().iter().map(|guard| HealthReport::of(guard, now)).collect()
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
