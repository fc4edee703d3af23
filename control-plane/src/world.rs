//! Everything the control plane holds true at one moment, and the fold that leads from one moment to the next.
//!
//! Pure: readings in, worlds out. Who listens to worlds is not known here.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_policy::document::{Diagnostic, ObjectKey, Severity};
use tidegate_policy::model::{Policy, ResourceName, ResourceType};
use tidegate_policy::objects::Object;
use tidegate_policy::resolve::{
    self, AncestorStatus, Changed, Controller, ListenerStatus, Resolved, Resolver,
};

use crate::index::{Index, Objects};
use crate::publish::{Guests, Published, ResourceId, Role, follow};
use crate::source::Reading;
use crate::status::Condition;

const ENDPOINTS: &str = ResourceType::Endpoints.type_url();

/// One moment. Never changed, only replaced.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Counts worlds since the start.
    pub generation: u64,
    pub objects: Arc<Objects>,
    /// Everything wrong with the documents, by file and line.
    pub diagnostics: Vec<Diagnostic>,
    /// What looking up each other's names showed, by object.
    pub conditions: Arc<BTreeMap<ObjectKey, Vec<Condition>>>,
    /// What is said of the listeners of each Gateway of ours and of each ListenerSet at one.
    pub listeners: Arc<BTreeMap<ObjectKey, Vec<ListenerStatus>>>,
    /// By Gateway of ours, how many ListenerSets add listeners to it.
    pub listener_sets: BTreeMap<ResourceName, usize>,
    /// What is said of each target of each policy.
    pub ancestors: Arc<BTreeMap<ObjectKey, Vec<AncestorStatus>>>,
    pub controller: Controller,
    pub published: Published,
    /// How many files were seen.
    pub files: usize,
}

/// Leads from reading to reading.
#[derive(Debug, Default)]
pub struct Fold {
    controller: Controller,
    proof: bool,
    index: Index,
    resolver: Resolver,
    world: Arc<World>,
}

impl Fold {
    pub fn new(controller: Controller) -> Self {
        Self { resolver: Resolver::new(controller.clone()), controller, ..Self::default() }
    }

    /// Whether proxies of Gateways must prove who they are.
    #[must_use]
    pub fn wanting_proof(self, proof: bool) -> Self {
        Self { proof, ..self }
    }

    /// The world after `reading`; `None` if it is the same as before.
    pub fn apply(&mut self, reading: &Reading) -> Option<Arc<World>> {
        let change = self.index.update(reading);
        let first = self.world.generation == 0;
        if !first && !change.view && !change.objects && self.index.file_count() == self.world.files {
            return None;
        }
        let mut world = World {
            generation: self.world.generation + 1,
            objects: self.index.objects().clone(),
            diagnostics: self.index.diagnostics().to_vec(),
            conditions: self.world.conditions.clone(),
            listeners: self.world.listeners.clone(),
            listener_sets: self.world.listener_sets.clone(),
            ancestors: self.world.ancestors.clone(),
            controller: self.controller.clone(),
            published: self.world.published.clone(),
            files: self.index.file_count(),
        };
        if first || change.objects {
            world.resolve(self.proof, &self.index, &mut self.resolver);
        }
        world.published.set_incomplete(self.index.is_incomplete());
        world.tell_too_large();
        self.world = Arc::new(world);
        Some(self.world.clone())
    }
}

impl World {
    /// Every policy in force, whatever it is attached to.
    pub(crate) fn policies(&self) -> impl Iterator<Item = &Policy> {
        let objects = self.objects.values().filter_map(|indexed| indexed.object.as_deref());
        objects.filter_map(|object| match object {
            Object::Policy(policy) => Some(&**policy),
            _ => None,
        })
    }

    /// The resources that proxies have because of an object, by role.
    pub fn derived(&self, key: &ObjectKey) -> Vec<(Role, Vec<ResourceId>)> {
        let slice_of = self.service_of_slice(key);
        let derived = |role| {
            let set = self.published.of(role);
            match &slice_of {
                Some(service) => {
                    set.derived(service).iter().filter(|id| id.0 == ENDPOINTS).cloned().collect()
                }
                None => set.derived(key).to_vec(),
            }
        };
        Role::ALL.into_iter().map(|role| (role, derived(role))).collect()
    }

    fn resolve(&mut self, proof: bool, index: &Index, resolver: &mut Resolver) {
        let in_force = || index.in_force().map(Arc::as_ref);
        let mut guests = Guests::new(proof);
        for object in in_force() {
            if let Object::Gateway(gateway) = object {
                guests.add(gateway);
            }
        }
        let now = |key| index.objects().get(key).and_then(|indexed| indexed.object.as_deref());
        let versions: Vec<_> =
            index.replaced().iter().map(|(key, before)| (before.as_deref(), now(key))).collect();
        let changed = resolver.resolve(in_force(), &versions);
        self.published = follow(&resolver.resolved().resources, &changed.resources, guests, &self.published);
        self.tell(resolver.resolved(), &changed);
    }

