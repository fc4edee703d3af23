use std::sync::Arc;

use crate::model::{
    Backend, BackendKind, BackendName, BackendRef, ListenerName, PolicyKey, ResourceName, Resources, Route,
    RouteFilter, RouteParent, StreamRoute, TargetKind, TargetRef,
};

/// What a policy could be attached to in order to hold for some traffic, from the least to the most specific.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    namespaces: Vec<TargetRef>,
    explicit: Vec<TargetRef>,
    /// Named by the route itself: more specific than any target.
    extensions: Vec<PolicyKey>,
}

/// Where traffic passes: the rule it matched, and from where it came.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub resources: &'a Resources,
    /// The route and the name of its rule, if there is one.
    pub rule: Option<(TargetKind, &'a ResourceName, Option<&'a Arc<str>>)>,
}

impl Chain {
    /// All targets, the namespaces first: whatever is written for an object beats a namespace's default.
    pub fn targets(&self) -> impl Iterator<Item = &TargetRef> {
        self.namespaces.iter().chain(&self.explicit)
    }

    /// The same, past filters that name policies.
    #[must_use]
    pub fn past(mut self, filters: &[RouteFilter]) -> Self {
        self.extensions.extend(RouteFilter::extensions(filters).cloned());
        self
    }

    pub(super) fn extensions(&self) -> impl Iterator<Item = &PolicyKey> {
        self.extensions.iter()
    }

    fn namespace(&mut self, name: &Arc<str>) {
        let object = ResourceName::new(name.clone(), name.clone());
        self.namespaces.push(TargetRef { kind: TargetKind::Namespace, object, section: None });
    }

    fn object(&mut self, kind: TargetKind, object: &ResourceName, section: Option<&Arc<str>>) {
        self.explicit.push(TargetRef { kind, object: object.clone(), section: None });
        if let Some(section) = section {
            let section = Some(section.clone());
            self.explicit.push(TargetRef { kind, object: object.clone(), section });
        }
    }

    fn backend(&mut self, name: &BackendName, resources: &Resources) {
        let kind = match name.kind {
            BackendKind::Service => TargetKind::Service,
            BackendKind::Backend => TargetKind::Backend,
        };
        let port = resources.backends.get(name).and_then(|backend| backend.port_name.as_ref());
        self.object(kind, &name.object, port);
    }
}

impl Place<'_> {
    /// A request on a gateway: everything holds there, down to the Service that was picked.
    pub fn gateway(&self, listener: &ListenerName, backend: Option<&BackendName>) -> Chain {
        let mut chain = Chain::default();
        chain.namespace(&listener.gateway.namespace);
        match &listener.set {
            None => chain.object(TargetKind::Gateway, &listener.gateway, Some(&listener.section)),
            // What holds for the Gateway is inherited (GEP-1713); its own listener of that name is another.
            Some(set) => {
                chain.object(TargetKind::Gateway, &listener.gateway, None);
                chain.namespace(&set.namespace);
                chain.object(TargetKind::ListenerSet, set, Some(&listener.section));
            }
        }
        self.route_into(&mut chain);
        if let Some(backend) = backend {
            chain.namespace(&backend.object.namespace);
            chain.backend(backend, self.resources);
        }
        chain
    }

    /// Filters in the caller's sidecar: only those of the route. What is attached to a Service holds in the
    /// Service's own sidecars.
    pub fn outbound_filters(&self) -> Chain {
        let mut chain = Chain::default();
        self.route_into(&mut chain);
        chain.namespaces.clear();
        chain
    }

    /// Circuit breakers in the caller's sidecar, which is where calls are made: `parent` is the port that the
    /// application named, `backend` the one it is sent to.
    pub fn outbound_breakers(&self, parent: &BackendName, backend: Option<&BackendName>) -> Chain {
        let mut chain = Chain::default();
        chain.backend(parent, self.resources);
        self.route_into(&mut chain);
        chain.namespaces.clear();
        chain.namespace(&parent.object.namespace);
        if let Some(backend) = backend {
            chain.namespace(&backend.object.namespace);
            chain.backend(backend, self.resources);
        }
        chain
    }

    fn route_into(&self, chain: &mut Chain) {
        if let Some((kind, route, rule)) = self.rule {
            chain.namespace(&route.namespace);
            chain.object(kind, route, rule);
        }
    }
}

