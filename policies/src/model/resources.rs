use std::collections::BTreeMap;

use super::{
    Backend, BackendKind, BackendName, Destination, Endpoints, Listener, ListenerName, Policy, ResourceName,
    Route, RouteKind, StreamKind, StreamRoute, Workload,
};

/// Everything one proxy knows: the input of a snapshot. Keys are the resources' own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub listeners: BTreeMap<ListenerName, Listener>,
    pub routes: BTreeMap<(RouteKind, ResourceName), Route>,
    pub streams: BTreeMap<(StreamKind, ResourceName), StreamRoute>,
    pub backends: BTreeMap<BackendName, Backend>,
    pub endpoints: BTreeMap<BackendName, Endpoints>,
    /// By kind, then name.
    pub policies: BTreeMap<(String, ResourceName), Policy>,
    /// By pod.
    pub workloads: BTreeMap<ResourceName, Workload>,
}

/// One resource of any type: what one xDS resource carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Backend(Backend),
    Endpoints(Endpoints),
    Policy(Policy),
    Listener(Listener),
    Route(Route),
    StreamRoute(StreamRoute),
    Workload(Workload),
    /// An answer: nothing is made of it.
    Destination(Destination),
}

/// A resource that is another one than before, is new or is gone: never the same twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub before: Option<Resource>,
    pub after: Option<Resource>,
}

/// The xDS resource types, in the order in which additions are pushed; removals go the other way round. So a
/// route never names a backend that was not told, and is never open before its policies are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    Backend,
    Endpoints,
    Policy,
    Listener,
    Route,
    StreamRoute,
    /// Only to sidecars that say which pod they are in.
    Workload,
    /// Only to those that ask by name. Last: what it stands for is there before.
    Destination,
}

impl ResourceType {
    pub const PUSH_ORDER: [Self; 8] = [
        Self::Backend,
        Self::Endpoints,
        Self::Policy,
        Self::Listener,
        Self::Route,
        Self::StreamRoute,
        Self::Workload,
        Self::Destination,
    ];

    /// Whether it is told to those alone who say that they want it.
    pub const fn is_asked_for(self) -> bool {
        matches!(self, Self::Workload | Self::Destination)
    }

    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Backend => "type.googleapis.com/tidegate.v1.Backend",
            Self::Endpoints => "type.googleapis.com/tidegate.v1.Endpoints",
            Self::Policy => "type.googleapis.com/tidegate.v1.Policy",
            Self::Listener => "type.googleapis.com/tidegate.v1.Listener",
            Self::Route => "type.googleapis.com/tidegate.v1.Route",
            Self::StreamRoute => "type.googleapis.com/tidegate.v1.StreamRoute",
            Self::Workload => "type.googleapis.com/tidegate.v1.Workload",
            Self::Destination => "type.googleapis.com/tidegate.v1.Destination",
        }
    }

    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::PUSH_ORDER.into_iter().find(|t| t.type_url() == url)
    }
}

impl Resource {
    pub fn resource_type(&self) -> ResourceType {
        match self {
            Self::Backend(_) => ResourceType::Backend,
            Self::Endpoints(_) => ResourceType::Endpoints,
            Self::Policy(_) => ResourceType::Policy,
            Self::Listener(_) => ResourceType::Listener,
            Self::Route(_) => ResourceType::Route,
            Self::StreamRoute(_) => ResourceType::StreamRoute,
            Self::Workload(_) => ResourceType::Workload,
            Self::Destination(_) => ResourceType::Destination,
        }
    }

    /// The xDS resource name, unique within its type.
    pub fn name(&self) -> String {
        match self {
            Self::Backend(b) => b.name.to_string(),
            Self::Endpoints(e) => e.backend.to_string(),
            Self::Policy(p) => format!("{}/{}", p.kind, p.meta.name),
            Self::Listener(l) => l.name.to_string(),
            Self::Route(r) => match r.kind {
                RouteKind::Http => r.meta.name.to_string(),
                RouteKind::Grpc => format!("{}/{}", r.kind.as_str(), r.meta.name),
            },
            Self::StreamRoute(r) => format!("{}/{}", r.kind.as_str(), r.meta.name),
            Self::Workload(w) => w.name.to_string(),
            Self::Destination(d) => d.key.clone(),
        }
    }
}

impl Resources {
    pub fn insert(&mut self, resource: Resource) {
        match resource {
            Resource::Backend(b) => drop(self.backends.insert(b.name.clone(), b)),
            Resource::Endpoints(e) => drop(self.endpoints.insert(e.backend.clone(), e)),
            Resource::Policy(p) => {
                drop(self.policies.insert((p.kind.to_string(), p.meta.name.clone()), p));
            }
            Resource::Listener(l) => drop(self.listeners.insert(l.name.clone(), l)),
            Resource::Route(r) => drop(self.routes.insert((r.kind, r.meta.name.clone()), r)),
            Resource::StreamRoute(r) => drop(self.streams.insert((r.kind, r.meta.name.clone()), r)),
            Resource::Workload(w) => drop(self.workloads.insert(w.name.clone(), w)),
            Resource::Destination(_) => {}
        }
    }

    /// The ports of a Service, as backends.
    pub fn ports_of(&self, service: &ResourceName) -> impl Iterator<Item = &Backend> {
        let port = |port| BackendName { kind: BackendKind::Service, object: service.clone(), port };
        self.backends.range(port(0)..=port(u16::MAX)).map(|(_, backend)| backend)
    }

    /// Whether calls of a backend come to this port of workloads. Where no endpoint is known, they may.
    pub fn leads_to(&self, backend: &BackendName, port: u16) -> bool {
        let known = self.endpoints.get(backend).map_or(&[][..], |endpoints| &endpoints.endpoints);
        known.is_empty() || known.iter().any(|endpoint| endpoint.address.port() == port)
    }

    /// Every resource, in push order.
    pub fn iter(&self) -> impl Iterator<Item = Resource> + '_ {
        let backends = self.backends.values().cloned().map(Resource::Backend);
        let endpoints = self.endpoints.values().cloned().map(Resource::Endpoints);
        let policies = self.policies.values().cloned().map(Resource::Policy);
        let listeners = self.listeners.values().cloned().map(Resource::Listener);
        let routes = self.routes.values().cloned().map(Resource::Route);
        let streams = self.streams.values().cloned().map(Resource::StreamRoute);
        let workloads = self.workloads.values().cloned().map(Resource::Workload);
        let whole = backends.chain(endpoints).chain(policies).chain(listeners).chain(routes).chain(streams);
        whole.chain(workloads)
    }
}
