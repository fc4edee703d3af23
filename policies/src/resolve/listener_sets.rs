//! ListenerSets -> the Gateways that they add listeners to, and whether those let them.

use super::namespaces::{Choice, allows};
use super::objects::Objects;
use super::owner::{Owner, parent};
use super::parents::Refusal;
use super::{Condition, Resolved};
use crate::objects::{Gateway, ListenerSet};

const KIND: &str = "ListenerSet";

/// The ListenerSets at Gateways of ours, older ones first. What is wrong with the others is told.
pub(super) fn owners<'a>(objects: &Objects<'a>, resolved: &mut Resolved) -> Vec<Owner<'a>> {
    let mut sets: Vec<&ListenerSet> = objects.sets.values().copied().collect();
    sets.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
    let mut owners = Vec::new();
    for set in sets {
        match Owner::of_set(objects, set) {
            Some(owner) => owners.push(owner),
            None => resolved.tell(KIND, &set.meta.name, homeless(objects, set)),
        }
    }
    owners
}

/// The Gateway of another controller that a ListenerSet belongs to.
pub(super) fn stranger<'a>(objects: &Objects<'a>, set: &ListenerSet) -> Option<&'a Gateway> {
    objects.strangers.get(&parent(set)?).copied()
}

fn homeless(objects: &Objects<'_>, set: &ListenerSet) -> Condition {
    if let Some(gateway) = stranger(objects, set) {
        let why = objects.controller.stranger(gateway, objects.class(gateway));
        return Condition::ignored("OtherGatewayClass", format!("Gateway {}: {why}", gateway.meta.name));
    }
    let source = &set.meta.source;
    match parent(set) {
        Some(gateway) => {
            let message = format!("{source}: parentRef: there is no Gateway {gateway}");
            Condition::fails("Accepted", "ParentNotAccepted", message)
        }
        None => {
            let kind = &set.spec.parent_ref.kind;
            let message = format!("{source}: parentRef: a {kind} has no listeners; use a Gateway");
            Condition::fails("Accepted", "Invalid", message)
        }
    }
}

/// Why none of a ListenerSet's listeners may be served: the reason, and a message.
pub(super) fn refusal(objects: &Objects<'_>, owner: Owner<'_>, parent_accepted: bool) -> Option<Refusal> {
    let (gateway, meta) = (&owner.gateway.meta.name, owner.meta());
    let allowed = &owner.gateway.spec.allowed_listeners.namespaces;
    let choice = Choice { from: allowed.from, selector: allowed.selector.as_ref(), own: &gateway.namespace };
    if !allows(objects, choice, &meta.name.namespace) {
        let from = &meta.name.namespace;
        let message = format!(
            "{}: Gateway {gateway} does not allow ListenerSets from namespace `{from}`: its `allowedListeners` would \
             have to",
            meta.source
        );
        return Some(("NotAllowed", message));
    }
    (!parent_accepted)
        .then(|| ("ParentNotAccepted", format!("{}: Gateway {gateway} is not accepted", meta.source)))
}
