//! What is said of BackendTLSPolicies: of each as a whole, and to each Gateway that calls its targets (GEP-713).

use std::collections::{BTreeMap, BTreeSet};

use super::{BACKEND_TLS_POLICY, Fault, Judged, Target, target};
use crate::model::{
    BackendKind, BackendName, BackendRef, ResourceName, Resources, RouteFilter, RouteParent, RouteRule,
    TargetKind, TargetRef,
};
use crate::objects::{BackendTlsPolicy, LocalTargetRef};
use crate::resolve::objects::Objects;
use crate::resolve::{AncestorStatus, Condition, Resolved, key};

/// How a policy fares on one of its targets.
enum Standing {
    Holds,
    /// Another policy has it.
    Lost(String),
    Missing(String),
}

pub(in crate::resolve) fn tell(objects: &Objects<'_>, resolved: &mut Resolved) {
    let callers = callers(&resolved.resources);
    for policy in objects.tls_policies.values() {
        let name = &policy.meta.name;
        let Some(judged) = objects.tls.judged.get(name) else { continue };
        let standings: Vec<_> = policy.spec.target_refs.iter().enumerate().collect();
        let standings: Vec<_> = standings
            .into_iter()
            .map(|(at, written)| (written, standing(objects, policy, at, written)))
            .collect();
        let all: Vec<_> = standings.iter().map(|(_, standing)| standing).collect();
        for condition in conditions(judged, &all) {
            resolved.tell(BACKEND_TLS_POLICY, name, condition);
        }
        let lost: Vec<_> = all.iter().filter_map(|standing| standing.lost()).collect();
        if !lost.is_empty() {
            resolved.tell(
                BACKEND_TLS_POLICY,
                name,
                Condition::holds("Conflicted", "TargetConflict", lost.join("; ")),
            );
        }
        let ancestors = ancestors(policy, judged, &standings, &callers);
        resolved.ancestors.insert(key(BACKEND_TLS_POLICY, name), ancestors);
    }
}

/// Backends with the name of their port, and the Gateways whose routes lead there.
type Callers = BTreeMap<BackendName, (String, BTreeSet<ResourceName>)>;

fn callers(resources: &Resources) -> Callers {
    let mut callers = Callers::new();
    let requests = resources.routes.values().map(|route| {
        let called: Vec<_> = route.rules.iter().flat_map(called).collect();
        (&route.parents, called)
    });
    let streams = resources.streams.values().map(|route| {
        let called = route.rule.backends.iter().filter_map(|backend| backend.target.as_ref().ok());
        (&route.parents, called.collect())
    });
    for (parents, called) in requests.chain(streams) {
        let gateways = parents.iter().filter_map(|parent| match parent {
            RouteParent::Listener { listener, .. } => Some(&listener.gateway),
            RouteParent::Service { .. } => None,
        });
        let gateways: BTreeSet<_> = gateways.cloned().collect();
        for name in called {
            let port = resources.backends.get(name).and_then(|backend| backend.port_name.as_deref());
            let entry = callers.entry(name.clone());
            entry
                .or_insert_with(|| (port.unwrap_or_default().to_owned(), BTreeSet::new()))
                .1
                .extend(gateways.clone());
        }
    }
    callers
}

/// Every backend of a rule, mirrors included.
fn called(rule: &RouteRule) -> impl Iterator<Item = &BackendName> {
    let targets = rule.backends.iter().filter_map(|backend: &BackendRef| backend.target.as_ref().ok());
    let filters = rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
    targets.chain(filters.filter_map(|filter| match filter {
        RouteFilter::Mirror(mirror) => Some(&mirror.backend),
        _ => None,
    }))
}

