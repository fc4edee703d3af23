//! parentRefs -> where a route is attached, with the Gateway API's reasons in their order.

use super::backends::{external_name, tcp_ports};
use super::gateways::takes;
use super::listener_sets;
use super::namespaces::{Choice, allows};
use super::objects::Objects;
use super::owner::Owner;
use crate::model::{HostPattern, Meta, ResourceName, RouteKind, RouteParent, SourceMap};
use crate::objects::{GATEWAY_GROUP, Gateway, HttpRoute, ListenerSpec, ParentRef, Service, StreamRoute};

/// A route of whichever kind, as far as its parents ask about it.
#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    /// As in `kind:` of the document.
    pub(super) kind: &'static str,
    pub(super) meta: &'a Meta,
    pub(super) parent_refs: &'a [ParentRef],
    hostnames: &'a [String],
    pub(super) lines: &'a SourceMap,
    /// Whether a Service can be its parent.
    mesh: bool,
}

/// Why a parent does not take a route: the reason, and a message without its place.
pub(super) type Refusal = (&'static str, String);

/// The Gateway of another controller that a parentRef means, itself or by a ListenerSet.
pub(super) fn stranger<'a>(
    objects: &Objects<'a>,
    route: Child<'_>,
    parent: &ParentRef,
) -> Option<&'a Gateway> {
    let namespace = parent.namespace.as_deref().unwrap_or(&route.meta.name.namespace);
    let name = ResourceName::new(namespace, parent.name.as_str());
    match (parent.group.as_str(), parent.kind.as_str()) {
        (GATEWAY_GROUP, "Gateway") => objects.strangers.get(&name).copied(),
        (GATEWAY_GROUP, "ListenerSet") => listener_sets::stranger(objects, objects.sets.get(&name)?),
        _ => None,
    }
}

impl<'a> Child<'a> {
    pub(super) fn http(kind: RouteKind, route: &'a HttpRoute) -> Self {
        let spec = &route.spec;
        Self {
            kind: kind.as_str(),
            meta: &route.meta,
            parent_refs: &spec.parent_refs,
            hostnames: &spec.hostnames,
            lines: &route.lines,
            mesh: true,
        }
    }

    pub(super) fn stream(route: &'a StreamRoute) -> Self {
        let spec = &route.spec;
        Self {
            kind: spec.kind.as_str(),
            meta: &route.meta,
            parent_refs: &spec.parent_refs,
            hostnames: &spec.hostnames,
            lines: &route.lines,
            mesh: false,
        }
    }
}

/// Where the route is attached, even if that listener cannot be used: its state is its own affair (Gateway API,
/// `attachedRoutes`).
pub(super) fn resolve(
    objects: &Objects<'_>,
    route: Child<'_>,
    parent: &ParentRef,
) -> Result<Vec<RouteParent>, Refusal> {
    let namespace = parent.namespace.as_deref().unwrap_or(&route.meta.name.namespace);
    let name = ResourceName::new(namespace, parent.name.as_str());
    match (parent.group.as_str(), parent.kind.as_str()) {
        (GATEWAY_GROUP, "Gateway") => match objects.gateways.get(&name) {
            Some(gateway) => on_listeners(objects, Owner::of_gateway(gateway), route, parent),
            None => Err(("NoMatchingParent", format!("there is no Gateway {name}"))),
        },
        (GATEWAY_GROUP, "ListenerSet") => match objects.sets.get(&name) {
            Some(set) => match Owner::of_set(objects, set) {
                Some(owner) => on_listeners(objects, owner, route, parent),
                None => Err(("NoMatchingParent", format!("ListenerSet {name} is at no Gateway"))),
            },
            None => Err(("NoMatchingParent", format!("there is no ListenerSet {name}"))),
        },
        ("", "Service") if !route.mesh => {
            let message = format!("a {} is carried by Gateways only, not yet between services", route.kind);
            Err(("UnsupportedValue", message))
        }
        ("", "Service") => match objects.services.get(&name) {
            Some(service) => on_service(service, parent),
            None => Err(("NoMatchingParent", format!("there is no Service {name}"))),
        },
        (group, kind) => {
            let kind = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
            Err((
                "NoMatchingParent",
                format!("a {kind} cannot be a parent; use a Gateway, a ListenerSet or a Service"),
            ))
        }
    }
}

