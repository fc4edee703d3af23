//! HTTPRoutes -> routes with parents and backends looked up.

use super::objects::Objects;
use super::rules::{Invalid, rules};
use super::{Condition, Resolved, parents};
use crate::model::{Resource, Route};
use crate::objects::HttpRoute;

pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    for route in objects.routes.values() {
        let (attached, told) = attach(objects, resolved, route);
        for condition in told {
            resolved.tell("HTTPRoute", &route.meta.name, condition);
        }
        let mesh = route.spec.parent_refs.iter().all(|parent| parent.kind == "Service");
        let mut invalid = Vec::new();
        match rules(objects, route, mesh, &mut invalid) {
            Ok(rules) => {
                resolved.tell("HTTPRoute", &route.meta.name, refs(&invalid));
                if !attached.is_empty() {
                    let route = Route { meta: route.meta.clone(), parents: attached, rules };
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

fn attach(
    objects: &Objects<'_>,
    resolved: &Resolved,
    route: &HttpRoute,
) -> (Vec<crate::model::RouteParent>, Vec<Condition>) {
    let (mut attached, mut told) = (Vec::new(), Vec::new());
    for (at, parent) in route.spec.parent_refs.iter().enumerate() {
        if let Some(gateway) = parents::stranger(objects, route, parent) {
            let why = objects.controller.stranger(gateway, objects.class(gateway));
            let message = format!("Gateway {}: {why}", gateway.meta.name);
            told.push(Condition::ignored("OtherGatewayClass", message).of_parent(at));
            continue;
        }
        let condition = match parents::resolve(objects, &resolved.resources, route, parent) {
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

fn refs(invalid: &[Invalid]) -> Condition {
    match invalid.first() {
        None => Condition::holds("ResolvedRefs", "ResolvedRefs", ""),
        Some(first) => {
            let messages: Vec<_> = invalid.iter().map(|invalid| invalid.message.as_str()).collect();
            Condition::fails("ResolvedRefs", first.reason, messages.join("; "))
        }
    }
}
