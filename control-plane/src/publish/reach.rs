//! What hangs on what, among the resources of one role: from listeners to routes, to what these call, to the policies on
//! the way. So the part that one node needs is found without a look at the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;
use tidegate_policy::model::{
    BackendKind, BackendName, Policy, PolicyKey, Resource, ResourceName, ResourceType, Resources, Route,
    RouteFilter, RouteParent, StreamRoute, TargetKind,
};
use tidegate_xds::{Name, ResourceSet};

use super::{Interest, ResourceId};

/// A Service or a Backend.
type Object = (BackendKind, ResourceName);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reach {
    called: Arc<Called>,
    attached: Arc<Attached>,
    routed: Arc<Routed>,
}

/// What can be called.
#[derive(Debug, Default, PartialEq)]
struct Called {
    /// With its ports.
    objects: BTreeMap<Object, Vec<Name>>,
    /// `name.namespace`, and addresses that stand for a Service.
    hosts: BTreeMap<String, Vec<Object>>,
}

/// Policies.
#[derive(Debug, Default, PartialEq)]
struct Attached {
    policies: BTreeMap<(TargetKind, ResourceName), Vec<Arc<Node>>>,
    named: BTreeMap<PolicyKey, Arc<Node>>,
}

/// What leads to backends.
#[derive(Debug, Default, PartialEq)]
struct Routed {
    /// By Gateway.
    listeners: BTreeMap<ResourceName, Vec<Node>>,
    /// By Gateway, their routes.
    routes: BTreeMap<ResourceName, Vec<Arc<Node>>>,
    /// By Service, those that are attached to it.
    mesh_routes: BTreeMap<ResourceName, Vec<Arc<Node>>>,
}

/// One resource and what it needs.
#[derive(Debug, PartialEq)]
struct Node {
    id: ResourceId,
    /// What policies may be attached to that concern it.
    targets: Vec<(TargetKind, ResourceName)>,
    objects: Vec<Object>,
    policies: Vec<PolicyKey>,
}

/// What was found so far.
struct Found<'a> {
    reach: &'a Reach,
    ids: BTreeSet<ResourceId>,
    targets: BTreeSet<(TargetKind, ResourceName)>,
    objects: BTreeSet<Object>,
}

impl Reach {
    pub(super) fn of(resources: &Resources) -> Self {
        Self {
            called: Arc::new(Called::of(resources)),
            attached: Arc::new(Attached::of(resources.policies.values())),
            routed: Arc::new(Routed::of(resources)),
        }
    }

    /// With what can be called now.
    pub(super) fn calling(&self, resources: &Resources, same: Option<&Self>) -> Self {
        let called = same.map_or_else(|| Arc::new(Called::of(resources)), |same| same.called.clone());
        Self { called, ..self.clone() }
    }

    /// With the policies of now.
    pub(super) fn with_policies<'p>(self, policies: impl Iterator<Item = &'p Policy>) -> Self {
        Self { attached: Arc::new(Attached::of(policies)), ..self }
    }

    /// With the listeners and streams of now.
    pub(super) fn with_routes(self, resources: &Resources) -> Self {
        Self { routed: Arc::new(Routed::of(resources)), ..self }
    }

    pub(super) fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.called, &other.called)
            && Arc::ptr_eq(&self.attached, &other.attached)
            && Arc::ptr_eq(&self.routed, &other.routed)
    }

    /// Whether two versions of a policy hang on other things.
    pub(super) fn moves(before: &Policy, after: &Policy) -> bool {
        before.targets != after.targets || Node::of_policy(before) != Node::of_policy(after)
    }
}

impl Called {
    fn of(resources: &Resources) -> Self {
        let mut this = Self::default();
        for (name, backend) in &resources.backends {
            let object = (name.kind, name.object.clone());
            let ports = this.objects.entry(object.clone()).or_default();
            ports.push(name.to_string().into());
            if ports.len() > 1 {
                continue;
            }
            let host = format!("{}.{}", name.object.name, name.object.namespace).to_ascii_lowercase();
            let addresses = backend.cluster_ips.iter().map(ToString::to_string);
            for host in addresses.chain([host]) {
                this.hosts.entry(host).or_default().push(object.clone());
            }
        }
        this
    }
}

