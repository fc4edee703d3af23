use std::collections::BTreeMap;

use super::{
    Backend, BackendKind, BackendName, Endpoints, Listener, ListenerName, Policy, ResourceName, Route,
    RouteKind, StreamKind, StreamRoute,
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
}

impl ResourceType {
    pub const PUSH_ORDER: [Self; 6] =
        [Self::Backend, Self::Endpoints, Self::Policy, Self::Listener, Self::Route, Self::StreamRoute];

    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Backend => "type.googleapis.com/tidegate.v1.Backend",
            Self::Endpoints => "type.googleapis.com/tidegate.v1.Endpoints",
            Self::Policy => "type.googleapis.com/tidegate.v1.Policy",
            Self::Listener => "type.googleapis.com/tidegate.v1.Listener",
            Self::Route => "type.googleapis.com/tidegate.v1.Route",
            Self::StreamRoute => "type.googleapis.com/tidegate.v1.StreamRoute",
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
        }
    }

    /// The ports of a Service, as backends.
    pub fn ports_of(&self, service: &ResourceName) -> impl Iterator<Item = &Backend> {
        let port = |port| BackendName { kind: BackendKind::Service, object: service.clone(), port };
        self.backends.range(port(0)..=port(u16::MAX)).map(|(_, backend)| backend)
    }

    /// Every resource, in push order.
    pub fn iter(&self) -> impl Iterator<Item = Resource> + '_ {
        let backends = self.backends.values().cloned().map(Resource::Backend);
        let endpoints = self.endpoints.values().cloned().map(Resource::Endpoints);
        let policies = self.policies.values().cloned().map(Resource::Policy);
        let listeners = self.listeners.values().cloned().map(Resource::Listener);
        let routes = self.routes.values().cloned().map(Resource::Route);
        let streams = self.streams.values().cloned().map(Resource::StreamRoute);
        backends.chain(endpoints).chain(policies).chain(listeners).chain(routes).chain(streams)
    }
}
