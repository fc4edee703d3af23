//! How many proxies run an object: those that acknowledged the current version of everything derived from it.

use std::collections::BTreeMap;

use tidegate_policy::document::ObjectKey;
use tidegate_policy::model::ResourceType;
use tidegate_xds::ResourceSet;

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

/// Counts one more node; one that is told nothing about the object does not count.
pub(super) fn count(programmed: &mut Programmed, derived: &Derived, set: &ResourceSet, node: &NodeState) {
    let ids = derived.iter().filter(|(role, _)| *role == node.role).flat_map(|(_, ids)| ids);
    let mut told = false;
    let mut behind = false;
    for id in ids {
        let Some(current) = set.get(id.0, &id.1) else { continue };
        told = true;
        if !node.runs(id, &current.version) {
            behind = true;
            if programmed.reason.is_none() {
                let refusal = node.refusal(id, &current.version);
                programmed.unbound = refusal.is_some_and(|refusal| refusal.unbound);
                programmed.reason = refusal.map(|refusal| format!("{}: {}", node.id, refusal.reason));
            }
        }
    }
    programmed.of += usize::from(told);
    programmed.ready += usize::from(told && !behind);
    if behind && programmed.laggards.len() < MAX_LAGGARDS {
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
