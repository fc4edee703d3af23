//! Compiled policies joined to their state: each once per snapshot, wherever it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{BackendState, Local, Origination, Rejected};
use crate::balance::{Balancer, LoadBalancing};
use crate::call::{RetryRule, TimeoutRule};
use crate::health::check::{HealthCheck, HealthGuard};
use crate::health::{CircuitBreaker, CircuitGuard};
use crate::jwt::KeySource;
use crate::kind::Compiled;
use crate::kinds::KINDS;
use crate::kinds::authorization::Authorization;
use crate::mesh::MeshTls;
use crate::model::{
    BackendName, Mode, Policy, PolicyKey, PolicyRef, Resource, ResourceName, ResourceType, Resources,
    TargetRef,
};
use crate::pick::Cohort;
use crate::pipeline::{Filter, ServiceRef};
use crate::plugin::Plugin;
use crate::state::StateStore;

/// A policy as the snapshot uses it.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) reference: Arc<PolicyRef>,
    /// Place of its kind in the registry.
    pub(super) order: usize,
    pub(super) behaviour: Behaviour,
    /// Whom it has asked.
    services: Vec<Arc<ServiceRef>>,
}

#[derive(Clone, Debug)]
pub(super) enum Behaviour {
    Filter(Arc<dyn Filter>),
    Authorization(Arc<Authorization>),
    CircuitBreaker(Arc<CircuitBreaker>),
    LoadBalancing(Arc<LoadBalancing>),
    HealthCheck(Arc<HealthCheck>),
    Cohort(Arc<Cohort>),
    Retry(Arc<RetryRule>),
    Timeout(Arc<TimeoutRule>),
    MeshTls(Arc<MeshTls>),
}

/// What descriptions say of a policy.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) reference: Arc<PolicyRef>,
    pub(super) mode: Mode,
    pub(super) targets: Vec<TargetRef>,
}

/// The policy that says how to balance, those whose breakers and whose checks say who is well, and the backend.
type BalancerKey = (Option<ResourceName>, Option<ResourceName>, Option<ResourceName>, BackendName);

