//! Services with their EndpointSlices, and Backends: what can be called.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::objects::Objects;
use super::{Condition, Resolved};
use crate::model::{
    Address, AppProtocol, Backend, BackendKind, BackendName, Declared, Endpoint, Endpoints, MeshPeer,
    Placement, Resource, ResourceName,
};
use crate::objects::{
    AddressType, Backend as WrittenBackend, BackendProtocol, EndpointSlice, MTLS, MTLS_ENABLED,
    PROXY_PROTOCOL, SERVICE_ACCOUNTS, Service, ServicePort, SliceEndpoint, TransportProtocol,
};

pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    for service in objects.services.values() {
        of_service(objects, service, resolved);
    }
    for backend in objects.backends.values() {
        let (backend, endpoints) = written_backend(objects, backend);
        resolved.resources.insert(Resource::Backend(backend));
        resolved.resources.insert(Resource::Endpoints(endpoints));
    }
    for (service, slice) in objects.slices() {
        of_slice(objects, service, slice, resolved);
    }
}

pub(super) fn of_service(objects: &Objects<'_>, service: &Service, resolved: &mut Resolved) {
    if service.spec.is_external_name() {
        let message = format!("{}: {}", service.meta.source, external_name(service));
        let condition = Condition::fails("Accepted", "UnsupportedValue", message);
        resolved.tell("Service", &service.meta.name, condition);
        return;
    }
    let slices = objects.slices_of(&service.meta.name);
    for (at, port) in tcp_ports(service) {
        let backend = service_port(objects, service, at, port);
        let endpoints = endpoints(objects, &backend.name, &port.name, (service, slices));
        tell_unmatched(service, &backend, port, slices, resolved);
        resolved.resources.insert(Resource::Backend(backend));
        resolved.resources.insert(Resource::Endpoints(endpoints));
    }
}

/// Tells of one that belongs to nobody.
pub(super) fn of_slice(
    objects: &Objects<'_>,
    service: &ResourceName,
    slice: &EndpointSlice,
    resolved: &mut Resolved,
) {
    if !objects.services.contains_key(service) {
        let message = format!("{}: there is no Service {service}", slice.meta.source);
        let condition = Condition::fails("ResolvedRefs", "ServiceNotFound", message);
        resolved.tell("EndpointSlice", &slice.meta.name, condition);
    }
}

/// The ports that HTTP can be spoken on, with their number in the spec.
pub(super) fn tcp_ports(service: &Service) -> impl Iterator<Item = (usize, &ServicePort)> {
    service.spec.ports.iter().enumerate().filter(|(_, port)| port.protocol == TransportProtocol::Tcp)
}

/// Why a Service of type ExternalName is of no use here. It is an alias that its author may point anywhere
/// (CVE-2021-25740); the Gateway API advises against it.
pub(super) fn external_name(service: &Service) -> String {
    let name = service.spec.external_name.as_deref().unwrap_or_default();
    format!(
        "Service {} is of type ExternalName; write a Backend with the address `{name}`",
        service.meta.name
    )
}

/// What a port's `appProtocol` (GEP-1911) means, `None` if it is nothing that can be called. WebSocket needs no word:
/// every HTTP/1.1 connection may be upgraded. What speaks TLS can be called where a policy says whom to trust.
pub(super) fn app_protocol(port: &ServicePort, tls: bool) -> Option<AppProtocol> {
    match port.app_protocol.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "http" | "kubernetes.io/ws") => Some(AppProtocol::Http1),
        Some("kubernetes.io/h2c" | "http2" | "grpc") => Some(AppProtocol::H2c),
        Some("https" | "kubernetes.io/wss") if tls => Some(AppProtocol::Http1),
        Some(_) => None,
    }
}

/// What the clients of a port send. TLS of their own is none of our business; where a policy has us begin it, they may
/// send HTTP in clear as well.
fn declared(port: &ServicePort, tls: bool) -> Declared {
    match port.app_protocol.as_deref() {
        None | Some("") => Declared::Nothing,
        Some(_) if app_protocol(port, false).is_some() => Declared::Http,
        Some(_) if tls => Declared::Nothing,
        Some(_) => Declared::Other,
    }
}

