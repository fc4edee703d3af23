//! What each node is told: resources picked by role, encoded once, versioned by their content.
//!
//! Pure. A version is a hash of the encoded bytes, so what did not change is not sent again, not even by another
//! control plane or after a restart.

mod follow;
mod reach;
mod role;
mod scope;
#[cfg(test)]
mod scope_tests;
#[cfg(test)]
mod tests;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidegate_policy::codec;
use tidegate_policy::document::ObjectKey;
use tidegate_policy::model::{BackendKind, Destination, Resource, ResourceName, ResourceType, Resources};
use tidegate_xds::{Name, ResourceSet, TooLarge, Versioned};

use reach::Reach;
use views::Views;

pub use role::Role;
pub(crate) use scope::account;
pub use scope::{Guests, Interest, Scope, label, own_name};

/// Hexadecimal digits of a version: 64 bits, far beyond a chance collision within one resource's history.
const VERSION_DIGITS: usize = 16;

/// What every node is to have, by its role.
#[derive(Clone, Debug, Default)]
pub struct Published {
    roles: BTreeMap<Role, Arc<RoleSet>>,
    reach: BTreeMap<Role, Arc<Reach>>,
    guests: Arc<Guests>,
    /// By pod.
    workloads: Arc<BTreeMap<Name, Arc<Versioned>>>,
    serving: Arc<BTreeMap<ResourceName, Vec<ResourceName>>>,
    /// What was cut out for scopes so far.
    views: Arc<Views>,
    /// What differs from the whole before, where nothing else does: whoever is told none of it is told the same.
    only: Option<Arc<BTreeSet<ResourceId>>>,
    /// Resources that no message could carry; nodes keep the version they have.
    pub too_large: Vec<(ObjectKey, TooLarge)>,
}

/// What all nodes of one role are to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoleSet {
    pub set: ResourceSet,
    /// In order.
    derived: Arc<BTreeMap<ObjectKey, Vec<ResourceId>>>,
}

/// A resource as xDS names it: type URL and name.
pub type ResourceId = (&'static str, Name);

pub use follow::follow;

/// Encodes `resources` for every role. What equals its predecessor in `before` shares its memory.
pub fn publish(resources: &Resources, guests: Guests, before: &Published) -> Published {
    let mut published =
        Published { guests: Arc::new(guests), views: Views::after(&before.views), ..Published::default() };
    for role in Role::ALL {
        let selected = role.select(resources);
        let set = RoleSet::encode(&selected, &before.of(role).set, &mut published.too_large);
        published.roles.insert(role, Arc::new(set));
        published.reach.insert(role, Arc::new(Reach::of(&selected)));
    }
    let workloads = resources.workloads.values().map(|workload| {
        let (_, name, now) = encoded(&Resource::Workload(workload.clone()));
        let same = before.workloads.get(&name).filter(|before| ***before == now).cloned();
        (name, same.unwrap_or_else(|| Arc::new(now)))
    });
    published.workloads = Arc::new(workloads.collect());
    let serving = resources.workloads.values();
    let serving = serving.map(|workload| (workload.name.clone(), workload.services.clone()));
    published.serving = Arc::new(serving.collect());
    published.too_large.dedup();
    published
}

impl Published {
    pub fn of(&self, role: Role) -> Arc<RoleSet> {
        self.roles.get(&role).cloned().unwrap_or_default()
    }

    /// What nodes of this scope are to have.
    pub fn view(&self, scope: &Scope) -> Arc<ResourceSet> {
        let holds = |before: &ResourceSet| {
            let is_told = |(type_url, name): &ResourceId| before.get(type_url, name).is_some();
            self.only.as_ref().is_some_and(|only| !only.iter().any(is_told))
        };
        self.views.of(scope, holds, || self.cut(scope))
    }

    /// Nobody is of this scope any more.
    pub(crate) fn forget(&self, scope: &Scope) {
        self.views.forget(scope);
    }

    fn cut(&self, scope: &Scope) -> ResourceSet {
        let all = self.of(scope.role());
        let (name, account) = match scope {
            Scope::Gateway { name, account } => (name, account),
            Scope::Sidecar { pod, interest } => {
                let set =
                    interest.as_ref().map(|interest| self.of_interest(&all.set, pod.as_ref(), interest));
                return self.of_pod(set.unwrap_or_else(|| all.set.clone()), pod.as_ref());
            }
        };
        let Some(reach) = self.reach.get(&scope.role()) else { return all.set.clone() };
        let claim = (name.as_ref(), account.as_ref());
        if claim == (None, None) && self.guests.are_open() {
            return all.set.clone();
        }
        reach.of_gateways(&all.set, |gateway| self.guests.admits(gateway, claim))
    }

    /// What a sidecar needs that asks for what its application calls.
    fn of_interest(&self, all: &ResourceSet, pod: Option<&ResourceName>, interest: &Interest) -> ResourceSet {
        let Some(reach) = self.reach.get(&Role::Sidecar) else { return all.clone() };
        let told = pod.and_then(|pod| self.serving.get(pod)).filter(|_| interest.served.is_empty());
        let (mut set, known) = reach.of_sidecar(all, interest, told.into_iter().flatten());
        for (key, known) in known {
            let answer = Resource::Destination(Destination { key: key.to_string(), known });
            let (type_url, _, body) = codec::encode(&answer);
            // A few bytes, which always fit.
            let _ = set.insert(type_url, key, Versioned::new(type_url, version(&body), body));
        }
        set
    }

    /// Adds what a sidecar is told of the pod that it is in.
    fn of_pod(&self, mut set: ResourceSet, pod: Option<&ResourceName>) -> ResourceSet {
        let name = pod.map(|pod| Name::from(pod.to_string()));
        if let Some((name, workload)) = name.and_then(|name| self.workloads.get_key_value(&name)) {
            // A list of names, which always fits.
            let _ = set.insert(ResourceType::Workload.type_url(), name.clone(), workload.clone());
        }
        set
    }

    /// Whether this scope may have anything of a Gateway that it names.
    pub(crate) fn admits(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Gateway { name: Some(name), account } => {
                self.guests.admits(name, (Some(name), account.as_ref()))
            }
            _ => true,
        }
    }

    /// Says whether there may be objects that are not known, see [`ResourceSet::set_incomplete`].
    pub fn set_incomplete(&mut self, incomplete: bool) {
        if self.is_incomplete() != incomplete {
            self.views = Views::after(&self.views);
            self.only = None;
        }
        for role in self.roles.values_mut().filter(|role| role.set.is_incomplete() != incomplete) {
            Arc::make_mut(role).set.set_incomplete(incomplete);
        }
    }

    pub fn is_incomplete(&self) -> bool {
        self.roles.values().any(|role| role.set.is_incomplete())
    }

    /// Whether any node is to have something else than under `other`.
    pub fn differs(&self, other: &Self) -> bool {
        Role::ALL.into_iter().any(|role| self.of(role).set != other.of(role).set)
    }
}