/// All policies that could be compiled, and what was made from them for each backend.
#[derive(Debug)]
pub(super) struct Policies<'a> {
    by_key: BTreeMap<(&'a str, &'a ResourceName), Bound>,
    /// By policy, backend and, where that makes a difference, route rule.
    guards: BTreeMap<(ResourceName, BackendName, Arc<str>), Arc<CircuitGuard>>,
    checks: BTreeMap<(ResourceName, BackendName), Arc<HealthGuard>>,
    balancers: BTreeMap<BalancerKey, Arc<Balancer>>,
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
        let (guards, checks, balancers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { by_key, guards, checks, balancers, state }
    }

    pub(super) fn has(&self, key: &PolicyKey) -> bool {
        self.by_key.contains_key(&(&*key.kind, &key.name))
    }

    pub(super) fn get<'s>(&'s self, policy: &'s Policy) -> Option<&'s Bound> {
        self.by_key.get(&(&*policy.kind, &policy.meta.name))
    }

    /// What a policy asks of connections between workloads.
    pub(super) fn mesh_tls(&self, policy: &Policy) -> Option<Arc<MeshTls>> {
        match &self.get(policy)?.behaviour {
            Behaviour::MeshTls(rule) => Some(rule.clone()),
            _ => None,
        }
    }

    /// The one guard of a breaker on a backend, shared by every rule that leads there, unless each has caps of its own.
    pub(super) fn guard(
        &mut self,
        circuit: &Arc<CircuitBreaker>,
        (backend, rule): (&BackendState, &str),
    ) -> Arc<CircuitGuard> {
        let rule = if circuit.caps_rules() { rule } else { "" };
        let key = (circuit.policy.name.clone(), backend.name.clone(), rule.into());
        let bind = || CircuitGuard::bind(circuit, (&backend.name, rule), &backend.endpoints, self.state);
        self.guards.entry(key).or_insert_with(bind).clone()
    }

    /// The one balancer of a policy on a backend, shared by every rule that leads there with the same guard: what it
    /// knows of who is well is what that guard says, and the health checks. Without a policy, where that matters: not all endpoints are alike.
    pub(super) fn balancer(
        &mut self,
        settings: Option<&Arc<LoadBalancing>>,
        (guard, health): (Option<&CircuitGuard>, Option<&HealthGuard>),
        backend: &BackendState,
        local: &Local,
    ) -> Option<Arc<Balancer>> {
        let judged = guard.is_some() || health.is_some();
        let unwritten = || (judged && backend.balancer.is_spread()).then(LoadBalancing::unwritten);
        let settings = settings.cloned().or_else(unwritten)?;
        let policy = settings.origin.as_ref().map(|origin| origin.policy.name.clone());
        let guarded = guard.map(|guard| guard.circuit.policy.name.clone());
        let checked = health.map(|health| health.health.policy.name.clone());
        let bind = || Arc::new(Balancer::bind(&settings, backend.backing(local), self.state));
        Some(
            self.balancers
                .entry((policy, guarded, checked, backend.name.clone()))
                .or_insert_with(bind)
                .clone(),
        )
    }

    pub(super) fn guards(&self) -> Vec<(BackendName, Arc<CircuitGuard>)> {
        self.guards.iter().map(|((_, backend, _), guard)| (backend.clone(), guard.clone())).collect()
    }

    /// Each once.
    pub(super) fn services(&self) -> BTreeSet<Arc<ServiceRef>> {
        self.by_key.values().flat_map(|bound| bound.services.iter().cloned()).collect()
    }

    /// Of all filters, each once.
    pub(super) fn key_sources(&self) -> Vec<Arc<KeySource>> {
        let mut sources = Vec::<Arc<KeySource>>::new();
        for bound in self.by_key.values() {
            let Behaviour::Filter(filter) = &bound.behaviour else { continue };
            for source in filter.key_sources() {
                if !sources.iter().any(|known| Arc::ptr_eq(known, source)) {
                    sources.push(source.clone());
                }
            }
        }
        sources
    }

    /// Of all filters.
    pub(super) fn plugins(&self) -> Vec<Arc<Plugin>> {
        let plugins = self.by_key.values().filter_map(|bound| match &bound.behaviour {
            Behaviour::Filter(filter) => filter.plugin().cloned(),
            _ => None,
        });
        plugins.collect()
    }

    /// Those that hold a gate.
    pub(super) fn gates(&self) -> Vec<Arc<dyn Filter>> {
        let filters = self.by_key.values().filter_map(|bound| match &bound.behaviour {
            Behaviour::Filter(filter) => Some(filter),
            _ => None,
        });
        filters.filter(|filter| filter.load().is_some()).cloned().collect()
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
    let services = match &compiled {
        Compiled::Filter(filter) => {
            filter.services().into_iter().map(|(service, _)| service.clone()).collect()
        }
        _ => Vec::new(),
    };
    let behaviour = match compiled {
        Compiled::Filter(filter) => Behaviour::Filter(filter.bind(state)),
        Compiled::Authorization(authorization) => Behaviour::Authorization(authorization),
        Compiled::CircuitBreaker(circuit) => Behaviour::CircuitBreaker(circuit),
        Compiled::LoadBalancing(settings) => Behaviour::LoadBalancing(settings),
        Compiled::HealthCheck(health) => Behaviour::HealthCheck(health),
        Compiled::Cohort(cohort) => Behaviour::Cohort(cohort),
        Compiled::Retry(rule) => Behaviour::Retry(rule),
        Compiled::Timeout(rule) => Behaviour::Timeout(rule),
        Compiled::MeshTls(rule) => Behaviour::MeshTls(rule),
    };
    Ok(Bound { reference: Arc::new(policy.reference()), order, behaviour, services })
}
