//! Which Services a pod serves: those whose selector picks it, and those whose EndpointSlices name it.
//!
//! A selector is known before the pod is ready, so its sidecar begins with the policies of its Services; a slice may be
//! written by hand, for a Service without a selector.

use std::collections::{BTreeMap, BTreeSet};

use super::Resolved;
use super::objects::Objects;
use crate::model::{Resource, ResourceName, Workload};
use crate::objects::Service;

/// Services by namespace and one label of their selector: of a pod, only those with one of its labels are looked at.
type ByLabel<'a> = BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a Service>>;

pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    let mut served = BTreeMap::<ResourceName, BTreeSet<&ResourceName>>::new();
    let by_label = by_label(objects);
    for pod in objects.pods.values() {
        let services = served.entry(pod.meta.name.clone()).or_default();
        for (key, value) in &pod.labels {
            let found = by_label.get(&(&*pod.meta.name.namespace, key.as_str(), value.as_str()));
            let picks = |service: &&&Service| {
                service.spec.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
            };
            services.extend(found.into_iter().flatten().filter(picks).map(|service| &service.meta.name));
        }
    }
    for (service, slice) in objects.slices() {
        let Some((service, _)) = objects.services.get_key_value(service) else { continue };
        let within = &slice.meta.name.namespace;
        for pod in slice.spec.endpoints.iter().filter_map(|endpoint| endpoint.pod(within)) {
            served.entry(pod).or_default().insert(service);
        }
    }
    for (name, services) in served {
        let services = services.into_iter().cloned().collect();
        resolved.resources.insert(Resource::Workload(Workload { name, services }));
    }
}

fn by_label<'a>(objects: &Objects<'a>) -> ByLabel<'a> {
    let mut by_label = ByLabel::new();
    for service in objects.services.values().filter(|service| !service.spec.is_external_name()) {
        if let Some((key, value)) = service.spec.selector.iter().next() {
            let place = (&*service.meta.name.namespace, key.as_str(), value.as_str());
            by_label.entry(place).or_default().push(service);
        }
    }
    by_label
}
