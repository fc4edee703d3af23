//! The admin port's view of the proxy.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_policy::health::CircuitGuard;
use tidegate_policy::model::BackendName;

use super::ProxyState;
use crate::admin::{AdminSource, to_yaml};
use crate::limits::store::ExactStore;
use crate::telemetry::{BreakerSample, Scrape};

impl AdminSource for ProxyState {
    fn ready(&self) -> Result<(), String> {
        Self::ready(self)
    }

    fn config_yaml(&self) -> Result<String, String> {
        to_yaml(&self.store.load().describe())
    }

    fn status(&self) -> Value {
        json!({
            "node": self.config.node,
            "namespace": self.config.local.namespace,
            "services": self.config.local.services,
            "role": self.config.role(),
            "ready": Self::ready(self).map_or_else(Value::from, |()| Value::Bool(true)),
            "draining": self.draining.is_cancelled(),
            "listeners": self.listeners.all(),
            "control_plane": self.control_plane_status(),
            "circuit_breakers": self.guard_status(),
            "health_checks": self.health_status(),
        })
    }

    fn scrape(&self) -> Scrape {
        Scrape {
            xds_connected: self.config.control_plane.is_some().then(|| self.xds.is_connected()),
            config_age: self.store.applied_at().map(|at| at.elapsed()),
            breakers: self.breakers(),
            health: self.health_samples(),
            exact: self.exact.as_ref().map(ExactStore::counted),
            lent: self.leases.standing(self.clock.now()),
        }
    }
}

impl ProxyState {
    fn control_plane_status(&self) -> Value {
        let Some(url) = &self.config.control_plane else { return Value::Null };
        json!({
            "url": url.to_string(),
            "connected": self.xds.is_connected(),
            "last_error": self.xds.last_error(),
            "config_age_seconds": self.store.applied_at().map(|at| at.elapsed().as_secs()),
        })
    }

    fn breakers(&self) -> Vec<BreakerSample> {
        let snapshot = self.store.load();
        let mut samples = Vec::new();
        for (backend, guard) in snapshot.guards() {
            samples.extend(BreakerSample::of(guard, &Arc::from(backend.to_string())));
        }
        samples
    }

    fn guard_status(&self) -> Vec<Value> {
        let snapshot = self.store.load();
        let status = |(backend, guard): (&BackendName, &Arc<CircuitGuard>)| {
            json!({
                "policy": guard.circuit.policy.name,
                "source": guard.circuit.policy.source,
                "mode": guard.circuit.mode,
                "backend": backend,
                "caps": guard.usage(),
                "breakers": guard.status().map(|breaker| json!({
                    "rule": breaker.rule.name,
                    "source": breaker.rule.source,
                    "endpoint": breaker.endpoint,
                    "state": breaker.phase.as_str(),
                    "failures": breaker.failures,
                    "calls": breaker.calls,
                })).collect::<Vec<_>>(),
            })
        };
        snapshot.guards().map(status).collect()
    }
}