fn service_port(objects: &Objects<'_>, service: &Service, at: usize, port: &ServicePort) -> Backend {
    let object = service.meta.name.clone();
    let tls = objects.tls.of_port(BackendKind::Service, &object, &port.name).cloned();
    Backend {
        name: BackendName { kind: BackendKind::Service, object, port: port.port },
        source: service.meta.at(service.lines.line(&format!("/ports/{at}"))),
        port_name: (!port.name.is_empty()).then(|| port.name.as_str().into()),
        protocol: app_protocol(port, tls.is_some()).unwrap_or_default(),
        declared: declared(port, tls.is_some()),
        connect_timeout: None,
        cluster_ips: service.spec.cluster_addresses(),
        tls,
        proxy_protocol: service.annotations.get(PROXY_PROTOCOL).and_then(|version| version.parse().ok()),
    }
}

/// All slices together: an endpoint that is in several counts once. Ports are found by name (the number in a slice
/// is that of the pod). Ordered by address, so that the order of slices changes nothing. Only where none is ready do
/// those that are going away take requests.
fn endpoints(
    objects: &Objects<'_>,
    backend: &BackendName,
    port_name: &str,
    of_service: (&Service, &[&EndpointSlice]),
) -> Endpoints {
    let found = |wanted| addresses(objects, port_name, of_service, wanted);
    let ready = found(SliceEndpoint::is_ready);
    let found = if ready.is_empty() { found(SliceEndpoint::is_last_resort) } else { ready };
    let endpoints = found.into_iter().map(|(address, (placement, mesh))| Endpoint {
        placement,
        mesh,
        ..Endpoint::at(address)
    });
    Endpoints { backend: backend.clone(), endpoints: endpoints.collect() }
}

fn addresses(
    objects: &Objects<'_>,
    port_name: &str,
    (service, slices): (&Service, &[&EndpointSlice]),
    wanted: fn(&SliceEndpoint) -> bool,
) -> BTreeMap<Address, (Placement, Option<MeshPeer>)> {
    let mut found = BTreeMap::new();
    for slice in slices {
        let namespace = &slice.meta.name.namespace;
        let written = mesh_peer(&slice.annotations, namespace)
            .or_else(|| mesh_peer(&service.annotations, &service.meta.name.namespace));
        let ports = slice.spec.ports.iter();
        let meant = ports.filter(|p| p.name == port_name && p.protocol == TransportProtocol::Tcp);
        for port in meant.filter_map(|port| port.port) {
            for endpoint in slice.spec.endpoints.iter().filter(|endpoint| wanted(endpoint)) {
                let first = endpoint.addresses.first();
                if let Some(address) = first.and_then(|text| address(slice.spec.address_type, text, port)) {
                    let mesh = || match &written {
                        Some(written) => written.clone(),
                        None => meshed_pod(objects, &endpoint.pod(namespace)?, port),
                    };
                    found.entry(address).or_insert_with(|| (placement(endpoint), mesh()));
                }
            }
        }
    }
    found
}

fn placement(endpoint: &SliceEndpoint) -> Placement {
    let hints = endpoint.hints.iter().flat_map(|hints| &hints.for_zones);
    Placement {
        zone: zone(endpoint.zone.as_deref()),
        for_zones: hints.map(|hint| hint.name.as_str().into()).collect(),
        priority: 0,
    }
}

/// What a pod's own sidecar is, if there is one before this port of it.
fn meshed_pod(objects: &Objects<'_>, pod: &ResourceName, port: u16) -> Option<MeshPeer> {
    let pod = objects.pods.get(pod).filter(|pod| pod.is_meshed_at(port))?;
    let account = ResourceName::new(pod.meta.name.namespace.clone(), pod.service_account());
    Some(MeshPeer { service_accounts: vec![account] })
}

