//! HTTPRoutes -> routes with parents and backends looked up.

use std::collections::BTreeSet;

use super::objects::Objects;
use super::parents::{self, Child, Refusal};
use super::rivals::Rivals;
use super::rules::{Invalid, rules};
use super::{Condition, Resolved, key};
use crate::model::{Resource, Route, RouteKind, RouteParent};

pub(super) fn resolve(objects: &Objects<'_>, rivals: &Rivals, resolved: &mut Resolved) {
    for route in objects.routes.values() {
        let child = Child::http(RouteKind::Http, route);
        let keep = |found| rivals.keep(RouteKind::Http, &route.meta.name, found);
        let (mut attached, told) = attach(objects, child, keep);
        for condition in told {
            resolved.tell("HTTPRoute", &route.meta.name, condition);
        }
        let mesh = route.spec.parent_refs.iter().all(|parent| parent.kind == "Service");
        let mut invalid = Vec::new();
        match rules(objects, (RouteKind::Http, route), mesh, &mut invalid) {
            Ok(rules) => {
                resolved.tell("HTTPRoute", &route.meta.name, refs(&invalid));
                count(&attached, resolved);
                attached.retain(|parent| is_usable(parent, resolved));
                if !attached.is_empty() {
                    let route =
                        Route { kind: RouteKind::Http, meta: route.meta.clone(), parents: attached, rules };
                    resolved.resources.insert(Resource::Route(route));
                }
            }
            Err(message) => {
                let condition = Condition::fails("Accepted", "UnsupportedValue", message);
                resolved.tell("HTTPRoute", &route.meta.name, condition);
            }
        }
    }
}

/// Adds an accepted route to each listener that it is attached to.
pub(super) fn count(attached: &[RouteParent], resolved: &mut Resolved) {
    let listeners = attached.iter().filter_map(|parent| match parent {
        RouteParent::Listener { listener, .. } => Some(listener),
        RouteParent::Service { .. } => None,
    });
    for name in listeners.collect::<BTreeSet<_>>() {
        let statuses = resolved
            .listeners
            .get_mut(&key(name.owner_kind(), name.owner()))
            .map_or(&mut [][..], Vec::as_mut_slice);
        statuses.iter_mut().filter(|status| status.name == name.section).for_each(|s| s.attached_routes += 1);
    }
}

pub(super) fn is_usable(parent: &RouteParent, resolved: &Resolved) -> bool {
    match parent {
        RouteParent::Listener { listener, .. } => resolved.resources.listeners.contains_key(listener),
        RouteParent::Service { .. } => true,
    }
}

/// Where a route holds, and what is to be said about each parentRef. `keep` may refuse places that others have.
pub(super) fn attach(
    objects: &Objects<'_>,
    route: Child<'_>,
    keep: impl Fn(Vec<RouteParent>) -> Result<Vec<RouteParent>, Refusal>,
) -> (Vec<RouteParent>, Vec<Condition>) {
    let (mut attached, mut told) = (Vec::new(), Vec::new());
    for (at, parent) in route.parent_refs.iter().enumerate() {
        if let Some(gateway) = parents::stranger(objects, route, parent) {
            let why = objects.controller.stranger(gateway, objects.class(gateway));
            let message = format!("Gateway {}: {why}", gateway.meta.name);
            told.push(Condition::ignored("OtherGatewayClass", message).of_parent(at));
            continue;
        }
        let condition = match parents::resolve(objects, route, parent).and_then(&keep) {
            Ok(found) => {
                for parent in found {
                    if !attached.contains(&parent) {
                        attached.push(parent);
                    }
                }
                Condition::accepted()
            }
            Err((reason, message)) => {
                let source = route.meta.at(route.lines.line(&format!("/parentRefs/{at}")));
                Condition::fails("Accepted", reason, format!("{source}: {message}"))
            }
        };
        told.push(condition.of_parent(at));
    }
    (attached, told)
}

pub(super) fn refs(invalid: &[Invalid]) -> Condition {
    match invalid.first() {
        None => Condition::holds("ResolvedRefs", "ResolvedRefs", ""),
        Some(first) => {
            let messages: Vec<_> = invalid.iter().map(|invalid| invalid.message.as_str()).collect();
            Condition::fails("ResolvedRefs", first.reason, messages.join("; "))
        }
    }
}