impl Chain {
    /// Filters in the sidecars of `service`: one chain per port, since a policy may be for one of them. Which port
    /// a call came for cannot be told from the workload's side, so all of them hold.
    pub fn inbound(service: &ResourceName, resources: &Resources) -> Vec<Self> {
        Self::inbound_at(service, resources, None)
    }

    /// The same, where it is known at which port of the workload: those of the Service's ports hold that lead there.
    pub fn inbound_at(service: &ResourceName, resources: &Resources, port: Option<u16>) -> Vec<Self> {
        let of_port = |backend: &Backend| {
            let mut chain = Self::default();
            chain.namespace(&service.namespace);
            chain.backend(&backend.name, resources);
            chain
        };
        let leads_there =
            |backend: &&Backend| port.is_none_or(|port| resources.leads_to(&backend.name, port));
        let mut chains: Vec<_> = resources.ports_of(service).filter(leads_there).map(of_port).collect();
        if chains.is_empty() {
            let mut chain = Self::default();
            chain.namespace(&service.namespace);
            chain.object(TargetKind::Service, service, None);
            chains.push(chain);
        }
        chains.sort();
        chains.dedup();
        chains
    }

    /// Every chain that traffic can take through `resources`, in any proxy.
    pub fn all(resources: &Resources) -> Vec<Self> {
        let mut chains = Vec::new();
        for name in resources.backends.keys() {
            let place = Place { resources, rule: None };
            chains.push(place.outbound_breakers(name, Some(name)));
            if name.kind == BackendKind::Service {
                chains.extend(Self::inbound(&name.object, resources));
            }
        }
        for route in resources.routes.values() {
            route_chains(route, resources, &mut chains);
        }
        for route in resources.streams.values() {
            stream_chains(route, resources, &mut chains);
        }
        chains.sort();
        chains.dedup();
        chains
    }
}

fn stream_chains(route: &StreamRoute, resources: &Resources, chains: &mut Vec<Chain>) {
    let rule = Some((route.kind.target(), &route.meta.name, route.rule.name.as_ref()));
    let place = Place { resources, rule };
    for parent in &route.parents {
        let RouteParent::Listener { listener, .. } = parent else { continue };
        let backends = route.rule.backends.iter().map(|backend| backend.target.as_ref().ok());
        chains.extend(backends.map(|backend| place.gateway(listener, backend)));
    }
}

fn route_chains(route: &Route, resources: &Resources, chains: &mut Vec<Chain>) {
    for rule in &route.rules {
        let of_rule = (route.kind.target(), &route.meta.name, rule.name.as_ref());
        let place = Place { resources, rule: Some(of_rule) };
        let of = |backend: &BackendRef| (backend.target.clone().ok(), backend.filters.clone());
        let backends: Vec<_> = match &rule.backends[..] {
            [] => vec![(None, Vec::new())],
            backends => backends.iter().map(of).collect(),
        };
        for (parent, (backend, below)) in
            route.parents.iter().flat_map(|p| backends.iter().map(move |b| (p, b)))
        {
            let past = |chain: Chain| chain.past(&rule.filters).past(below);
            let backend = backend.as_ref();
            match parent {
                RouteParent::Listener { listener, .. } => chains.push(past(place.gateway(listener, backend))),
                RouteParent::Service { service, port } => {
                    chains.push(past(place.outbound_filters()));
                    let ports = resources.ports_of(service).map(|backend| &backend.name);
                    let meant = ports.filter(|name| port.is_none_or(|port| port == name.port));
                    chains.extend(meant.map(|parent| past(place.outbound_breakers(parent, backend))));
                }
            }
        }
    }
}
