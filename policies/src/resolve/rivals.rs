//! HTTPRoutes and GRPCRoutes in one place: they are never merged, so only one kind can have it.
//!
//! On a listener, of two routes of different kinds with a hostname in common the older holds, then the first by name
//! (`GRPCRoute.hostnames`). On a Service's port gRPC goes first (GEP-1294).

use std::collections::BTreeMap;

use super::grpc_routes::as_http;
use super::objects::Objects;
use super::parents::{self, Child, Refusal};
use crate::model::{HostPattern, ListenerName, Meta, ResourceName, RouteKind, RouteParent};
use crate::objects::HttpRoute;

/// Who has what.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    listeners: BTreeMap<ListenerName, Vec<Holder>>,
    services: Vec<(ResourceName, Option<u16>, ResourceName)>,
}

#[derive(Debug)]
struct Holder {
    kind: RouteKind,
    route: ResourceName,
    hostnames: Vec<HostPattern>,
}

impl Rivals {
    pub(super) fn find(objects: &Objects<'_>) -> Self {
        let mut rivals = Self::default();
        if objects.grpc_routes.is_empty() {
            return rivals;
        }
        let grpc: Vec<_> = objects.grpc_routes.values().map(|route| as_http(route)).collect();
        let http = objects.routes.values().map(|route| (RouteKind::Http, *route));
        let mut all: Vec<_> = http.chain(grpc.iter().map(|route| (RouteKind::Grpc, route))).collect();
        all.sort_by(|(a, left), (b, right)| (left.meta.precedence(), a).cmp(&(right.meta.precedence(), b)));
        for (kind, route) in all {
            for found in parents_of(objects, kind, route) {
                rivals.claim(kind, &route.meta, found);
            }
        }
        rivals
    }

    fn claim(&mut self, kind: RouteKind, route: &Meta, parent: RouteParent) {
        match parent {
            RouteParent::Listener { listener, hostnames } => {
                if self.holder(kind, &listener, &hostnames).is_none() {
                    let holder = Holder { kind, route: route.name.clone(), hostnames };
                    self.listeners.entry(listener).or_default().push(holder);
                }
            }
            RouteParent::Service { service, port } if kind == RouteKind::Grpc => {
                self.services.push((service, port, route.name.clone()));
            }
            RouteParent::Service { .. } => {}
        }
    }

    /// The route of another kind that has one of these hostnames.
    fn holder(
        &self,
        kind: RouteKind,
        listener: &ListenerName,
        hostnames: &[HostPattern],
    ) -> Option<(RouteKind, &ResourceName)> {
        let common = |other: &&Holder| {
            other.hostnames.iter().any(|a| hostnames.iter().any(|b| a.intersect(b).is_some()))
        };
        let others = self.listeners.get(listener)?.iter().filter(|holder| holder.kind != kind);
        others.filter(common).map(|holder| (holder.kind, &holder.route)).next()
    }

    /// What is left of `found`, the places of one parentRef.
    ///
    /// # Errors
    /// Routes of the other kind have all of them.
    pub(super) fn keep(
        &self,
        kind: RouteKind,
        route: &ResourceName,
        found: Vec<RouteParent>,
    ) -> Result<Vec<RouteParent>, Refusal> {
        let mut taken = None;
        let kept = found.into_iter().filter(|parent| {
            let rival = match parent {
                RouteParent::Listener { listener, hostnames } => self.holder(kind, listener, hostnames),
                RouteParent::Service { service, port } if kind == RouteKind::Http => self
                    .services
                    .iter()
                    // Routes from elsewhere are for other callers.
                    .filter(|(of, _, other)| of == service && other.namespace == route.namespace)
                    .find(|(_, taken, _)| taken.is_none() || taken == port)
                    .map(|(_, _, other)| (RouteKind::Grpc, other)),
                RouteParent::Service { .. } => None,
            };
            taken = taken.or(rival);
            rival.is_none()
        });
        let kept: Vec<_> = kept.collect();
        match taken {
            Some((kind, other)) if kept.is_empty() => {
                let kind = kind.as_str();
                Err(("Conflicted", format!("{kind} {other} has this place, and kinds are not merged")))
            }
            _ => Ok(kept),
        }
    }
}

fn parents_of(objects: &Objects<'_>, kind: RouteKind, route: &HttpRoute) -> Vec<RouteParent> {
    let refs = route.spec.parent_refs.iter();
    let found = refs.filter_map(|parent| parents::resolve(objects, Child::http(kind, route), parent).ok());
    found.flatten().collect()
}
