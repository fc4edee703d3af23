//! What our own application may call: Services by the names an application has for them.
//!
//! Routes whose parent is a Service follow GAMMA (GEP-1294): they replace the direct way to the Service, and those
//! of the caller's own namespace replace those of the Service's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Rule;
use super::build::Builder;
use super::destination::Expected;
use super::gateway::candidates;
use super::rule::Side;
use crate::matching::{Authority, MatchTable, RequestView};
use crate::model::{Backend, BackendKind, ResourceName, Resources, Route, RouteKind, RouteParent};

/// The port of a Service that a `Host` without one means.
const DEFAULT_PORT: u16 = 80;

#[derive(Debug, Default)]
pub(super) struct Services {
    by_host: FxHashMap<Arc<str>, Arc<Service>>,
    by_address: FxHashMap<IpAddr, Arc<Service>>,
    pub(super) all: Vec<Arc<Service>>,
}

/// A Service or a Backend, by port.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) kind: BackendKind,
    pub(super) name: ResourceName,
    pub(super) ports: BTreeMap<u16, PortRules>,
}

#[derive(Debug)]
pub(super) enum PortRules {
    /// No route: straight to the endpoints.
    Direct { rule: Arc<Rule>, expected: Expected },
    /// Only what a rule matches goes anywhere.
    Routed(MatchTable<Arc<Rule>>),
}

/// Routes by the Service they are attached to, with the port they are for.
type Attached<'a> = BTreeMap<&'a ResourceName, Vec<(&'a Route, Option<u16>)>>;

impl Services {
    pub(super) fn find(&self, authority: &Authority<'_>, request: &RequestView<'_>) -> Option<&Arc<Rule>> {
        self.service(authority)?.port(authority.port)?.1.find(request)
    }

    /// The Service that is asked for, and its port.
    pub(super) fn named(&self, authority: &Authority<'_>) -> Option<(&Service, u16)> {
        let service = self.service(authority)?;
        Some((service, *service.port(authority.port)?.0))
    }

    /// The Service whose ClusterIP this is, and its port.
    pub(super) fn at(&self, address: SocketAddr) -> Option<(&Service, u16)> {
        let service = self.by_address.get(&address.ip())?;
        Some((service, *service.ports.get_key_value(&address.port())?.0))
    }

    fn service(&self, authority: &Authority<'_>) -> Option<&Arc<Service>> {
        self.by_host.get(&*authority.host).or_else(|| self.at_address(&authority.host))
    }

    pub(super) fn find_at(&self, address: SocketAddr, request: &RequestView<'_>) -> Option<&Arc<Rule>> {
        self.port_at(address)?.find(request)
    }

    /// The port of the Service whose ClusterIP this is.
    pub(super) fn port_at(&self, address: SocketAddr) -> Option<&PortRules> {
        self.by_address.get(&address.ip())?.ports.get(&address.port())
    }

    /// The Service whose ClusterIP is written as the host.
    fn at_address(&self, host: &str) -> Option<&Arc<Service>> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        self.by_address.get(&host.parse().ok()?)
    }
}

impl PortRules {
    fn find(&self, request: &RequestView<'_>) -> Option<&Arc<Rule>> {
        match self {
            Self::Direct { rule, .. } => Some(rule),
            Self::Routed(table) => table.find(request),
        }
    }
}

impl Service {
    /// The port that is asked for; without one the only port there is, else 80. The port of a Backend is its own
    /// affair, since its endpoints are written with theirs.
    fn port(&self, asked: Option<u16>) -> Option<(&u16, &PortRules)> {
        let only = || self.ports.iter().next().filter(|_| self.ports.len() == 1);
        match (asked, self.kind) {
            (Some(port), BackendKind::Service) => self.ports.get_key_value(&port),
            (Some(port), BackendKind::Backend) => self.ports.get_key_value(&port).or_else(only),
            (None, _) => only().or_else(|| self.ports.get_key_value(&DEFAULT_PORT)),
        }
    }

    fn hosts(&self, local_namespace: &str) -> Vec<String> {
        let ResourceName { namespace, name } = &self.name;
        let mut hosts = vec![format!("{name}.{namespace}")];
        if self.kind == BackendKind::Service {
            hosts.push(format!("{name}.{namespace}.svc"));
            hosts.push(format!("{name}.{namespace}.svc.cluster.local"));
        }
        if **namespace == *local_namespace {
            hosts.push(name.to_string());
        }
        hosts.iter().map(|host| host.to_ascii_lowercase()).collect()
    }
}

impl Builder<'_> {
    pub(super) fn services(&mut self) -> Services {
        let attached = attached_to_services(self.resources);
        let mut objects = BTreeMap::<_, Vec<&Backend>>::new();
        for backend in self.resources.backends.values() {
            objects.entry((backend.name.kind, &backend.name.object)).or_default().push(backend);
        }
        let mut services = Services::default();
        // Services come first, and keep a name that a Backend has too.
        for ((kind, name), backends) in objects {
            let routes = attached.get(name).filter(|_| kind == BackendKind::Service);
            let routes = routes.map_or(&[][..], Vec::as_slice);
            let ports = backends.iter().map(|b| (b.name.port, self.port_rules(b, routes))).collect();
            let service = Arc::new(Service { kind, name: name.clone(), ports });
            for host in service.hosts(&self.local.namespace) {
                services.by_host.entry(host.into()).or_insert_with(|| service.clone());
            }
            for address in backends.iter().flat_map(|backend| &backend.cluster_ips) {
                services.by_address.entry(*address).or_insert_with(|| service.clone());
            }
            services.all.push(service);
        }
        services
    }

    fn port_rules(&mut self, backend: &Backend, routes: &[(&Route, Option<u16>)]) -> PortRules {
        let meant = routes.iter().filter(|(_, port)| port.is_none_or(|port| port == backend.name.port));
        let (producer, consumer): (Vec<&Route>, Vec<_>) = meant
            .map(|(route, _)| *route)
            .partition(|route| route.meta.name.namespace == backend.name.object.namespace);
        let own = |route: &&Route| route.meta.name.namespace == self.local.namespace;
        let mine: Vec<_> = consumer.into_iter().filter(own).collect();
        let mut routes = if mine.is_empty() { producer } else { mine };
        // GEP-1294: of the kinds on one port, gRPC goes first, and kinds are not merged.
        if routes.iter().any(|route| route.kind == RouteKind::Grpc) {
            routes.retain(|route| route.kind == RouteKind::Grpc);
        }
        if routes.is_empty() {
            return PortRules::Direct {
                rule: Arc::new(self.direct_rule(backend)),
                expected: Expected::of(backend),
            };
        }
        let side = Side::Outbound(&backend.name);
        let all = routes.iter().flat_map(|route| candidates(route, &self.rules(route, side))).collect();
        PortRules::Routed(MatchTable::new(all))
    }
}

fn attached_to_services(resources: &Resources) -> Attached<'_> {
    let mut attached = Attached::new();
    for route in resources.routes.values() {
        for parent in &route.parents {
            if let RouteParent::Service { service, port } = parent {
                attached.entry(service).or_default().push((route, *port));
            }
        }
    }
    attached
}
