//! The ways that traffic takes, with a name for each, on which policies can hold.

use std::collections::BTreeMap;

use crate::attach::{Chain, Place};
use crate::model::{BackendKind, BackendName, Resources, Route, RouteFilter, RouteParent, StreamRoute};

/// Every way by its name.
pub(super) fn all(resources: &Resources) -> BTreeMap<String, Chain> {
    let mut ways = BTreeMap::new();
    let place = Place { resources, rule: None };
    for listener in resources.listeners.keys() {
        ways.insert(format!("connections at listener {listener}"), place.gateway(listener, None));
    }
    for name in resources.backends.keys() {
        ways.insert(format!("calls of {name}"), place.outbound_breakers(name, Some(name)));
        if name.kind == BackendKind::Service {
            for (at, chain) in Chain::inbound(&name.object, resources).into_iter().enumerate() {
                ways.insert(format!("where Service {} is served ({at})", name.object), chain);
            }
        }
    }
    for route in resources.routes.values() {
        of_route(route, resources, &mut ways);
    }
    for route in resources.streams.values() {
        of_stream(route, resources, &mut ways);
    }
    ways
}

fn of_route(route: &Route, resources: &Resources, ways: &mut BTreeMap<String, Chain>) {
    let label = format!("{} {}", route.kind.as_str(), route.meta.name);
    for rule in &route.rules {
        let place =
            Place { resources, rule: Some((route.kind.target(), &route.meta.name, rule.name.as_ref())) };
        let named = rule.name.as_ref().map(|name| format!("#{name}")).unwrap_or_default();
        let mut targets: Vec<(Option<&BackendName>, &[RouteFilter])> = Vec::new();
        targets.extend(rule.backends.iter().map(|b| (b.target.as_ref().ok(), &b.filters[..])));
        if targets.is_empty() {
            targets.push((None, &[]));
        }
        for (parent, (backend, below)) in
            route.parents.iter().flat_map(|p| targets.iter().map(move |t| (p, *t)))
        {
            let past = |chain: Chain| chain.past(&rule.filters).past(below);
            let extensions = extensions(&rule.filters) + &extensions(below);
            let to = backend.map_or_else(|| String::from("no backend"), ToString::to_string);
            match parent {
                RouteParent::Listener { listener, .. } => {
                    let name = format!("{label}{named} at listener {listener} to {to}{extensions}");
                    ways.insert(name, past(place.gateway(listener, backend)));
                }
                RouteParent::Service { service, port } => {
                    ways.insert(
                        format!("filters of {label}{named}{extensions}"),
                        past(place.outbound_filters()),
                    );
                    let ports = resources.ports_of(service).map(|backend| &backend.name);
                    for parent in ports.filter(|name| port.is_none_or(|port| port == name.port)) {
                        let name = format!("{label}{named} for calls of {parent} to {to}{extensions}");
                        ways.insert(name, past(place.outbound_breakers(parent, backend)));
                    }
                }
            }
        }
    }
}

/// What a route names itself tells its rules apart even where they have no name.
fn extensions(filters: &[RouteFilter]) -> String {
    RouteFilter::extensions(filters).map(|policy| format!(" by {} {}", policy.kind, policy.name)).collect()
}

fn of_stream(route: &StreamRoute, resources: &Resources, ways: &mut BTreeMap<String, Chain>) {
    let rule = Some((route.kind.target(), &route.meta.name, route.rule.name.as_ref()));
    let place = Place { resources, rule };
    for parent in &route.parents {
        let RouteParent::Listener { listener, .. } = parent else { continue };
        for backend in &route.rule.backends {
            let backend = backend.target.as_ref().ok();
            let to = backend.map_or_else(|| String::from("no backend"), ToString::to_string);
            let (kind, name) = (route.kind.as_str(), &route.meta.name);
            ways.insert(
                format!("{kind} {name} at listener {listener} to {to}"),
                place.gateway(listener, backend),
            );
        }
    }
}
