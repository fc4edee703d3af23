//! Puts changes in force: each resource that can be used, and for each that cannot, the last good one.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_policy::model::{Resource, ResourceType, Resources};
use tidegate_policy::snapshot::Rejected;

use super::store::Compiled;
use crate::state::ProxyState;

/// Holds what is in force, resource by resource. One per proxy: it is the only writer of the store.
#[derive(Debug)]
pub struct Applier {
    proxy: Arc<ProxyState>,
    held: BTreeMap<Key, Resource>,
}

type Key = (ResourceType, String);

/// One step from a configuration to the next.
#[derive(Debug, Default)]
pub struct Change {
    pub upserts: Vec<Resource>,
    pub removed: Vec<Key>,
}

impl Applier {
    pub fn new(proxy: Arc<ProxyState>) -> Self {
        Self { proxy, held: BTreeMap::new() }
    }

    /// Applies a change as a whole and returns the upserts that were refused. Everything else is in force on return.
    pub fn apply(&mut self, change: Change) -> Vec<Rejected> {
        let mut before: BTreeMap<Key, Option<Resource>> = BTreeMap::new();
        for key in change.removed {
            self.held.remove(&key);
        }
        for resource in change.upserts {
            let key = (resource.resource_type(), resource.name());
            let last = self.held.insert(key.clone(), resource);
            before.entry(key).or_insert(last);
        }
        let (mut compiled, rejected) = self.compile();
        let (refused, standing): (Vec<_>, Vec<_>) =
            rejected.into_iter().partition(|r| before.contains_key(&(r.resource_type, r.name.clone())));
        for Rejected { resource_type, name, reason } in &standing {
            tracing::warn!(?resource_type, name, reason, "a resource in force cannot be used any more");
        }
        if !refused.is_empty() {
            for Rejected { resource_type, name, reason } in &refused {
                tracing::warn!(?resource_type, name, reason, "resource refused; the last good one stays");
                self.restore(&before, (*resource_type, name.clone()));
            }
            (compiled, _) = self.compile();
        }
        self.proxy.store.swap(compiled);
        self.proxy.services.keep(&self.proxy.store.load());
        refused
    }

    /// Whether something else is in force in its place; see [`Policy::stand_in`](tidegate_policy::model::Policy::stand_in).
    pub(crate) fn stands_in(&self, resource_type: ResourceType, name: &str) -> bool {
        let held = self.held.get(&(resource_type, name.to_owned()));
        matches!(held, Some(Resource::Policy(policy)) if policy.stands_in())
    }

    /// A policy that was never usable is stood in for, where its kind must not be missing.
    fn restore(&mut self, before: &BTreeMap<Key, Option<Resource>>, key: Key) {
        let last = before.get(&key).and_then(Option::as_ref);
        let refused = match (self.held.get(&key), last) {
            (_, Some(Resource::Policy(last))) if !last.stands_in() => None,
            (Some(Resource::Policy(refused)), _) => refused.stand_in(),
            _ => None,
        };
        match refused.map(Resource::Policy).or_else(|| last.cloned()) {
            Some(instead) => drop(self.held.insert(key, instead)),
            None => drop(self.held.remove(&key)),
        }
    }

    fn compile(&self) -> (Compiled, Vec<Rejected>) {
        let mut resources = Resources::default();
        for resource in self.held.values() {
            resources.insert(resource.clone());
        }
        self.proxy.store.compile(&resources)
    }
}