fn on_listeners(
    objects: &Objects<'_>,
    owner: Owner<'_>,
    route: Child<'_>,
    parent: &ParentRef,
) -> Result<Vec<RouteParent>, Refusal> {
    let (kind, name) = (owner.kind(), &owner.meta().name);
    let meant = |listener: &&ListenerSpec| {
        parent.section_name.as_ref().is_none_or(|section| *section == listener.name)
            && parent.port.is_none_or(|port| port == listener.port)
    };
    let mut listeners: Vec<_> = owner.listeners().iter().filter(meant).collect();
    if listeners.is_empty() {
        let names = owner.listeners().iter().map(|l| format!("`{}` on port {}", l.name, l.port));
        let names = names.collect::<Vec<_>>().join(", ");
        return Err(("NoMatchingParent", format!("{kind} {name} has no such listener, only {names}")));
    }
    let from = &route.meta.name.namespace;
    listeners.retain(|listener| {
        let allowed = &listener.allowed_routes.namespaces;
        let choice = Choice { from: allowed.from, selector: allowed.selector.as_ref(), own: &name.namespace };
        takes(listener, route.kind) && allows(objects, choice, from)
    });
    if listeners.is_empty() {
        let routes = route.kind;
        let message = format!("no listener of {kind} {name} allows {routes}s from namespace `{from}`");
        return Err(("NotAllowedByListeners", message));
    }
    let hosts = route.hostnames.iter().filter_map(|host| HostPattern::parse(host).ok());
    let hosts: Vec<_> = hosts.collect();
    let common = |listener: &ListenerSpec| {
        let hostname = HostPattern::parse(&listener.hostname).ok()?;
        let common = intersection(&hostname, &hosts);
        (!common.is_empty()).then(|| (owner.listener_name(&listener.name), common))
    };
    let common: Vec<_> = listeners.into_iter().filter_map(common).collect();
    if common.is_empty() {
        let written = route.hostnames.join(", ");
        let message = format!("no listener of {kind} {name} has a hostname in common with {written}");
        return Err(("NoMatchingListenerHostname", message));
    }
    let attached =
        common.into_iter().map(|(listener, hostnames)| RouteParent::Listener { listener, hostnames });
    Ok(attached.collect())
}

fn on_service(service: &Service, parent: &ParentRef) -> Result<Vec<RouteParent>, Refusal> {
    let name = service.meta.name.clone();
    if service.spec.is_external_name() {
        return Err(("UnsupportedValue", external_name(service)));
    }
    if service.spec.is_headless() {
        let message = format!("Service {name} is headless: it has no address whose traffic could be routed");
        return Err(("UnsupportedValue", message));
    }
    if parent.section_name.is_none() && parent.port.is_none() {
        return Ok(vec![RouteParent::Service { service: name, port: None }]);
    }
    let meant = tcp_ports(service).find(|(_, port)| {
        parent.section_name.as_ref().is_none_or(|section| *section == port.name)
            && parent.port.is_none_or(|number| number == port.port)
    });
    match meant {
        Some((_, port)) => Ok(vec![RouteParent::Service { service: name, port: Some(port.port) }]),
        None => Err(("NoMatchingParent", format!("Service {name} has no such port"))),
    }
}

/// What a listener and a route have in common; a route without hostnames takes the listener's.
fn intersection(listener: &HostPattern, route: &[HostPattern]) -> Vec<HostPattern> {
    if route.is_empty() {
        return vec![listener.clone()];
    }
    let mut common: Vec<_> = route.iter().filter_map(|host| host.intersect(listener)).collect();
    common.sort();
    common.dedup();
    common
}
