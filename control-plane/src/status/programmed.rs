//! How many proxies run an object: those that acknowledged the current version of everything derived from it.

use super::Programmed;
use crate::grpc::NodeState;
use crate::publish::{Published, ResourceId, Role};

/// More names help nobody.
pub const MAX_LAGGARDS: usize = 10;

/// What one object yields for each role.
pub(super) type Derived = [(Role, Vec<ResourceId>)];

/// Counts one more node; one that is told nothing about the object does not count.
pub(super) fn count(programmed: &mut Programmed, derived: &Derived, published: &Published, node: &NodeState) {
    let ids = derived.iter().filter(|(role, _)| *role == node.role).flat_map(|(_, ids)| ids);
    let set = &published.of(node.role).set;
    let mut told = false;
    let mut behind = false;
    for id in ids {
        let Some(current) = set.get(id.0, &id.1) else { continue };
        told = true;
        if !node.runs(id, &current.version) {
            behind = true;
            if programmed.reason.is_none() {
                let refusal = node.refusal(id, &current.version);
                programmed.reason = refusal.map(|reason| format!("{}: {reason}", node.id));
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
pub(super) fn progress(published: &Published, node: &NodeState) -> (usize, usize) {
    let set = &published.of(node.role).set;
    let all =
        crate::grpc::TYPES.iter().flat_map(|t| set.of_type(t).map(move |(name, v)| ((*t, name.clone()), v)));
    let acknowledged = all.filter(|(id, resource)| node.runs(id, &resource.version)).count();
    (acknowledged, set.len())
}
