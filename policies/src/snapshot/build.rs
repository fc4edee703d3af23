//! Puts a snapshot together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::policies::Policies;
use super::tls;
use super::{BackendState, Local, Origination, Rejected, Snapshot};
use crate::attach::{Attachments, Chain};
use crate::balance::{Backing, Balancer, EndpointState, LoadBalancing, Roster};
use crate::call::RetryBudget;
use crate::mesh::MeshTls;
use crate::model::{Backend, BackendKind, BackendName, Endpoint, MeshPeer, ResourceName, Resources};
use crate::state::{StateKey, StateStore};

/// What the parts of a snapshot are built from.
pub(super) struct Builder<'a> {
    pub(super) resources: &'a Resources,
    pub(super) local: &'a Local,
    /// By this workload.
    pub(super) served: Vec<ResourceName>,
    pub(super) state: &'a StateStore,
    pub(super) policies: Policies<'a>,
    pub(super) attachments: Attachments<'a>,
    pub(super) backends: BTreeMap<BackendName, Arc<BackendState>>,
    pub(super) rejected: Vec<Rejected>,
    /// By the identity of their settings, each with the first backend that is called so.
    pub(super) originations: FxHashMap<usize, (BackendName, Origination)>,
}

pub(super) fn build(resources: &Resources, local: &Local, state: &StateStore) -> (Snapshot, Vec<Rejected>) {
    tls::sweep(state);
    let mut rejected = Vec::new();
    let policies = Policies::compile(resources, state, &mut rejected);
    let usable = resources.policies.values().filter(|policy| policies.get(policy).is_some());
    let attachments = Attachments::new(usable);
    let backends = resources.backends.values();
    let backends = backends.map(|backend| {
        let mut built = backend_state(backend, resources, (local, state));
        built.mtls = mesh_tls(backend, resources, (&policies, &attachments));
        (backend.name.clone(), Arc::new(built))
    });
    let backends = backends.collect();
    let mut builder = Builder {
        resources,
        local,
        served: served(resources, local),
        state,
        policies,
        attachments,
        backends,
        rejected,
        originations: FxHashMap::default(),
    };
    let snapshot = Snapshot {
        // First, for what a gateway leads to is always checked; see `Policies::health`.
        sockets: builder.sockets(),
        outbound: builder.services(),
        inbound: builder.inbound().map(Arc::new),
        inbound_at: builder.inbound_at(),
        policies: builder.policies.in_force(resources),
        guards: builder.policies.guards(),
        services: builder.policies.services(),
        key_sources: builder.policies.key_sources(),
        plugins: builder.policies.plugins(),
        gates: builder.policies.gates(),
        checks: builder.policies.checks(),
        backends: builder.backends,
        originations: builder.originations.into_values().collect(),
        served: builder.served,
    };
    (snapshot, builder.rejected)
}

/// What is written beside the workload wins over what the control plane knows of its pod.
fn served(resources: &Resources, local: &Local) -> Vec<ResourceName> {
    let told = || local.pod.as_ref().and_then(|pod| resources.workloads.get(pod));
    match local.services.is_empty() {
        true => told().map(|workload| workload.services.clone()).unwrap_or_default(),
        false => local.services.clone(),
    }
}

fn backend_state(
    backend: &Backend,
    resources: &Resources,
    (local, state): (&Local, &StateStore),
) -> BackendState {
    let owner: Arc<str> = format!("endpoint/{}", backend.name).into();
    let mut seen = BTreeSet::new();
    let listed = resources.endpoints.get(&backend.name).map_or(&[][..], |e| e.endpoints.as_slice());
    let roster = state.get_or_insert(StateKey::new(owner.clone(), "roster"), Roster::default);
    let push = roster.push(listed.is_empty());
    let listed = listed.iter().filter(|endpoint| seen.insert(&endpoint.address));
    let endpoints = listed.map(|endpoint| {
        let key = StateKey::new(owner.clone(), endpoint_key(endpoint));
        let make = || EndpointState::new(endpoint.address.clone()).behind(endpoint.mesh.clone());
        let found = state.get_or_insert(key, make);
        found.set_weight(endpoint.weight);
        found.seen(push);
        (found, endpoint.placement.clone())
    });
    let (endpoints, placements): (Vec<_>, Vec<_>) = endpoints.unzip();
    let budget = StateKey::new(owner.clone(), "retry-budget");
    let mut built = BackendState {
        name: backend.name.clone(),
        label: backend.name.to_string().into(),
        protocol: backend.protocol,
        connect_timeout: backend.connect_timeout,
        tls: backend.tls.clone(),
        proxy_protocol: backend.proxy_protocol,
        mtls: None,
        balancer: Balancer::plain(&[]).into(),
        endpoints: endpoints.into(),
        placements: placements.into(),
        _roster: roster,
        retry_budget: state.get_or_insert(budget, RetryBudget::default),
    };
    built.balancer = Balancer::bind(&LoadBalancing::unwritten(), built.backing(local), state).into();
    built
}

/// What its own sidecars ask of connections, for whoever calls it.
fn mesh_tls(
    backend: &Backend,
    resources: &Resources,
    (policies, attachments): (&Policies<'_>, &Attachments<'_>),
) -> Option<Arc<MeshTls>> {
    if backend.name.kind != BackendKind::Service {
        return None;
    }
    let chains = Chain::inbound(&backend.name.object, resources);
    let effective: Vec<_> = chains.iter().flat_map(|chain| attachments.effective(chain)).collect();
    effective.into_iter().rev().find_map(|policy| policies.mesh_tls(policy))
}

/// What tells it from others of its backend. Called in another way it is another one, with connections of its own.
fn endpoint_key(endpoint: &Endpoint) -> String {
    let Some(MeshPeer { service_accounts }) = &endpoint.mesh else { return endpoint.address.to_string() };
    service_accounts
        .iter()
        .fold(format!("{} by mTLS", endpoint.address), |key, account| format!("{key} as {account}"))
}

impl BackendState {
    /// What a balancer of it is joined to.
    pub(super) fn backing<'a>(&'a self, local: &'a Local) -> Backing<'a> {
        Backing {
            backend: &self.label,
            endpoints: &self.endpoints,
            placements: &self.placements,
            zone: local.zone.as_deref(),
            node: &local.node,
        }
    }
}
