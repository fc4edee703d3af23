//! Policies: what they are attached to, and who wins.

use std::collections::BTreeMap;

use super::extensions;
use super::grants::Referrer;
use super::objects::Objects;
use super::references;
use super::rules::{Asked, Carries, lookup, reason};
use super::{AncestorStatus, Condition, Resolved};
use crate::attach::{Conflict, Known, Standing, standings};
use crate::kind::Compiled;
use crate::kinds::find;
use crate::model::{
    BackendKind, InvalidRef, Policy, PolicyKey, Resource, ResourceName, TargetKind, TargetRef,
};
use crate::objects::{HttpBackendRef, StreamRouteKind, TIDEGATE_GROUP};
use crate::pipeline::ServiceRef;

/// How all policies fare, and the rules that name some of them.
#[derive(Debug, Default)]
pub(super) struct Fared {
    pub(super) standings: BTreeMap<(String, ResourceName), Standing>,
    pub(super) named: BTreeMap<PolicyKey, Vec<TargetRef>>,
}

pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) -> Fared {
    let mut lost = BTreeMap::new();
    for written in objects.policies.values() {
        let refs = alone(objects, written, resolved);
        lost.extend(refs.map(|refs| (written.key(), refs)));
    }
    let (known, named) = (known(objects), extensions::named(objects));
    let standings = standings(&resolved.resources, &known);
    for (key, standing) in &standings {
        let Some(policy) = objects.policies.get(&(key.0.as_str(), &key.1)) else { continue };
        let rules = named.get(&policy.key()).map_or(&[][..], Vec::as_slice);
        beside_others(policy, (standing, &known, rules), lost.get(&policy.key()), resolved);
    }
    Fared { standings, named }
}

/// A policy by itself: what it names is looked up, and what there is to say about that.
pub(super) fn alone(objects: &Objects<'_>, written: &Policy, resolved: &mut Resolved) -> Option<Condition> {
    let (policy, refs) = references::look_up(objects, written);
    let policy = &*policy;
    let compiled = crate::kinds::find(&policy.kind).map(|kind| kind.compile(policy));
    match compiled {
        Some(Ok(compiled)) => match services(objects, policy, &compiled, resolved) {
            Ok(()) => resolved.resources.insert(Resource::Policy(policy.clone())),
            Err(message) => refuse(resolved, policy, message),
        },
        Some(Err(errors)) => {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let message = format!("{}: {}", policy.meta.source, errors.join("; "));
            refuse(resolved, policy, message);
        }
        None => {
            let message = format!("{}: `{}` is not a policy kind", policy.meta.source, policy.kind);
            refuse(resolved, policy, message);
        }
    }
    refs
}

/// What is said of a policy that is valid by itself. `refs`: what is wrong with what it names.
pub(super) fn beside_others(
    policy: &Policy,
    (standing, known, rules): (&Standing, &Known, &[TargetRef]),
    refs: Option<&Condition>,
    resolved: &mut Resolved,
) {
    for condition in conditions(policy, standing, known, rules).into_iter().chain(refs.cloned()) {
        tell(resolved, policy, condition);
    }
    let ancestor = |target: &TargetRef| {
        let told = of_target(policy, standing, known, target);
        AncestorStatus { target: target.clone(), conditions: told.into_iter().chain(refs.cloned()).collect() }
    };
    let by_name = rules.iter().filter(|rule| !policy.targets.contains(rule)).map(|rule| {
        let conditions = [Condition::accepted()].into_iter().chain(refs.cloned()).collect();
        AncestorStatus { target: rule.clone(), conditions }
    });
    let ancestors = policy.targets.iter().map(ancestor).chain(by_name).collect();
    resolved.ancestors.insert(super::key(&policy.kind, &policy.meta.name), ancestors);
}

/// Looks up the services that a policy has asked. One that cannot be found leaves the policy what it does without
/// an answer.
///
/// # Errors
/// It belongs to others, who have not granted it.
fn services(
    objects: &Objects<'_>,
    policy: &Policy,
    compiled: &Compiled,
    resolved: &mut Resolved,
) -> Result<(), String> {
    let Compiled::Filter(filter) = compiled else { return Ok(()) };
    filter.services().into_iter().try_for_each(|(asked, at)| service(objects, policy, (asked, &at), resolved))
}

