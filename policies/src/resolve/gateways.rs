//! Gateways and their ListenerSets -> listeners, and what is said of each of them.

use std::collections::BTreeMap;

use super::objects::Objects;
use super::owner::Owner;
use super::parents::Refusal;
use super::{Condition, Resolved, gateway_tls, key, listener_sets};
use crate::model::{Certificate, Listener, Resource, ResourceName};
use crate::objects::{AddressKind, Gateway};

mod draft;
mod taken;

use draft::Draft;
pub(super) use draft::takes;
use taken::Taken;

/// What ListenerSets need to know of their Gateway.
#[derive(Debug, Default)]
struct Parent {
    accepted: bool,
    /// Shown to backends.
    certificate: Option<Certificate>,
}

/// Gateways come first, then ListenerSets, each by age and name: whoever comes later yields, so that nobody who may only
/// add listeners takes one away from a Gateway.
pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    // By who shares sockets with whom.
    let mut taken = BTreeMap::<Option<&ResourceName>, Taken>::new();
    let apart = objects.controller.apart;
    let mut parents = BTreeMap::<&ResourceName, Parent>::new();
    let mut gateways: Vec<&Gateway> = objects.gateways.values().copied().collect();
    gateways.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
    for gateway in gateways {
        let shown = gateway_tls::client_certificate(objects, gateway);
        for condition in gateway_tls::conditions(gateway, shown.as_ref()) {
            resolved.tell("Gateway", &gateway.meta.name, condition);
        }
        let (owner, certificate) = (Owner::of_gateway(gateway), shown.and_then(Result::ok));
        let refusal = refusal(gateway);
        let taken = taken.entry(apart.then_some(&gateway.meta.name)).or_default();
        let drafts = drafts(objects, owner, taken, refusal.as_ref());
        let accepted = tell(resolved, (owner, drafts), refusal.as_ref(), certificate.as_ref());
        resolved.listener_sets.insert(gateway.meta.name.clone(), 0);
        parents.insert(&gateway.meta.name, Parent { accepted, certificate });
    }
    for owner in listener_sets::owners(objects, resolved) {
        let name = &owner.gateway.meta.name;
        let Some(parent) = parents.get(name) else { continue };
        let refusal = listener_sets::refusal(objects, owner, parent.accepted);
        let taken = taken.entry(apart.then_some(name)).or_default();
        let drafts = drafts(objects, owner, taken, refusal.as_ref());
        if tell(resolved, (owner, drafts), refusal.as_ref(), parent.certificate.as_ref()) {
            *resolved.listener_sets.entry(name.clone()).or_default() += 1;
        }
    }
}

fn drafts<'a>(
    objects: &Objects<'_>,
    owner: Owner<'a>,
    taken: &mut Taken,
    refusal: Option<&Refusal>,
) -> Vec<Draft<'a>> {
    let mut drafts = Draft::all(objects, owner);
    if let (Some(refusal), Some(_)) = (refusal, owner.set) {
        drafts.iter_mut().for_each(|draft| draft.refuse(refusal));
        return drafts;
    }
    for draft in &mut drafts {
        draft.yield_to(taken);
    }
    draft::tell_apart(&mut drafts);
    if refusal.is_some() {
        return drafts;
    }
    for draft in &drafts {
        let disputed = draft.conflict.is_some();
        if !disputed || owner.set.is_none() {
            taken.insert(draft.spec.port, draft.claim.clone(), disputed);
        }
    }
    drafts
}

/// Tells what became of an owner's listeners, and serves those that can be; whether the owner is accepted.
fn tell(
    resolved: &mut Resolved,
    (owner, drafts): (Owner<'_>, Vec<Draft<'_>>),
    refusal: Option<&Refusal>,
    shown: Option<&Certificate>,
) -> bool {
    let told = conditions(&drafts, refusal);
    let accepted = told.iter().any(|condition| condition.kind == "Accepted" && condition.holds);
    let name = &owner.meta().name;
    for condition in told {
        resolved.tell(owner.kind(), name, condition);
    }
    resolved.listeners.insert(key(owner.kind(), name), drafts.iter().map(Draft::status).collect());
    for draft in drafts.into_iter().filter(|draft| refusal.is_none() && draft.is_usable()) {
        let listener = Listener { client_certificate: shown.cloned(), ..draft.listener() };
        resolved.resources.insert(Resource::Listener(listener));
    }
    accepted
}

/// Why none of a Gateway's listeners may be served, whatever they ask for: reason and message.
fn refusal(gateway: &Gateway) -> Option<Refusal> {
    let source = &gateway.meta.source;
    if gateway.spec.infrastructure.parameters_ref.is_some() {
        let message = format!("{source}: infrastructure.parametersRef: there are no parameters to set");
        return Some(("InvalidParameters", message));
    }
    let address = gateway.spec.addresses.iter().find(|address| address.kind != AddressKind::IPAddress)?;
    let kind = address.kind.as_str();
    let message = format!("{source}: addresses: type {kind} is not supported: use IPAddress");
    Some(("UnsupportedAddress", message))
}

/// What is said of the owner as a whole, with what is wrong with its listeners.
fn conditions(drafts: &[Draft<'_>], refusal: Option<&Refusal>) -> Vec<Condition> {
    let mut told = Vec::new();
    for draft in drafts {
        if let Some((reason, message)) = &draft.conflict {
            told.push(Condition::holds("Conflicted", reason, message.clone()));
        }
        if let Some(message) = draft.unknown_kinds() {
            told.push(Condition::fails("ResolvedRefs", "ListenersNotResolved", message));
        }
        let unresolved = draft.unresolved.iter();
        told.extend(
            unresolved.map(|(_, why)| Condition::fails("ResolvedRefs", "ListenersNotResolved", why.clone())),
        );
    }
    let unusable: Vec<_> =
        drafts.iter().filter_map(|draft| Some(draft.unusable.as_ref()?.1.as_str())).collect();
    let works = drafts.iter().any(Draft::is_usable);
    let all = drafts.iter().all(Draft::is_usable);
    if let Some((reason, message)) = refusal {
        told.push(Condition::fails("Accepted", reason, message.clone()));
        return told;
    }
    told.push(match (works, all) {
        (true, true) => Condition::accepted(),
        (true, false) => {
            let message =
                if unusable.is_empty() { "some listeners cannot be used" } else { &unusable.join("; ") };
            Condition::holds("Accepted", "ListenersNotValid", message)
        }
        (false, _) => {
            let message = if unusable.is_empty() { "no listener can be used" } else { &unusable.join("; ") };
            Condition::fails("Accepted", "ListenersNotValid", message)
        }
    });
    told
}
