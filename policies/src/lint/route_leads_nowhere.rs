//! A route that is accepted, and at which no request arrives.

use super::subject::Subject;
use super::{Findings, Lint};
use crate::document::ObjectKey;
use crate::model::{ResourceName, RouteKind, StreamKind};
use crate::objects::{Object, StreamRouteKind};

pub(super) const LINT: Lint = Lint {
    name: "route-leads-nowhere",
    about: "a route to which no request comes: it has no parent, or none that can be used",
    explanation: "\
A route holds where its `parentRefs` say: at listeners of a Gateway, or at a Service. Without any it is valid and does
nothing. Where all its listeners are refused (their own errors say why), it does nothing either.

    kind: HTTPRoute
    spec:
      rules: [{backendRefs: [{name: shop, port: 80}]}]          # parentRefs are missing

Name the Gateway or the Service that it is for.",
    look,
};

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    for object in &subject.objects {
        let (Some(meta), Some(key)) = (object.meta(), ObjectKey::of(object)) else { continue };
        let Some((parents, in_use)) = attached(subject, object, &meta.name) else { continue };
        let said = |kind: &str, holds: bool| {
            let told = subject.resolved.conditions.get(&key);
            told.is_some_and(|told| told.iter().any(|c| c.kind == kind && c.holds == holds))
        };
        // What is wrong with it, or another controller's, has been told.
        if in_use || said("Accepted", false) || said("Ignored", true) {
            continue;
        }
        let message = match parents {
            0 => "no request comes here: the route has no parentRefs",
            _ => "no request comes here: none of its listeners can be used",
        };
        let help = match parents {
            0 => "name the Gateway or the Service that it is for in `parentRefs`",
            _ => "see what is wrong with the listeners of its Gateway",
        };
        findings.tell(key, (meta.source.clone(), "/parentRefs"), message).help(help);
    }
}

/// How many parents a route names, and whether any is in use.
fn attached(subject: &Subject<'_>, object: &Object, name: &ResourceName) -> Option<(usize, bool)> {
    let resources = subject.resources();
    let routed = |kind| resources.routes.contains_key(&(kind, name.clone()));
    match object {
        Object::HttpRoute(route) => Some((route.spec.parent_refs.len(), routed(RouteKind::Http))),
        Object::GrpcRoute(route) => Some((route.spec.parent_refs.len(), routed(RouteKind::Grpc))),
        Object::StreamRoute(route) => {
            let kind = match route.spec.kind {
                StreamRouteKind::Tcp => StreamKind::Tcp,
                StreamRouteKind::Tls => StreamKind::Tls,
                StreamRouteKind::Udp => return None,
            };
            Some((route.spec.parent_refs.len(), resources.streams.contains_key(&(kind, name.clone()))))
        }
        _ => None,
    }
}
