//! The admin port's view of the proxy.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_policy::model::PolicyRef;
use tidegate_policy::overload::Load;
use tidegate_policy::snapshot::BackendState;

use super::ProxyState;
use crate::admin::{AdminSource, to_yaml};
use crate::limits::store::ExactStore;
use crate::telemetry::{BreakerSample, EjectedSample, Scrape};

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
            "circuit_breakers": self.store.load().health(self.clock.now()),
            "health_checks": self.health_status(),
            "endpoints": self.endpoint_status(),
            "overload": self.gate_status(),
            "plugins": self.plugin_status(),
            "identity": self.identity.as_ref().map(|identity| identity.status()),
        })
    }

    fn scrape(&self) -> Scrape {
        Scrape {
            xds_connected: self.config.control_plane.is_some().then(|| self.xds.is_connected()),
            config_age: self.store.applied_at().map(|at| at.elapsed()),
            breakers: self.breakers(),
            ejected: self.ejected(),
            health: self.health_samples(),
            exact: self.exact.as_ref().map(ExactStore::counted),
            services: self.services.counted(),
            lent: self.leases.standing(self.clock.now()),
            gates: self.gates(),
            plugins: self.plugins.status(),
            plugin_metrics: self.plugins.custom_metrics(),
            identity: self.identity.as_ref().map(|identity| identity.sample()),
        }
    }
}

impl ProxyState {
    fn plugin_status(&self) -> Vec<Value> {
        let each = self.plugins.status().into_iter().map(|plugin| {
            json!({
                "policy": plugin.name.to_string(),
                "loaded": plugin.loaded,
                "fault": plugin.fault,
                "quarantined": plugin.quarantined,
                "last_failure": plugin.standing.last,
                "instances": plugin.counts.instances,
                "memory_bytes": plugin.counts.memory,
            })
        });
        each.collect()
    }

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

    fn gates(&self) -> Vec<(Arc<str>, Load)> {
        let snapshot = self.store.load();
        snapshot.gates().map(|(policy, load)| (policy.name.to_string().into(), load)).collect()
    }

    fn gate_status(&self) -> Vec<Value> {
        let snapshot = self.store.load();
        let status = |(policy, load): (&Arc<PolicyRef>, Load)| {
            json!({
                "policy": policy.name,
                "source": policy.source,
                "limit": load.limit,
                "in_flight": load.in_flight,
                "queued": load.queued,
            })
        };
        snapshot.gates().map(status).collect()
    }

    /// What calls have shown of each endpoint, by backend.
    fn endpoint_status(&self) -> Value {
        let snapshot = self.store.load();
        let of = |backend: &Arc<BackendState>| {
            let placed = backend.endpoints.iter().zip(backend.placements.iter());
            let endpoints = placed.map(|(endpoint, placement)| {
                json!({
                    "endpoint": endpoint.label,
                    "weight": endpoint.weight(),
                    "zone": placement.zone,
                    "priority": placement.priority,
                    "in_flight": endpoint.in_flight(),
                    "latency_ms": endpoint.latency.average().map(|average| average.as_secs_f64() * 1000.0),
                })
            });
            (backend.label.to_string(), endpoints.collect::<Value>())
        };
        Value::Object(snapshot.backends().map(of).collect())
    }

    fn ejected(&self) -> Vec<EjectedSample> {
        let snapshot = self.store.load();
        snapshot
            .guards()
            .map(|(backend, guard)| EjectedSample::of(guard, &Arc::from(backend.to_string())))
            .collect()
    }
}
