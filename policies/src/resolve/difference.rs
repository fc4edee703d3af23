//! How two versions of the whole differ.

use std::collections::BTreeMap;

use crate::model::{Replaced, Resource, Resources};

/// How `after` differs from `before`.
pub(super) fn between(before: &Resources, after: &Resources) -> Vec<Replaced> {
    let mut replaced = Vec::new();
    differ(&before.backends, &after.backends, Resource::Backend, &mut replaced);
    differ(&before.endpoints, &after.endpoints, Resource::Endpoints, &mut replaced);
    differ(&before.policies, &after.policies, Resource::Policy, &mut replaced);
    differ(&before.listeners, &after.listeners, Resource::Listener, &mut replaced);
    differ(&before.routes, &after.routes, Resource::Route, &mut replaced);
    differ(&before.streams, &after.streams, Resource::StreamRoute, &mut replaced);
    differ(&before.workloads, &after.workloads, Resource::Workload, &mut replaced);
    replaced
}

fn differ<K: Ord, T: Clone + PartialEq>(
    before: &BTreeMap<K, T>,
    after: &BTreeMap<K, T>,
    resource: fn(T) -> Resource,
    replaced: &mut Vec<Replaced>,
) {
    let mut olds = before.iter().peekable();
    let gone = |old: &T| Replaced { before: Some(resource(old.clone())), after: None };
    for (key, new) in after {
        while let Some((_, old)) = olds.next_if(|(old, _)| *old < key) {
            replaced.push(gone(old));
        }
        let old = olds.next_if(|(old, _)| *old == key).map(|(_, old)| old);
        if old != Some(new) {
            let [before, after] = [old, Some(new)].map(|one| one.cloned().map(resource));
            replaced.push(Replaced { before, after });
        }
    }
    replaced.extend(olds.map(|(_, old)| gone(old)));
}