/// Whether there is any.
pub(super) fn asks_services(policy: &Policy) -> bool {
    match find(&policy.kind).map(|kind| kind.compile(policy)) {
        Some(Ok(Compiled::Filter(filter))) => !filter.services().is_empty(),
        _ => false,
    }
}

fn service(
    objects: &Objects<'_>,
    policy: &Policy,
    (service, at): (&ServiceRef, &str),
    resolved: &mut Resolved,
) -> Result<(), String> {
    let place = policy.meta.at(policy.lines.line(at));
    let (group, kind) = match service.kind {
        BackendKind::Service => ("", "Service"),
        BackendKind::Backend => (TIDEGATE_GROUP, "Backend"),
    };
    let written = HttpBackendRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: Some(service.object.namespace.to_string()),
        name: service.object.name.to_string(),
        port: service.port,
        weight: 1,
        filters: Vec::new(),
    };
    let namespace = &policy.meta.name.namespace;
    let referrer = Referrer { group: TIDEGATE_GROUP, kind: &policy.kind, namespace };
    let asked = Asked { referrer, mesh: false, carries: Carries::Requests };
    let wrong = match lookup(objects, asked, &written) {
        Ok(name) => {
            let backend = resolved.resources.backends.get(&name);
            let plain = backend.is_none_or(|b| b.tls.is_none() && b.proxy_protocol.is_none());
            let message = "such a service is asked without TLS and without a PROXY protocol header";
            (!plain).then(|| ("UnsupportedProtocol", format!("{place}: {message}")))
        }
        Err((InvalidRef::RefNotPermitted, message)) => return Err(format!("{place}: {message}")),
        Err((why, message)) => Some((reason(why), format!("{place}: {message}"))),
    };
    if let Some((reason, message)) = wrong {
        tell(resolved, policy, Condition::fails("ResolvedRefs", reason, message));
    }
    Ok(())
}

fn refuse(resolved: &mut Resolved, policy: &Policy, message: String) {
    let condition = Condition::fails("Accepted", "Invalid", message);
    tell(resolved, policy, condition.clone());
    let ancestor =
        |target: &TargetRef| AncestorStatus { target: target.clone(), conditions: vec![condition.clone()] };
    let ancestors = policy.targets.iter().map(ancestor).collect();
    resolved.ancestors.insert(super::key(&policy.kind, &policy.meta.name), ancestors);
}

/// What is said of one target.
fn of_target(policy: &Policy, standing: &Standing, known: &Known, target: &TargetRef) -> Vec<Condition> {
    let conflict = standing.conflicts.iter().find(|conflict| conflict.target == *target);
    let mut told = vec![if standing.missing.contains(target) {
        Condition::fails("Accepted", "TargetNotFound", missing_message(policy, target, known))
    } else if let Some(conflict) = conflict.filter(|conflict| !conflict.wins) {
        Condition::fails("Accepted", "Conflicted", conflict_message(policy, conflict))
    } else {
        Condition::accepted()
    }];
    told.extend(overridden(policy, standing));
    told
}

fn overridden(policy: &Policy, standing: &Standing) -> Option<Condition> {
    if standing.overridden_by.is_empty() {
        return None;
    }
    let by = names(&standing.overridden_by);
    let message = format!("{}: more specific policies hold everywhere: {by}", policy.meta.source);
    Some(Condition::holds("Overridden", "Overridden", message))
}

fn tell(resolved: &mut Resolved, policy: &Policy, condition: Condition) {
    resolved.tell(&policy.kind, &policy.meta.name, condition);
}

