//! Resolves again what a change concerns, where that can be told for sure; else everything.
//!
//! Most changes are of one policy's settings, or of where a Service's endpoints are. Such a change is *narrow*: no other
//! object can see it.
//!
//! - A policy that keeps its targets and its age, and is valid as before. Who wins against whom is decided by these alone,
//!   so how all policies fare stays true. A route that names it sees whether it can be used there: then it is not narrow.
//! - EndpointSlices and pods. Others only see the Services that these are of.
//! - A Service that keeps its ports: all that routes, policies and slices see of it.
//!
//! Whatever else changes (a route, a Gateway, a grant, what comes or goes), all is resolved anew. That both ways come to
//! the same is a law that is tested (the control plane's `tests/incremental.rs`).

use std::collections::BTreeSet;

use super::difference::between;
use super::objects::Objects;
use super::policies::{self, Fared};
use super::{Controller, Resolved, backends, key, whole, workloads};
use crate::attach::Known;
use crate::document::ObjectKey;
use crate::model::{Policy, Replaced, ResourceName, Resources};
use crate::objects::{EndpointSlice, Object, PROXY_PROTOCOL, Service};

/// Knows what was resolved last.
#[derive(Debug, Default)]
pub struct Resolver {
    controller: Controller,
    resolved: Resolved,
    fared: Fared,
    /// Something was resolved.
    begun: bool,
}

/// What became different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    pub resources: Vec<Replaced>,
    /// Of which objects something else may be said now; `None`: of any.
    pub told: Option<BTreeSet<ObjectKey>>,
}

/// An object before and after.
pub type Versions<'a> = (Option<&'a Object>, Option<&'a Object>);

/// What a narrow change concerns.
#[derive(Debug, Default)]
struct Narrow<'a> {
    policies: Vec<&'a Policy>,
    services: BTreeSet<ResourceName>,
    slices: BTreeSet<ResourceName>,
    pods: BTreeSet<ResourceName>,
    /// Which pods are served by what.
    workloads: bool,
}

impl Resolver {
    pub fn new(controller: Controller) -> Self {
        Self { controller, ..Self::default() }
    }

    pub fn resolved(&self) -> &Resolved {
        &self.resolved
    }

    /// Resolves `objects`, which differ from those of the last time by `versions`.
    pub fn resolve<'a>(
        &mut self,
        objects: impl IntoIterator<Item = &'a Object> + Clone,
        versions: &[Versions<'a>],
    ) -> Changed {
        let narrow = self.begun.then(|| Narrow::of(versions)).flatten();
        if let Some(narrow) = narrow {
            let needed = objects.clone().into_iter().filter(|object| narrow.needs(object));
            let needed = Objects::collect(needed, &self.controller);
            if let Some(changed) = self.narrowly(&needed, narrow) {
                return changed;
            }
        }
        let objects = Objects::collect(objects, &self.controller);
        let (resolved, fared) = whole(&objects);
        let resources = between(&self.resolved.resources, &resolved.resources);
        (self.resolved, self.fared, self.begun) = (resolved, fared, true);
        Changed { resources, told: None }
    }

    /// `None`: it is not narrow after all, and nothing was done.
    fn narrowly(&mut self, objects: &Objects<'_>, mut narrow: Narrow<'_>) -> Option<Changed> {
        let mut fresh = Resolved::default();
        let mut told = BTreeSet::new();
        for policy in &narrow.policies {
            self.policy(objects, policy, &mut fresh)?;
            told.insert(key(&policy.kind, &policy.meta.name));
        }
        narrow.find_services(objects);
        for name in &narrow.services {
            let Some(service) = objects.services.get(name) else { continue };
            backends::of_service(objects, service, &mut fresh);
            told.insert(key("Service", name));
        }
        if !narrow.slices.is_empty() {
            let meant = objects.slices().filter(|(_, slice)| narrow.slices.contains(&slice.meta.name));
            meant.for_each(|(service, slice)| backends::of_slice(objects, service, slice, &mut fresh));
            told.extend(narrow.slices.iter().map(|name| key("EndpointSlice", name)));
        }
        if narrow.workloads {
            workloads::resolve(objects, &mut fresh);
        }
        fresh.sort();
        Some(self.replace(fresh, told, &narrow))
    }

