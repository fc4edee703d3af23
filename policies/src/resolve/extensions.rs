//! ExtensionRef: the policies that routes name in their filters.

use std::collections::BTreeMap;

use super::objects::Objects;
use crate::document::schema::nearest;
use crate::kind::Compiled;
use crate::kinds::{KINDS, find};
use crate::model::{PolicyKey, ResourceName, RouteFilter, RouteKind, TargetRef};
use crate::objects::{ExtensionRefSpec, HttpFilterSpec, HttpRoute, TIDEGATE_GROUP};

/// Where a filter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Rule,
    BackendRef,
}

/// The policy that is named, in the route's own namespace. `before`: the filters before this one, of the same level.
///
/// # Errors
/// The reason of `ResolvedRefs`, and what is wrong. The filter must not be skipped.
pub(super) fn lookup(
    objects: &Objects<'_>,
    namespace: &str,
    (level, before): (Level, &[RouteFilter]),
    written: &ExtensionRefSpec,
) -> Result<PolicyKey, (&'static str, String)> {
    let ExtensionRefSpec { group, kind, name } = written;
    if group != TIDEGATE_GROUP {
        let message = format!("no filter is of the group `{group}`; policies are of {TIDEGATE_GROUP}");
        return Err(("InvalidKind", message));
    }
    let Some(entry) = find(kind) else {
        let near = hint(nearest(kind, KINDS.iter().map(|entry| entry.kind)));
        return Err(("InvalidKind", format!("`{kind}` is not a policy kind{near}")));
    };
    let object = ResourceName::new(namespace, name.as_str());
    let Some(policy) = objects.policies.get(&(kind.as_str(), &object)) else {
        let here = objects.policies.keys().filter(|(of, at)| of == kind && *at.namespace == *namespace);
        let near = hint(nearest(name, here.map(|(_, at)| &*at.name)));
        return Err(("PolicyNotFound", format!("there is no {kind} {object}{near}")));
    };
    match entry.compile(policy) {
        Err(_) => Err(("PolicyNotValid", format!("the {kind} {object} is not valid"))),
        Ok(Compiled::Cohort(_)) if level == Level::BackendRef => Err((
            "IncompatibleFilters",
            format!("a {kind} picks among backendRefs: name it in the rule's filters"),
        )),
        // There is one guard of each kind of a backend, one who picks, and one plan of its calls.
        Ok(
            Compiled::Cohort(_)
            | Compiled::CircuitBreaker(_)
            | Compiled::HealthCheck(_)
            | Compiled::Retry(_)
            | Compiled::Timeout(_),
        ) if RouteFilter::extensions(before).any(|other| *other.kind == **kind) => {
            Err(("IncompatibleFilters", format!("a second {kind} beside the first: name one")))
        }
        Ok(_) => Ok(policy.key()),
    }
}

fn hint(near: Option<&str>) -> String {
    near.map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}

/// Every policy that a route names, attached or not, with the rules that do.
pub(super) fn named(objects: &Objects<'_>) -> BTreeMap<PolicyKey, Vec<TargetRef>> {
    let mut named = BTreeMap::new();
    for route in objects.routes.values() {
        of_route(RouteKind::Http, route, &mut named);
    }
    for route in objects.grpc_routes.values() {
        of_route(RouteKind::Grpc, &super::grpc_routes::as_http(route), &mut named);
    }
    named
}

fn of_route(kind: RouteKind, route: &HttpRoute, named: &mut BTreeMap<PolicyKey, Vec<TargetRef>>) {
    let object = &route.meta.name;
    for rule in &route.spec.rules {
        let below = rule.backend_refs.iter().flat_map(|backend| &backend.filters);
        let section = rule.name.as_deref().map(Into::into);
        let target = TargetRef { kind: kind.target(), object: object.clone(), section };
        for written in rule.filters.iter().chain(below).filter_map(ours) {
            let name = ResourceName::new(object.namespace.clone(), written.name.as_str());
            let rules = named.entry(PolicyKey { kind: written.kind.as_str().into(), name }).or_default();
            if !rules.contains(&target) {
                rules.push(target.clone());
            }
        }
    }
}

fn ours(filter: &HttpFilterSpec) -> Option<&ExtensionRefSpec> {
    filter.extension_ref.as_ref().filter(|written| written.group == TIDEGATE_GROUP)
}