impl Attached {
    fn of<'p>(policies: impl Iterator<Item = &'p Policy>) -> Self {
        let mut this = Self::default();
        for policy in policies {
            let node = Arc::new(Node::of_policy(policy));
            for target in &policy.targets {
                let target = (target.kind, target.object.clone());
                this.policies.entry(target).or_default().push(node.clone());
            }
            this.named.insert(policy.key(), node);
        }
        this
    }
}

impl Routed {
    fn of(resources: &Resources) -> Self {
        let mut this = Self::default();
        for listener in resources.listeners.values() {
            let resource = Resource::Listener(listener.clone());
            let mut targets = vec![(TargetKind::Gateway, listener.name.gateway.clone())];
            targets.extend(listener.name.set.clone().map(|set| (TargetKind::ListenerSet, set)));
            let node = Node { id: id(&resource), targets, objects: Vec::new(), policies: Vec::new() };
            this.listeners.entry(listener.name.gateway.clone()).or_default().push(node);
        }
        for route in resources.routes.values() {
            this.attach(Node::of_route(route), &route.parents);
        }
        for route in resources.streams.values() {
            this.attach(Node::of_stream(route), &route.parents);
        }
        this
    }

    fn attach(&mut self, node: Node, parents: &[RouteParent]) {
        let node = Arc::new(node);
        let (mut gateways, mut services) = (BTreeSet::new(), BTreeSet::new());
        for parent in parents {
            match parent {
                RouteParent::Listener { listener, .. } => gateways.insert(&listener.gateway),
                RouteParent::Service { service, .. } => services.insert(service),
            };
        }
        for gateway in gateways {
            self.routes.entry(gateway.clone()).or_default().push(node.clone());
        }
        for service in services {
            self.mesh_routes.entry(service.clone()).or_default().push(node.clone());
        }
    }
}

impl Reach {
    /// What the proxies of these Gateways need of `all`.
    pub(super) fn of_gateways(
        &self,
        all: &ResourceSet,
        is_meant: impl Fn(&ResourceName) -> bool,
    ) -> ResourceSet {
        let mut found = self.nothing();
        for (gateway, listeners) in self.routed.listeners.iter().filter(|(gateway, _)| is_meant(gateway)) {
            listeners.iter().for_each(|node| found.add(node));
            self.routed.routes.get(gateway).into_iter().flatten().for_each(|node| found.add(node));
        }
        found.of(all)
    }

    /// What a sidecar needs of `all`, and of each name that it asks by, whether that is anything.
    pub(super) fn of_sidecar<'a>(
        &self,
        all: &ResourceSet,
        interest: &'a Interest,
        told: impl Iterator<Item = &'a ResourceName>,
    ) -> (ResourceSet, Vec<(Name, bool)>) {
        let mut found = self.nothing();
        for service in told.chain(&interest.served) {
            found.object((BackendKind::Service, service.clone()));
        }
        let mut known = Vec::with_capacity(interest.wants.len());
        for key in &interest.wants {
            let objects = self.called(key, &interest.namespace);
            known.push((key.clone(), !objects.is_empty()));
            for object in objects {
                found.object(object.clone());
                let routes =
                    self.routed.mesh_routes.get(&object.1).filter(|_| object.0 == BackendKind::Service);
                let concerns = |node: &&Arc<Node>| {
                    let from = node.targets.first().map(|(_, route)| &*route.namespace);
                    from == Some(&*object.1.namespace) || from == Some(&*interest.namespace)
                };
                routes.into_iter().flatten().filter(concerns).for_each(|node| found.add(node));
            }
        }
        (found.of(all), known)
    }

    /// What an application of this namespace may mean by a name, as its sidecar will read it.
    fn called(&self, key: &str, namespace: &str) -> Vec<&Object> {
        let bare = key.strip_suffix(".svc.cluster.local").or_else(|| key.strip_suffix(".svc")).unwrap_or(key);
        let short = format!("{key}.{}", namespace.to_ascii_lowercase());
        let all = [bare, &short].into_iter().filter_map(|host| self.called.hosts.get(host));
        all.flatten().collect()
    }

    fn nothing(&self) -> Found<'_> {
        Found { reach: self, ids: BTreeSet::new(), targets: BTreeSet::new(), objects: BTreeSet::new() }
    }
}

