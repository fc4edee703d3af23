//! How many proxies run an object: those that acknowledged the current version of everything derived from it.

use std::collections::{BTreeMap, HashMap};

use tidegate_policy::document::ObjectKey;
use tidegate_policy::model::ResourceType;
use tidegate_xds::{ResourceSet, Version};

use super::Programmed;
use crate::grpc::NodeState;
use crate::publish::{ResourceId, Role};

/// More names help nobody.
pub const MAX_LAGGARDS: usize = 10;

/// What one object yields for each role.
pub(super) type Derived = [(Role, Vec<ResourceId>)];

/// What each listener of `key` yields by itself, by its name: a sibling's fate is not its own.
pub(super) fn of_listeners(
    key: &ObjectKey,
    derived: &Derived,
) -> BTreeMap<String, Vec<(Role, Vec<ResourceId>)>> {
    let mut listeners = BTreeMap::<String, Vec<(Role, Vec<ResourceId>)>>::new();
    if !matches!(key.kind.as_str(), "Gateway" | "ListenerSet") {
        return listeners;
    }
    for (role, ids) in derived {
        for id in ids.iter().filter(|id| id.0 == ResourceType::Listener.type_url()) {
            // The section is the last part, and holds no slash (see `ListenerName`).
            let section = id.1.rsplit('/').next().unwrap_or_default();
            listeners.entry(section.to_owned()).or_default().push((*role, vec![id.clone()]));
        }
    }
    listeners
}

/// Which objects a resource is of. Each node is then counted by what it is told, and not by what there is.
#[derive(Debug, Default)]
pub(super) struct Places<'a>(HashMap<(Role, &'static str, &'a str), Vec<Place<'a>>>);

/// Resources, with the versions that a node should run and does not.
pub(super) type Behind<'s> = Vec<(ResourceId, &'s Version)>;

/// An object by its number, or one of its listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place<'a> {
    object: usize,
    listener: Option<&'a str>,
}

impl<'a> Places<'a> {
    pub(super) fn add(&mut self, object: usize, listener: Option<&'a str>, derived: &'a Derived) {
        for (role, ids) in derived {
            for (type_url, name) in ids {
                let places = self.0.entry((*role, *type_url, &**name)).or_default();
                places.push(Place { object, listener });
            }
        }
    }

    /// Where a node is told anything, with what of it the node does not run.
    pub(super) fn told<'s>(&self, set: &'s ResourceSet, node: &NodeState) -> BTreeMap<Place<'a>, Behind<'s>> {
        let mut told = BTreeMap::<Place<'a>, Behind<'s>>::new();
        for type_url in crate::grpc::TYPES {
            for (name, resource) in set.of_type(type_url) {
                let Some(places) = self.0.get(&(node.role, *type_url, &**name)) else { continue };
                let id = (*type_url, name.clone());
                let behind = !node.runs(&id, &resource.version);
                for place in places {
                    let behinds = told.entry(*place).or_default();
                    behinds.extend(behind.then(|| (id.clone(), &resource.version)));
                }
            }
        }
        told
    }
}

impl Place<'_> {
    pub(super) const fn object(&self) -> usize {
        self.object
    }

    pub(super) const fn listener(&self) -> Option<&str> {
        self.listener
    }
}

/// One more node, which does not run `behind` of what it is told.
pub(super) fn count(programmed: &mut Programmed, behind: &Behind<'_>, node: &NodeState) {
    programmed.of += 1;
    if behind.is_empty() {
        programmed.ready += 1;
        return;
    }
    if programmed.reason.is_none() {
        let refusal = behind.iter().find_map(|(id, version)| node.refusal(id, version));
        programmed.unbound = refusal.is_some_and(|refusal| refusal.unbound);
        programmed.reason = refusal.map(|refusal| format!("{}: {}", node.id, refusal.reason));
    }
    if programmed.laggards.len() < MAX_LAGGARDS {
        programmed.laggards.push(node.id.clone());
    }
}

/// `(acknowledged, of)`: resources that a node runs in the current version, of those it is to have.
pub(super) fn progress(set: &ResourceSet, node: &NodeState) -> (usize, usize) {
    let all =
        crate::grpc::TYPES.iter().flat_map(|t| set.of_type(t).map(move |(name, v)| ((*t, name.clone()), v)));
    let acknowledged = all.filter(|(id, resource)| node.runs(id, &resource.version)).count();
    (acknowledged, set.len())
}