fn known(objects: &Objects<'_>) -> Known {
    let mut known = Known::default();
    for gateway in objects.gateways.values().chain(objects.strangers.values()) {
        known.insert(TargetKind::Gateway, &gateway.meta.name);
        for listener in &gateway.spec.listeners {
            known.insert_section(TargetKind::Gateway, &gateway.meta.name, &listener.name);
        }
    }
    for set in objects.sets.values() {
        known.insert(TargetKind::ListenerSet, &set.meta.name);
        for listener in &set.spec.listeners {
            known.insert_section(TargetKind::ListenerSet, &set.meta.name, &listener.name);
        }
    }
    for route in objects.routes.values() {
        known.insert(TargetKind::HTTPRoute, &route.meta.name);
        for name in route.spec.rules.iter().filter_map(|rule| rule.name.as_ref()) {
            known.insert_section(TargetKind::HTTPRoute, &route.meta.name, name);
        }
    }
    for route in objects.grpc_routes.values() {
        known.insert(TargetKind::GRPCRoute, &route.meta.name);
        for name in route.spec.rules.iter().filter_map(|rule| rule.name.as_ref()) {
            known.insert_section(TargetKind::GRPCRoute, &route.meta.name, name);
        }
    }
    for ((kind, name), route) in &objects.streams {
        let kind = match kind {
            StreamRouteKind::Tcp => TargetKind::TCPRoute,
            StreamRouteKind::Tls => TargetKind::TLSRoute,
            StreamRouteKind::Udp => continue,
        };
        known.insert(kind, name);
        for name in route.spec.rules.iter().filter_map(|rule| rule.name.as_ref()) {
            known.insert_section(kind, &route.meta.name, name);
        }
    }
    for service in objects.services.values() {
        known.insert(TargetKind::Service, &service.meta.name);
        for port in service.spec.ports.iter().filter(|port| !port.name.is_empty()) {
            known.insert_section(TargetKind::Service, &service.meta.name, &port.name);
        }
    }
    for backend in objects.backends.keys() {
        known.insert(TargetKind::Backend, backend);
    }
    for name in objects.namespaces.keys() {
        known.insert_namespace(name);
    }
    for (_, policy) in objects.policies.keys() {
        known.insert_namespace(&policy.namespace);
    }
    known
}

/// `named`: the rules that name the policy themselves.
fn conditions(policy: &Policy, standing: &Standing, known: &Known, named: &[TargetRef]) -> Vec<Condition> {
    let Standing { missing, conflicts, .. } = standing;
    let mut told = Vec::new();
    let lost = named.is_empty() && !conflicts.is_empty() && conflicts.iter().all(|conflict| !conflict.wins);
    let alone = find(&policy.kind).is_some_and(|entry| (entry.stands_alone)(&policy.spec));
    let nowhere = named.is_empty() && policy.targets.is_empty() && !alone;
    told.push(if !missing.is_empty() {
        let all: Vec<_> = missing.iter().map(|target| missing_message(policy, target, known)).collect();
        Condition::fails("Accepted", "TargetNotFound", all.join("; "))
    } else if nowhere {
        let message = "has no targetRefs, and no route names it in an ExtensionRef: it has no effect";
        Condition::fails("Accepted", "TargetNotFound", format!("{}: {message}", policy.meta.source))
    } else if lost && conflicts.len() == policy.targets.len() {
        Condition::fails("Accepted", "Conflicted", format!("{}: has no effect", policy.meta.source))
    } else {
        Condition::accepted()
    });
    if !conflicts.is_empty() {
        let all: Vec<_> = conflicts.iter().map(|conflict| conflict_message(policy, conflict)).collect();
        told.push(Condition::holds("Conflicted", "TargetConflict", all.join("; ")));
    }
    told.extend(overridden(policy, standing));
    told
}

fn missing_message(policy: &Policy, target: &TargetRef, known: &Known) -> String {
    let place = place(policy, target);
    let whole = TargetRef { section: None, ..target.clone() };
    if target.section.is_some() && known.contains(&whole) {
        let sections: Vec<_> = known.sections(target).collect();
        let has = if sections.is_empty() { String::from("none") } else { sections.join(", ") };
        return format!("{place}: there is no {target}; {whole} has {has}");
    }
    format!("{place}: there is no {target}")
}

fn conflict_message(policy: &Policy, conflict: &Conflict) -> String {
    let (place, others) = (place(policy, &conflict.target), names(&conflict.others));
    let holds = if conflict.wins { "this one holds" } else { "it does not hold here" };
    format!("{place}: {} has another {}: {others}; {holds}", conflict.target, policy.kind)
}

/// The line of the targetRef, where it is known.
fn place(policy: &Policy, target: &TargetRef) -> crate::model::SourceRef {
    let at = policy.targets.iter().position(|own| own == target).unwrap_or_default();
    policy.meta.at(policy.lines.line(&format!("/targetRefs/{at}")))
}

fn names<'a>(names: impl IntoIterator<Item = &'a ResourceName>) -> String {
    names.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