impl Node {
    fn of_route(route: &Route) -> Self {
        let (mut objects, mut policies) = (Vec::new(), Vec::new());
        let mut filters = |filters: &[RouteFilter], objects: &mut Vec<Object>| {
            policies.extend(RouteFilter::extensions(filters).cloned());
            objects.extend(filters.iter().filter_map(|filter| match filter {
                RouteFilter::Mirror(mirror) => Some(object(&mirror.backend)),
                _ => None,
            }));
        };
        for rule in &route.rules {
            filters(&rule.filters, &mut objects);
            for backend in &rule.backends {
                filters(&backend.filters, &mut objects);
                objects.extend(backend.target.as_ref().ok().map(object));
            }
        }
        let targets = vec![(route.kind.target(), route.meta.name.clone())];
        Self { id: id(&Resource::Route(route.clone())), targets, objects, policies }
    }

    fn of_stream(route: &StreamRoute) -> Self {
        let called = route.rule.backends.iter().filter_map(|backend| backend.target.as_ref().ok());
        Self {
            id: id(&Resource::StreamRoute(route.clone())),
            targets: vec![(route.kind.target(), route.meta.name.clone())],
            objects: called.map(object).collect(),
            policies: Vec::new(),
        }
    }

    fn of_policy(policy: &Policy) -> Self {
        let mut objects = Vec::new();
        named_backends(&policy.spec, &policy.meta.name.namespace, &mut objects);
        let id = (ResourceType::Policy.type_url(), format!("{}/{}", policy.kind, policy.meta.name).into());
        Self { id, targets: Vec::new(), objects, policies: Vec::new() }
    }
}

impl Found<'_> {
    fn add(&mut self, node: &Node) {
        if !self.ids.insert(node.id.clone()) {
            return;
        }
        for target in &node.targets {
            self.target(target.clone());
        }
        for object in &node.objects {
            self.object(object.clone());
        }
        for key in &node.policies {
            let named = self.reach.attached.named.get(key).cloned();
            named.into_iter().for_each(|policy| self.add(&policy));
        }
    }

    /// The policies there, and those of its namespace.
    fn target(&mut self, target: (TargetKind, ResourceName)) {
        if self.targets.contains(&target) {
            return;
        }
        let namespace = target.1.namespace.clone();
        let within = (TargetKind::Namespace, ResourceName::new(namespace.clone(), namespace));
        for target in [target, within] {
            if self.targets.insert(target.clone()) {
                let policies = self.reach.attached.policies.get(&target).into_iter().flatten();
                policies.for_each(|policy| self.add(policy));
            }
        }
    }

    fn object(&mut self, object: Object) {
        if !self.objects.insert(object.clone()) {
            return;
        }
        for port in self.reach.called.objects.get(&object).into_iter().flatten() {
            self.ids.insert((ResourceType::Backend.type_url(), port.clone()));
            self.ids.insert((ResourceType::Endpoints.type_url(), port.clone()));
        }
        let kind = match object.0 {
            BackendKind::Service => TargetKind::Service,
            BackendKind::Backend => TargetKind::Backend,
        };
        self.target((kind, object.1));
    }

    fn of(self, all: &ResourceSet) -> ResourceSet {
        let mut set = ResourceSet::default();
        for (type_url, name) in self.ids {
            let found = all.get(type_url, &name).cloned();
            // It fitted into the whole.
            found.into_iter().for_each(|resource| drop(set.insert(type_url, name.clone(), resource)));
        }
        set.set_incomplete(all.is_incomplete());
        set
    }
}

fn id(resource: &Resource) -> ResourceId {
    (resource.resource_type().type_url(), resource.name().into())
}

fn object(backend: &BackendName) -> Object {
    (backend.kind, backend.object.clone())
}

/// Whatever a spec names as `backendRef` or in `backendRefs`, of any kind of policy.
fn named_backends(spec: &Json, namespace: &Arc<str>, found: &mut Vec<Object>) {
    match spec {
        Json::Object(fields) => {
            for (field, value) in fields {
                match (field.as_str(), value) {
                    ("backendRef", one) => found.extend(reference(one, namespace)),
                    ("backendRefs", Json::Array(all)) => {
                        found.extend(all.iter().filter_map(|one| reference(one, namespace)));
                    }
                    (_, other) => named_backends(other, namespace, found),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| named_backends(item, namespace, found)),
        _ => {}
    }
}

fn reference(written: &Json, namespace: &Arc<str>) -> Option<Object> {
    let text = |field: &str| written.get(field).and_then(Json::as_str);
    let kind = if text("kind") == Some("Backend") { BackendKind::Backend } else { BackendKind::Service };
    let namespace = text("namespace").map_or_else(|| namespace.clone(), Arc::from);
    Some((kind, ResourceName::new(namespace, text("name")?)))
}
