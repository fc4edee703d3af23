use std::collections::{BTreeMap, BTreeSet};

use super::{Attachments, Chain};
use crate::model::{BackendKind, Policy, ResourceName, Resources, TargetKind, TargetRef};

/// What exists, for telling a dangling target from one without traffic.
#[derive(Clone, Debug, Default)]
pub struct Known {
    objects: BTreeSet<TargetRef>,
}

/// How one policy fares. Facts only: the control plane words them as conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Targets that do not exist; the others hold.
    pub missing: Vec<TargetRef>,
    /// Targets that another policy of the kind has too, all of those, and whether this one is the winner.
    pub conflicts: Vec<Conflict>,
    /// Set when the policy has effect nowhere because these, more specific, hold wherever it would.
    pub overridden_by: BTreeSet<ResourceName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub target: TargetRef,
    pub others: Vec<ResourceName>,
    pub wins: bool,
}

impl Known {
    /// What the resources themselves show: gateways by their listeners, services by their ports, routes with their
    /// named rules, and the namespaces of all these.
    pub fn of(resources: &Resources) -> Self {
        let mut known = Self::default();
        for listener in resources.listeners.keys() {
            known.insert(TargetKind::Gateway, &listener.gateway);
            let kind = if listener.set.is_some() { TargetKind::ListenerSet } else { TargetKind::Gateway };
            known.insert(kind, listener.owner());
            known.insert_section(kind, listener.owner(), &listener.section);
        }
        for route in resources.routes.values() {
            known.insert(route.kind.target(), &route.meta.name);
            for name in route.rules.iter().filter_map(|rule| rule.name.as_ref()) {
                known.insert_section(route.kind.target(), &route.meta.name, name);
            }
        }
        for route in resources.streams.values() {
            known.insert(route.kind.target(), &route.meta.name);
            if let Some(name) = &route.rule.name {
                known.insert_section(route.kind.target(), &route.meta.name, name);
            }
        }
        for backend in resources.backends.values() {
            let kind = match backend.name.kind {
                BackendKind::Service => TargetKind::Service,
                BackendKind::Backend => TargetKind::Backend,
            };
            known.insert(kind, &backend.name.object);
            if let Some(port) = &backend.port_name {
                known.insert_section(kind, &backend.name.object, port);
            }
        }
        for policy in resources.policies.values() {
            known.insert_namespace(&policy.meta.name.namespace);
        }
        known
    }

    /// Adds an object, and with it its namespace.
    pub fn insert(&mut self, kind: TargetKind, object: &ResourceName) {
        self.insert_namespace(&object.namespace);
        self.objects.insert(TargetRef { kind, object: object.clone(), section: None });
    }

    pub fn insert_section(&mut self, kind: TargetKind, object: &ResourceName, section: &str) {
        let section = Some(section.into());
        self.objects.insert(TargetRef { kind, object: object.clone(), section });
    }

    pub fn insert_namespace(&mut self, name: &str) {
        let object = ResourceName::new(name, name);
        self.objects.insert(TargetRef { kind: TargetKind::Namespace, object, section: None });
    }

    pub fn contains(&self, target: &TargetRef) -> bool {
        self.objects.contains(target)
    }

    /// The sections that `target`'s object has, for a hint in a message.
    pub fn sections<'a>(&'a self, target: &'a TargetRef) -> impl Iterator<Item = &'a str> {
        let same = self.objects.iter().filter(|o| o.kind == target.kind && o.object == target.object);
        same.filter_map(|o| o.section.as_deref())
    }
}

/// How every policy of `resources` fares, by kind and name. Policies that do not compile must have been left out.
pub fn standings(resources: &Resources, known: &Known) -> BTreeMap<(String, ResourceName), Standing> {
    let attachments = Attachments::new(resources.policies.values());
    let ways: Vec<_> = Chain::all(resources)
        .into_iter()
        .map(|chain| {
            let effective = attachments.effective(&chain);
            (chain, effective)
        })
        .collect();
    let overriders = overriders(&attachments, &ways);
    let of = |(key, policy): (&(String, ResourceName), &Policy)| {
        let missing = policy.targets.iter().filter(|target| !known.contains(target)).cloned().collect();
        let conflicts = conflicts(&attachments, policy);
        let overridden_by = overriders.get(key).cloned().unwrap_or_default();
        (key.clone(), Standing { missing, conflicts, overridden_by })
    };
    resources.policies.iter().map(of).collect()
}

fn conflicts(attachments: &Attachments<'_>, policy: &Policy) -> Vec<Conflict> {
    let mut targets: Vec<_> = policy.targets.iter().collect();
    targets.sort();
    targets.dedup();
    if super::adds_up(&policy.kind) {
        return Vec::new();
    }
    let conflict = |target: &&TargetRef| {
        let rivals = attachments.rivals(target, &policy.kind);
        let names = rivals.iter().map(|rival| rival.meta.name.clone());
        let others: Vec<_> = names.filter(|name| *name != policy.meta.name).collect();
        let wins = rivals.first().is_some_and(|winner| winner.meta.name == policy.meta.name);
        (!others.is_empty()).then(|| Conflict { target: (*target).clone(), others, wins })
    };
    targets.iter().filter_map(conflict).collect()
}

/// For each policy that is on some traffic's way and holds nowhere: those of its kind that hold instead.
/// `ways`: every chain that traffic can take, with the policies that hold on it.
pub(crate) fn overriders(
    attachments: &Attachments<'_>,
    ways: &[(Chain, Vec<&Policy>)],
) -> BTreeMap<(String, ResourceName), BTreeSet<ResourceName>> {
    let mut effective = BTreeSet::new();
    let mut beaten = BTreeMap::<_, BTreeSet<_>>::new();
    for (chain, winners) in ways {
        effective.extend(winners.iter().map(|winner| key(winner)));
        for target in chain.targets() {
            for winner in winners {
                // Rivals on the same target are a conflict, not an override.
                let on_target = attachments.rivals(target, &winner.kind);
                if on_target.iter().any(|rival| rival.meta.name == winner.meta.name) {
                    continue;
                }
                for loser in on_target {
                    beaten.entry(key(loser)).or_default().insert(winner.meta.name.clone());
                }
            }
        }
    }
    beaten.retain(|policy, _| !effective.contains(policy));
    beaten
}

fn key(policy: &Policy) -> (String, ResourceName) {
    (policy.kind.to_string(), policy.meta.name.clone())
}