    fn tell(&mut self, resolved: &Resolved, changed: &Changed) {
        let said = |told: &Vec<resolve::Condition>| told.iter().cloned().map(Condition::from).collect();
        let Some(keys) = &changed.told else {
            self.conditions =
                Arc::new(resolved.conditions.iter().map(|(key, told)| (key.clone(), said(told))).collect());
            self.listeners = Arc::new(resolved.listeners.clone());
            self.listener_sets = resolved.listener_sets.clone();
            self.ancestors = Arc::new(resolved.ancestors.clone());
            return;
        };
        for key in keys {
            let conditions = resolved.conditions.get(key).map(said);
            if conditions.as_ref() != self.conditions.get(key) {
                put(Arc::make_mut(&mut self.conditions), key, conditions);
            }
            let ancestors = resolved.ancestors.get(key);
            if ancestors != self.ancestors.get(key) {
                put(Arc::make_mut(&mut self.ancestors), key, ancestors.cloned());
            }
        }
    }

    fn tell_too_large(&mut self) {
        for (key, error) in &self.published.too_large {
            let Some(indexed) = self.objects.get(key) else { continue };
            self.diagnostics.push(Diagnostic {
                severity: Severity::Error,
                file: indexed.file.clone(),
                line: indexed.line,
                column: 1,
                field: String::new(),
                message: error.to_string(),
                help: Some(String::from("proxies keep what they have of it; split it")),
            });
        }
    }

    /// The Service to which an EndpointSlice adds endpoints.
    fn service_of_slice(&self, key: &ObjectKey) -> Option<ObjectKey> {
        match self.objects.get(key)?.object.as_deref()? {
            Object::EndpointSlice(slice) => {
                let name = slice.service()?.to_owned();
                Some(ObjectKey { kind: String::from("Service"), namespace: key.namespace.clone(), name })
            }
            _ => None,
        }
    }
}

fn put<T>(map: &mut BTreeMap<ObjectKey, T>, key: &ObjectKey, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), value)),
        None => drop(map.remove(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{FileContent, FileText};
    use tidegate_xds::TooLarge;

    const MESH: &str = "\
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
endpoints: [{addresses: [127.0.0.1]}]
ports: [{port: 3000}]
";

    fn world() -> Arc<World> {
        let files = vec![FileContent { path: "p/mesh.yaml".into(), body: Ok(FileText::new(MESH)) }];
        Fold::default().apply(&Reading { files, unknown: Vec::new(), root_listed: true }).unwrap()
    }

    fn key(kind: &str, name: &str) -> ObjectKey {
        ObjectKey { kind: kind.into(), namespace: "default".into(), name: name.into() }
    }

    #[test]
    fn of_a_service_a_slice_answers_for_the_endpoints_only() {
        let types = |key| {
            let derived = world().derived(&key).into_iter().flat_map(|(_, ids)| ids);
            derived.map(|(type_url, _)| type_url).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(types(key("EndpointSlice", "shop-1")), [ENDPOINTS].into());
        assert_eq!(types(key("Service", "shop")).len(), 2);
    }

    #[test]
    fn what_no_message_can_carry_is_told_at_its_objects_line() {
        let mut world = (*world()).clone();
        let error = TooLarge { type_url: ENDPOINTS, name: "default/shop:80".into(), bytes: 1 << 30 };
        world.published.too_large.push((key("Service", "shop"), error));
        world.tell_too_large();
        let told: Vec<_> = world.diagnostics.iter().map(ToString::to_string).collect();
        assert!(
            told[0].starts_with("p/mesh.yaml:1:1: error") && told[0].contains("1073741824 bytes"),
            "{told:?}"
        );
    }

    #[test]
    fn an_object_of_a_cluster_keeps_its_last_valid_version_and_is_told_without_lines() {
        let reading = |requests: &str| {
            let json = format!(
                r#"{{"apiVersion": "tidegate.io/v1alpha1", "kind": "RateLimitPolicy",
                    "metadata": {{"name": "a", "namespace": "shop", "generation": 7, "uid": "u"}},
                    "spec": {{"targetRefs": [{{"kind": "Service", "name": "web"}}],
                              "limits": [{{"name": "all", "requests": {requests}, "per": "1s"}}]}}}}"#
            );
            let body = Ok(FileText::object(json));
            let files = vec![FileContent { path: "RateLimitPolicy/shop/a".into(), body }];
            Reading { files, unknown: Vec::new(), root_listed: true }
        };
        let mut fold = Fold::default();
        assert_eq!(fold.apply(&reading("5")).unwrap().diagnostics, []);
        let world = fold.apply(&reading("\"many\"")).unwrap();
        let status = crate::status::report(&world, &[]);
        let policy = status.object("RateLimitPolicy", "shop", "a").unwrap();
        assert_eq!(
            (&*policy.source, policy.in_force),
            ("RateLimitPolicy/shop/a", crate::status::InForce::LastValid)
        );
        let told = policy.errors[0].to_string();
        assert!(told.starts_with("RateLimitPolicy/shop/a: error: spec.limits[0].requests: "), "{told}");
        let object = world.objects.values().next().unwrap();
        assert_eq!((object.generation, object.line), (7, 0));
        // Whatever is no JSON hides what it may hold, and takes nothing away.
        let files =
            vec![FileContent { path: "RateLimitPolicy/shop/a".into(), body: Ok(FileText::object("{")) }];
        let world = fold.apply(&Reading { files, unknown: Vec::new(), root_listed: true }).unwrap();
        assert!(world.objects.values().next().unwrap().object.is_some());
    }
}