impl RoleSet {
    /// The resources that exist because of the object `key`; none if it yields nothing for this role.
    pub fn derived(&self, key: &ObjectKey) -> &[ResourceId] {
        self.derived.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    fn encode(
        resources: &Resources,
        before: &ResourceSet,
        too_large: &mut Vec<(ObjectKey, TooLarge)>,
    ) -> Self {
        let mut this = Self::default();
        let mut derived = BTreeMap::<_, Vec<ResourceId>>::new();
        for resource in resources.iter() {
            let (type_url, name, now) = encoded(&resource);
            let before = before.get(type_url, &name).cloned();
            let chosen = before.clone().filter(|before| **before == now).unwrap_or_else(|| Arc::new(now));
            let origins = origins(&resource);
            if let Err(error) = this.set.insert(type_url, name.clone(), chosen) {
                too_large.extend(origins.first().map(|origin| (origin.clone(), error)));
                let Some(before) = before else { continue };
                // It fitted when it was first published.
                let _ = this.set.insert(type_url, name.clone(), before);
            }
            for origin in origins {
                derived.entry(origin).or_default().push((type_url, name.clone()));
            }
        }
        derived.values_mut().for_each(|ids| ids.sort_unstable());
        this.derived = Arc::new(derived);
        this.set.share(before);
        this
    }
}

fn encoded(resource: &Resource) -> (&'static str, Name, Versioned) {
    let (type_url, name, body) = codec::encode(resource);
    (type_url, name.into(), Versioned::new(type_url, version(&body), body))
}

fn version(body: &[u8]) -> String {
    let mut version = String::with_capacity(VERSION_DIGITS);
    for byte in &Sha256::digest(body)[..VERSION_DIGITS / 2] {
        // Writing to a String cannot fail.
        let _ = write!(version, "{byte:02x}");
    }
    version
}

/// The objects that a resource was made from, the one it is named after first.
fn origins(resource: &Resource) -> Vec<ObjectKey> {
    let key = |kind: &str, object: &ResourceName| {
        let (namespace, name) = (object.namespace.to_string(), object.name.to_string());
        ObjectKey { kind: kind.to_owned(), namespace, name }
    };
    let named = match resource {
        Resource::Listener(listener) => key(listener.name.owner_kind(), listener.name.owner()),
        Resource::Route(route) => key(route.kind.as_str(), &route.meta.name),
        Resource::StreamRoute(route) => key(route.kind.as_str(), &route.meta.name),
        Resource::Policy(policy) => key(&policy.kind, &policy.meta.name),
        // Told one by one, and of nobody's making.
        Resource::Workload(_) | Resource::Destination(_) => return Vec::new(),
        Resource::Backend(backend) => key(backend_kind(backend.name.kind), &backend.name.object),
        Resource::Endpoints(endpoints) => {
            key(backend_kind(endpoints.backend.kind), &endpoints.backend.object)
        }
    };
    let tls = match resource {
        Resource::Backend(backend) => backend.tls.as_ref().map(|tls| key(&tls.policy.kind, &tls.policy.name)),
        _ => None,
    };
    std::iter::once(named).chain(tls).collect()
}

fn backend_kind(kind: BackendKind) -> &'static str {
    match kind {
        BackendKind::Service => "Service",
        BackendKind::Backend => "Backend",
    }
}