/// What an annotation says of whether a proxy of the mesh stands before the endpoints; whatever it says, it wins over what
/// pods say.
fn mesh_peer(annotations: &BTreeMap<String, String>, namespace: &str) -> Option<Option<MeshPeer>> {
    if annotations.get(MTLS)? != MTLS_ENABLED {
        return Some(None);
    }
    let accounts = annotations.get(SERVICE_ACCOUNTS).map(String::as_str).unwrap_or_default();
    let accounts = accounts.split(',').map(str::trim).filter(|account| !account.is_empty());
    let account = |text: &str| match text.split_once('/') {
        Some((namespace, name)) => ResourceName::new(namespace, name),
        None => ResourceName::new(namespace, text),
    };
    Some(Some(MeshPeer { service_accounts: accounts.map(account).collect() }))
}

/// An empty name is none.
fn zone(written: Option<&str>) -> Option<Arc<str>> {
    written.filter(|zone| !zone.is_empty()).map(Into::into)
}

fn address(kind: AddressType, text: &str, port: u16) -> Option<Address> {
    match kind {
        AddressType::IPv4 | AddressType::IPv6 => {
            text.parse().ok().map(|ip| Address::Socket(SocketAddr::new(ip, port)))
        }
        AddressType::Fqdn => Some(named(text, port)),
    }
}

fn named(text: &str, port: u16) -> Address {
    match text.parse() {
        Ok(ip) => Address::Socket(SocketAddr::new(ip, port)),
        Err(_) => Address::Name { host: text.to_ascii_lowercase().into(), port },
    }
}

/// A Service whose slices have other port names has endpoints and cannot be called: worth a word.
fn tell_unmatched(
    service: &Service,
    backend: &Backend,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    resolved: &mut Resolved,
) {
    let mut names: Vec<_> =
        slices.iter().flat_map(|s| s.spec.ports.iter().map(|p| p.name.as_str())).collect();
    if names.is_empty() || names.contains(&port.name.as_str()) {
        return;
    }
    names.sort_unstable();
    names.dedup();
    let message = format!(
        "{}: no EndpointSlice of {} has a port named `{}`; theirs are `{}`",
        backend.source,
        service.meta.name,
        port.name,
        names.join("`, `")
    );
    let condition = Condition::fails("ResolvedRefs", "EndpointsNotFound", message);
    resolved.tell("Service", &service.meta.name, condition);
}

fn written_backend(objects: &Objects<'_>, written: &WrittenBackend) -> (Backend, Endpoints) {
    let spec = &written.spec;
    let object = written.meta.name.clone();
    let backend = Backend {
        name: BackendName { kind: BackendKind::Backend, object, port: spec.port() },
        source: written.meta.source.clone(),
        port_name: None,
        protocol: match spec.protocol {
            BackendProtocol::HTTP1 => AppProtocol::Http1,
            BackendProtocol::H2C => AppProtocol::H2c,
        },
        declared: Declared::Http,
        connect_timeout: spec.connect_timeout.map(|timeout| timeout.get()),
        cluster_ips: Vec::new(),
        tls: objects.tls.of_port(BackendKind::Backend, &written.meta.name, "").cloned(),
        proxy_protocol: spec.proxy_protocol,
    };
    let mut found = BTreeMap::new();
    for endpoint in &spec.endpoints {
        let placement = Placement {
            zone: zone(endpoint.zone.as_deref()),
            for_zones: Vec::new(),
            priority: endpoint.priority,
        };
        found.entry(named(&endpoint.address, endpoint.port)).or_insert((endpoint.weight, placement));
    }
    let mesh = mesh_peer(&written.annotations, &written.meta.name.namespace).flatten();
    let endpoint =
        |(address, (weight, placement))| Endpoint { address, weight, placement, mesh: mesh.clone() };
    let endpoints = found.into_iter().map(endpoint);
    let endpoints = Endpoints { backend: backend.name.clone(), endpoints: endpoints.collect() };
    (backend, endpoints)
}