fn standing(
    objects: &Objects<'_>,
    policy: &BackendTlsPolicy,
    at: usize,
    written: &LocalTargetRef,
) -> Standing {
    let source = policy.meta.at(policy.lines.line(&format!("/targetRefs/{at}")));
    let missing = |why: String| Standing::Missing(format!("{source}: {why}"));
    let Some(target) = target(policy, written) else {
        return missing(format!("a {} is not called; use a Service", written.kind));
    };
    let (kind, object, section) = &target;
    let exists = match kind {
        BackendKind::Service => match objects.services.get(object) {
            Some(service) => {
                section.is_empty() || service.spec.ports.iter().any(|port| port.name == *section)
            }
            None => return missing(format!("there is no Service {object}")),
        },
        BackendKind::Backend if !objects.backends.contains_key(object) => {
            return missing(format!("there is no Backend {object}"));
        }
        BackendKind::Backend => section.is_empty(),
    };
    if !exists {
        return missing(format!("{} {object} has no port named `{section}`", written.kind));
    }
    match objects.tls.holders.get(&target) {
        Some(holder) if holder.meta.name != policy.meta.name => Standing::Lost(format!(
            "{source}: {} {object} has another {BACKEND_TLS_POLICY}, {} ({}), which holds",
            written.kind, holder.meta.name, holder.meta.source
        )),
        _ => Standing::Holds,
    }
}

impl Standing {
    fn lost(&self) -> Option<&str> {
        if let Self::Lost(why) = self { Some(why) } else { None }
    }

    fn missing(&self) -> Option<&str> {
        if let Self::Missing(why) = self { Some(why) } else { None }
    }
}

/// `Accepted` and `ResolvedRefs`, with regard to some of its targets.
fn conditions(judged: &Judged, standings: &[&Standing]) -> [Condition; 2] {
    let missing: Vec<_> = standings.iter().filter_map(|standing| standing.missing()).collect();
    let lost: Vec<_> = standings.iter().filter_map(|standing| standing.lost()).collect();
    let accepted = if !missing.is_empty() {
        Condition::fails("Accepted", "TargetNotFound", missing.join("; "))
    } else if lost.len() == standings.len() {
        Condition::fails("Accepted", "Conflicted", lost.join("; "))
    } else if let Some((reason, message)) = &judged.refused {
        Condition::fails("Accepted", reason, message.clone())
    } else {
        Condition::accepted()
    };
    let refs = match judged.refs.first() {
        None => Condition::holds("ResolvedRefs", "ResolvedRefs", ""),
        Some((reason, _)) => {
            let messages: Vec<_> = judged.refs.iter().map(|(_, why): &Fault| why.as_str()).collect();
            Condition::fails("ResolvedRefs", reason, messages.join("; "))
        }
    };
    [accepted, refs]
}

/// One entry for each Gateway that calls a target; where there is none, for each target.
fn ancestors(
    policy: &BackendTlsPolicy,
    judged: &Judged,
    standings: &[(&LocalTargetRef, Standing)],
    callers: &Callers,
) -> Vec<AncestorStatus> {
    let mut by_gateway = BTreeMap::<&ResourceName, Vec<&Standing>>::new();
    for (written, standing) in standings {
        let Some(target) = target(policy, written) else { continue };
        let gateways: BTreeSet<_> = callers_of(&target, callers).collect();
        for gateway in gateways {
            by_gateway.entry(gateway).or_default().push(standing);
        }
    }
    let entry = |target: TargetRef, standings: &[&Standing]| AncestorStatus {
        target,
        conditions: conditions(judged, standings).into(),
    };
    if by_gateway.is_empty() {
        let targets = standings
            .iter()
            .filter_map(|(written, standing)| Some(entry(target_ref(target(policy, written)?), &[standing])));
        return targets.collect();
    }
    let gateway =
        |name: &ResourceName| TargetRef { kind: TargetKind::Gateway, object: name.clone(), section: None };
    by_gateway.into_iter().map(|(name, standings)| entry(gateway(name), &standings)).collect()
}

fn callers_of<'a>(
    (kind, object, section): &Target,
    callers: &'a Callers,
) -> impl Iterator<Item = &'a ResourceName> {
    let port = |port| BackendName { kind: *kind, object: object.clone(), port };
    let meant = callers.range(port(0)..=port(u16::MAX)).map(|(_, caller)| caller);
    let meant = meant.filter(|(name, _)| section.is_empty() || section == name);
    meant.flat_map(|(_, gateways)| gateways).collect::<Vec<_>>().into_iter()
}

fn target_ref((kind, object, section): Target) -> TargetRef {
    let kind = match kind {
        BackendKind::Service => TargetKind::Service,
        BackendKind::Backend => TargetKind::Backend,
    };
    TargetRef { kind, object, section: (!section.is_empty()).then(|| section.into()) }
}
