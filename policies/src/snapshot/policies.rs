//! Compiled policies joined to their state: each once per snapshot, wherever it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BackendState, Origination, Rejected};
use crate::health::check::{HealthCheck, HealthGuard};
use crate::health::{CircuitBreaker, CircuitGuard};
use crate::kind::Compiled;
use crate::kinds::KINDS;
use crate::model::{
    BackendName, Mode, Policy, PolicyKey, PolicyRef, Resource, ResourceName, ResourceType, Resources,
    TargetRef,
};
use crate::pick::Cohort;
use crate::pipeline::Filter;
use crate::state::StateStore;

/// A policy as the snapshot uses it.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) reference: Arc<PolicyRef>,
    /// Place of its kind in the registry.
    pub(super) order: usize,
    pub(super) behaviour: Behaviour,
}

#[derive(Clone, Debug)]
pub(super) enum Behaviour {
    Filter(Arc<dyn Filter>),
    CircuitBreaker(Arc<CircuitBreaker>),
    HealthCheck(Arc<HealthCheck>),
    Cohort(Arc<Cohort>),
}

/// What descriptions say of a policy.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) reference: Arc<PolicyRef>,
    pub(super) mode: Mode,
    pub(super) targets: Vec<TargetRef>,
}

/// All policies that could be compiled, and the guards made from them.
#[derive(Debug)]
pub(super) struct Policies<'a> {
    by_key: BTreeMap<(&'a str, &'a ResourceName), Bound>,
    guards: BTreeMap<(ResourceName, BackendName), Arc<CircuitGuard>>,
    checks: BTreeMap<(ResourceName, BackendName), Arc<HealthGuard>>,
    state: &'a StateStore,
}

impl<'a> Policies<'a> {
    pub(super) fn compile(
        resources: &'a Resources,
        state: &'a StateStore,
        rejected: &mut Vec<Rejected>,
    ) -> Self {
        let mut by_key = BTreeMap::new();
        for policy in resources.policies.values() {
            match bind(policy, state) {
                Ok(bound) => drop(by_key.insert((&*policy.kind, &policy.meta.name), bound)),
                Err(reason) => rejected.push(Rejected {
                    resource_type: ResourceType::Policy,
                    name: Resource::Policy(policy.clone()).name(),
                    reason,
                }),
            }
        }
        Self { by_key, guards: BTreeMap::new(), checks: BTreeMap::new(), state }
    }

    pub(super) fn has(&self, key: &PolicyKey) -> bool {
        self.by_key.contains_key(&(&*key.kind, &key.name))
    }

    pub(super) fn get<'s>(&'s self, policy: &'s Policy) -> Option<&'s Bound> {
        self.by_key.get(&(&*policy.kind, &policy.meta.name))
    }

    /// The one guard of a breaker on a backend, shared by every rule that leads there.
    pub(super) fn guard(
        &mut self,
        circuit: &Arc<CircuitBreaker>,
        backend: &BackendState,
    ) -> Arc<CircuitGuard> {
        let key = (circuit.policy.name.clone(), backend.name.clone());
        let bind = || CircuitGuard::bind(circuit, &backend.name, &backend.endpoints, self.state);
        self.guards.entry(key).or_insert_with(bind).clone()
    }

    pub(super) fn guards(&self) -> Vec<(BackendName, Arc<CircuitGuard>)> {
        self.guards.iter().map(|((_, backend), guard)| (backend.clone(), guard.clone())).collect()
    }

    /// The one guard of a health check on a backend, checked as whoever comes first says: always, or while it is called.
    pub(super) fn health(
        &mut self,
        health: &Arc<HealthCheck>,
        backend: &Arc<BackendState>,
        (tls, always): (Option<&Origination>, bool),
    ) -> Arc<HealthGuard> {
        let key = (health.policy.name.clone(), backend.name.clone());
        let bind = || HealthGuard::bind(health, backend, tls, always, self.state);
        self.checks.entry(key).or_insert_with(bind).clone()
    }

    pub(super) fn checks(&self) -> Vec<Arc<HealthGuard>> {
        self.checks.values().cloned().collect()
    }

    pub(super) fn in_force(&self, resources: &Resources) -> Vec<InForce> {
        let compiled = resources.policies.values().filter_map(|policy| Some((policy, self.get(policy)?)));
        compiled
            .map(|(policy, bound)| InForce {
                reference: bound.reference.clone(),
                mode: policy.mode,
                targets: policy.targets.clone(),
            })
            .collect()
    }
}

fn bind(policy: &Policy, state: &StateStore) -> Result<Bound, String> {
    let found = KINDS.iter().enumerate().find(|(_, entry)| *entry.kind == *policy.kind);
    let (order, entry) = found.ok_or_else(|| format!("`{}` is not a policy kind", policy.kind))?;
    let compiled = entry.compile(policy).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
        format!("{}: {}", policy.meta.source, lines.join("; "))
    })?;
    let behaviour = match compiled {
        Compiled::Filter(filter) => Behaviour::Filter(filter.bind(state)),
        Compiled::CircuitBreaker(circuit) => Behaviour::CircuitBreaker(circuit),
        Compiled::HealthCheck(health) => Behaviour::HealthCheck(health),
        Compiled::Cohort(cohort) => Behaviour::Cohort(cohort),
    };
    Ok(Bound { reference: Arc::new(policy.reference()), order, behaviour })
}