    fn policy(&self, objects: &Objects<'_>, policy: &Policy, fresh: &mut Resolved) -> Option<()> {
        let id = (policy.kind.to_string(), policy.meta.name.clone());
        // How it fares is known if it was valid.
        let standing = self.fared.standings.get(&id).filter(|standing| standing.missing.is_empty())?;
        if self.fared.named.contains_key(&policy.key()) {
            return None;
        }
        let refs = policies::alone(objects, policy, fresh);
        // What it asks may not be among the objects at hand; a policy that is refused for that is resolved with all of them.
        if policies::asks_services(fresh.resources.policies.get(&id)?) {
            return None;
        }
        let known = Known::default();
        policies::beside_others(policy, (standing, &known, &[]), refs.as_ref(), fresh);
        Some(())
    }

    /// Puts what is fresh in the place of what the change concerns.
    fn replace(&mut self, fresh: Resolved, told: BTreeSet<ObjectKey>, narrow: &Narrow<'_>) -> Changed {
        let (all, mut before) = (&mut self.resolved.resources, Resources::default());
        for policy in &narrow.policies {
            let id = (policy.kind.to_string(), policy.meta.name.clone());
            before.policies.extend(all.policies.remove_entry(&id));
        }
        for service in &narrow.services {
            let names: Vec<_> = all.ports_of(service).map(|backend| backend.name.clone()).collect();
            for name in names {
                before.backends.extend(all.backends.remove_entry(&name));
                before.endpoints.extend(all.endpoints.remove_entry(&name));
            }
        }
        if narrow.workloads {
            before.workloads = std::mem::take(&mut all.workloads);
        }
        let resources = between(&before, &fresh.resources);
        let Resources { policies, backends, endpoints, workloads, .. } = fresh.resources;
        all.policies.extend(policies);
        all.backends.extend(backends);
        all.endpoints.extend(endpoints);
        all.workloads.extend(workloads);
        for key in &told {
            self.resolved.conditions.remove(key);
            self.resolved.ancestors.remove(key);
        }
        self.resolved.conditions.extend(fresh.conditions);
        self.resolved.ancestors.extend(fresh.ancestors);
        Changed { resources, told: Some(told) }
    }
}

impl<'a> Narrow<'a> {
    /// `None`: others may see it.
    fn of(versions: &[Versions<'a>]) -> Option<Self> {
        let mut narrow = Self::default();
        for (before, after) in versions {
            match (before, after) {
                (Some(Object::Policy(before)), Some(Object::Policy(after))) => {
                    let same = before.targets == after.targets
                        && (&before.kind, before.meta.precedence()) == (&after.kind, after.meta.precedence());
                    narrow.policies.push(same.then_some(&**after)?);
                }
                (Some(Object::Service(before)), Some(Object::Service(after))) => {
                    narrow.service(looks_the_same(before, after).then_some((&**before, &**after))?);
                }
                (before, after) => {
                    for object in before.iter().chain(after) {
                        narrow.beside_service(object)?;
                    }
                }
            }
        }
        Some(narrow)
    }

    /// Whether anything that is done of it may look at this object.
    fn needs(&self, object: &Object) -> bool {
        let policies_only = self.services.is_empty() && self.slices.is_empty() && self.pods.is_empty();
        !policies_only || matches!(object, Object::ConfigMap(_))
    }

    fn service(&mut self, (before, after): (&Service, &Service)) {
        self.services.insert(after.meta.name.clone());
        self.workloads |= before.spec.selector != after.spec.selector;
    }

    fn beside_service(&mut self, object: &Object) -> Option<()> {
        match object {
            Object::EndpointSlice(slice) => self.slice(slice),
            Object::Pod(pod) => drop(self.pods.insert(pod.meta.name.clone())),
            _ => return None,
        }
        self.workloads = true;
        Some(())
    }

    fn slice(&mut self, slice: &EndpointSlice) {
        let name = &slice.meta.name;
        let service = slice.service().map(|service| ResourceName::new(name.namespace.clone(), service));
        self.services.extend(service);
        self.slices.insert(name.clone());
    }

    /// Those that the pods are of.
    fn find_services(&mut self, objects: &Objects<'_>) {
        if self.pods.is_empty() {
            return;
        }
        let of_pods = objects.slices().filter(|(_, slice)| {
            let mut pods = slice.spec.endpoints.iter().filter_map(|one| one.pod(&slice.meta.name.namespace));
            pods.any(|pod| self.pods.contains(&pod))
        });
        let of_pods: Vec<_> = of_pods.map(|(service, _)| service.clone()).collect();
        self.services.extend(of_pods);
    }
}

/// To everything that refers to it.
fn looks_the_same(before: &Service, after: &Service) -> bool {
    let seen = |service: &'_ Service| {
        let (external, name) = (service.spec.is_external_name(), service.spec.external_name.clone());
        (external, name, service.annotations.get(PROXY_PROTOCOL).cloned())
    };
    before.spec.ports == after.spec.ports && seen(before) == seen(after)
}
