//! TCPRoutes and TLSRoutes -> routes of whole connections. UDPRoutes are looked at only to tell their authors that no
//! listener takes them.

use std::collections::BTreeMap;

use super::Resolved;
use super::grants::Referrer;
use super::objects::Objects;
use super::parents::Child;
use super::routes::{attach, count, is_usable, refs};
use super::rules::{Asked, Carries, Invalid, lookup};
use crate::model::{
    HostPattern, ListenerName, Resource, ResourceName, RouteParent, StreamBackend, StreamKind, StreamRoute,
    StreamRule,
};
use crate::objects::{GATEWAY_GROUP, StreamRoute as Written, StreamRouteKind, StreamRuleSpec};

/// Who is first at each place, of the routes looked at so far.
type Holders = BTreeMap<(ListenerName, HostPattern), ResourceName>;

/// Of several routes for the same connections the older one gets them, then the first by name; the others are accepted
/// and wait (Gateway API, "Conflicts").
pub(super) fn resolve(objects: &Objects<'_>, resolved: &mut Resolved) {
    let mut routes: Vec<&Written> = objects.streams.values().copied().collect();
    routes.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
    let mut holders = Holders::new();
    for route in routes {
        let (kind, name) = (route.spec.kind.as_str(), &route.meta.name);
        let (mut attached, mut told) = attach(objects, Child::stream(route), Ok);
        if let Some(message) = shadowed(&mut holders, route, &attached) {
            let accepted =
                told.iter_mut().filter(|condition| condition.kind == "Accepted" && condition.holds);
            accepted.for_each(|condition| condition.message.clone_from(&message));
        }
        for condition in told {
            resolved.tell(kind, name, condition);
        }
        let mut invalid = Vec::new();
        let rule = route.spec.rules.first().map(|rule| compile(objects, route, rule, &mut invalid));
        resolved.tell(kind, name, refs(&invalid));
        count(&attached, resolved);
        attached.retain(|parent| is_usable(parent, resolved));
        if let (Some(kind), Some(rule), false) = (carried(route.spec.kind), rule, attached.is_empty()) {
            let route = StreamRoute { kind, meta: route.meta.clone(), parents: attached, rule };
            resolved.resources.insert(Resource::StreamRoute(route));
        }
    }
}

const fn carried(kind: StreamRouteKind) -> Option<StreamKind> {
    match kind {
        StreamRouteKind::Tcp => Some(StreamKind::Tcp),
        StreamRouteKind::Tls => Some(StreamKind::Tls),
        StreamRouteKind::Udp => None,
    }
}

/// Takes the places that are free; what to say if there were none.
fn shadowed(holders: &mut Holders, route: &Written, attached: &[RouteParent]) -> Option<String> {
    let (mut free, mut first) = (attached.is_empty(), None);
    for parent in attached {
        let RouteParent::Listener { listener, hostnames } = parent else { continue };
        for hostname in hostnames {
            let place = (listener.clone(), hostname.clone());
            match holders.get(&place) {
                None => {
                    holders.insert(place, route.meta.name.clone());
                    free = true;
                }
                Some(holder) => first = first.or_else(|| Some((holder.clone(), listener.clone()))),
            }
        }
    }
    let (holder, listener) = first.filter(|_| !free)?;
    let source = route.meta.at(route.lines.line("/parentRefs/0"));
    let kind = route.spec.kind.as_str();
    Some(format!(
        "{source}: no connection comes here while {kind} {holder} has them: it is older, or first by name, at listener \
         {listener}"
    ))
}

fn compile(
    objects: &Objects<'_>,
    route: &Written,
    rule: &StreamRuleSpec,
    invalid: &mut Vec<Invalid>,
) -> StreamRule {
    let referrer = Referrer {
        group: GATEWAY_GROUP,
        kind: route.spec.kind.as_str(),
        namespace: &route.meta.name.namespace,
    };
    let asked = Asked { referrer, mesh: false, carries: Carries::Streams };
    let backends = rule.backend_refs.iter().enumerate().map(|(at, backend)| {
        let target = lookup(objects, asked, &backend.as_backend_ref()).map_err(|(why, message)| {
            let line = route.lines.line(&format!("/rules/0/backendRefs/{at}"));
            invalid.push(Invalid::new(why, &route.meta.at(line), &message));
            why
        });
        StreamBackend { target, weight: backend.weight }
    });
    StreamRule {
        name: rule.name.as_deref().map(Into::into),
        source: route.meta.at(route.lines.line("/rules/0")),
        backends: backends.collect(),
    }
}
