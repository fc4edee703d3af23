//! Gateways -> listeners.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::objects::Objects;
use super::{Condition, Resolved};
use crate::model::{HostPattern, Listener, ListenerName, Resource, SourceRef};
use crate::objects::{Gateway, ListenerProtocol, ListenerSpec, RouteGroupKind};

/// The only kind of route so far.
const ROUTE_KIND: &str = "HTTPRoute";

/// Where requests are told apart: a socket and a host name.
type Place = (Option<IpAddr>, u16, HostPattern);

pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    let mut taken = BTreeMap::<Place, (ListenerName, SourceRef)>::new();
    let mut gateways: Vec<&Gateway> = objects.gateways.values().copied().collect();
    gateways.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
    for gateway in gateways {
        let mut told = Vec::new();
        let usable = usable(gateway, &mut told);
        for listener in apart(&usable, &mut told) {
            let rival = places(&listener).find_map(|place| taken.get(&place));
            let clash = rival.map(|(other, source)| conflict(&listener, other, source));
            match clash.or_else(|| overlap(&listener, &taken)) {
                Some(clash) => told.push(clash),
                None => {
                    for place in places(&listener) {
                        taken.insert(place, (listener.name.clone(), listener.source.clone()));
                    }
                    resolved.resources.insert(Resource::Listener(listener));
                }
            }
        }
        let works = resolved.resources.listeners.keys().any(|name| name.gateway == gateway.meta.name);
        if let Some(accepted) = accepted(&told, works) {
            told.push(accepted);
        }
        for condition in told {
            resolved.tell("Gateway", &gateway.meta.name, condition);
        }
    }
}

/// What is still to be said about the Gateway as a whole.
fn accepted(told: &[Condition], works: bool) -> Option<Condition> {
    if told.iter().any(|condition| condition.kind == "Accepted") {
        return None;
    }
    Some(match (told.iter().any(|condition| condition.kind == "Conflicted"), works) {
        (false, _) => Condition::accepted(),
        (true, true) => Condition::holds("Accepted", "ListenersNotValid", "some listeners cannot be used"),
        (true, false) => Condition::fails("Accepted", "ListenersNotValid", "no listener can be used"),
    })
}

/// The listeners that can be used by themselves.
fn usable(gateway: &Gateway, told: &mut Vec<Condition>) -> Vec<Listener> {
    let addresses = gateway.spec.addresses.iter().filter_map(|address| address.value.parse().ok());
    let addresses: Vec<IpAddr> = addresses.collect();
    let mut usable = Vec::new();
    for (at, spec) in gateway.spec.listeners.iter().enumerate() {
        let source = gateway.meta.at(gateway.lines.line(&format!("/listeners/{at}")));
        if let Some(kind) = unknown_kind(spec) {
            let message =
                format!("{source}: listener `{}` allows routes of unknown kind `{kind}`", spec.name);
            told.push(Condition::fails("ResolvedRefs", "InvalidRouteKinds", message));
        }
        let hostname = HostPattern::parse(&spec.hostname);
        let (ListenerProtocol::Http, Ok(hostname)) = (spec.protocol, hostname) else {
            let message = format!("{source}: listener `{}` is not an HTTP listener", spec.name);
            told.push(Condition::fails("Accepted", "ListenersNotValid", message));
            continue;
        };
        let name = ListenerName { gateway: gateway.meta.name.clone(), section: spec.name.as_str().into() };
        usable.push(Listener { name, source, addresses: addresses.clone(), port: spec.port, hostname });
    }
    usable
}

/// Listeners of one Gateway with the same port and hostname: none of them wins.
fn apart(listeners: &[Listener], told: &mut Vec<Condition>) -> Vec<Listener> {
    let same = |a: &Listener, b: &Listener| a.port == b.port && a.hostname == b.hostname;
    let rival = |this: &Listener| listeners.iter().find(|that| that.name != this.name && same(this, that));
    let (kept, dropped): (Vec<_>, Vec<_>) = listeners.iter().partition(|listener| rival(listener).is_none());
    for listener in dropped {
        if let Some(other) = rival(listener) {
            told.push(conflict(listener, &other.name, &other.source));
        }
    }
    kept.into_iter().cloned().collect()
}

fn conflict(listener: &Listener, other: &ListenerName, other_source: &SourceRef) -> Condition {
    let message = format!(
        "{}: listener {} has the same address, port and hostname as {other} ({other_source})",
        listener.source, listener.name
    );
    Condition::holds("Conflicted", "HostnameConflict", message)
}

/// One address cannot be bound beside all addresses of the same port, whatever the hostnames are.
fn overlap(listener: &Listener, taken: &BTreeMap<Place, (ListenerName, SourceRef)>) -> Option<Condition> {
    let on_all = listener.addresses.is_empty();
    let overlaps = |(ip, port, _): &Place| *port == listener.port && ip.is_none() != on_all;
    let (_, (other, other_source)) = taken.iter().find(|(place, _)| overlaps(place))?;
    let (ours, theirs) = if on_all { ("all addresses", "one") } else { ("one address", "all") };
    let message = format!(
        "{}: listener {} is for {ours} of port {}, and {other} for {theirs} ({other_source}): give both Gateways \
         `addresses`, or neither",
        listener.source, listener.name, listener.port
    );
    Some(Condition::holds("Conflicted", "PortUnavailable", message))
}

fn places(listener: &Listener) -> impl Iterator<Item = Place> + use<'_> {
    let all = listener.addresses.is_empty().then_some(None);
    let ips = all.into_iter().chain(listener.addresses.iter().copied().map(Some));
    ips.map(|ip| (ip, listener.port, listener.hostname.clone()))
}

fn unknown_kind(spec: &ListenerSpec) -> Option<&str> {
    spec.allowed_routes.kinds.iter().find(|kind| !is_known(kind)).map(|kind| kind.kind.as_str())
}

fn is_known(kind: &RouteGroupKind) -> bool {
    kind.group == crate::objects::GATEWAY_GROUP && kind.kind == ROUTE_KIND
}

/// Whether the listener takes HTTPRoutes at all.
pub(super) fn takes_routes(spec: &ListenerSpec) -> bool {
    let kinds = &spec.allowed_routes.kinds;
    kinds.is_empty() || kinds.iter().any(is_known)
}
