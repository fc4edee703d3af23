//! What lints look at: objects, what they mean together, and what a proxy would make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::attach::{Attachments, Chain};
use crate::document::ObjectKey;
use crate::kind::{Compiled, Parts};
use crate::kinds;
use crate::model::{Policy, PolicyRef, ResourceName, Resources, RouteKind, RouteParent, SourceRef};
use crate::objects::Object;
use crate::resolve::Resolved;
use crate::snapshot::{Local, Rule, Snapshot};
use crate::state::StateStore;

/// See the module.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    pub(super) objects: Vec<&'a Object>,
    pub(super) resolved: &'a Resolved,
    /// As a gateway has it, and a sidecar in no namespace of its own.
    pub(super) snapshot: Snapshot,
    /// Every valid policy.
    pub(super) policies: Vec<Valid<'a>>,
    pub(super) attachments: Attachments<'a>,
    /// Every way that traffic can take, and the policies that hold on it.
    pub(super) ways: Vec<(Chain, Vec<&'a Policy>)>,
}

/// A policy with what became of it.
#[derive(Debug)]
pub(super) struct Valid<'a> {
    pub(super) policy: &'a Policy,
    pub(super) compiled: Compiled,
    pub(super) parts: Parts,
}

impl<'a> Subject<'a> {
    pub(super) fn new(objects: impl IntoIterator<Item = &'a Object>, resolved: &'a Resolved) -> Self {
        let resources = &resolved.resources;
        // Nothing is counted here, so the store is for this one look.
        let (snapshot, _) = Snapshot::build(resources, &Local::default(), &StateStore::new([0; 2]));
        let valid = |policy: &'a Policy| {
            let (compiled, parts) = kinds::find(&policy.kind)?.take_apart(policy)?;
            Some(Valid { policy, compiled, parts })
        };
        let attachments = Attachments::new(resources.policies.values());
        let ways = Chain::all(resources).into_iter().map(|chain| {
            let effective = attachments.effective(&chain);
            (chain, effective)
        });
        Self {
            objects: objects.into_iter().collect(),
            resolved,
            snapshot,
            policies: resources.policies.values().filter_map(valid).collect(),
            ways: ways.collect(),
            attachments,
        }
    }

    pub(super) fn resources(&self) -> &'a Resources {
        &self.resolved.resources
    }

    pub(super) fn policy(&self, reference: &PolicyRef) -> Option<&'a Policy> {
        let key = (reference.kind.to_string(), reference.name.clone());
        self.resources().policies.get(&key)
    }

    /// Whether some routes hold only for callers in their own namespace: of these there is nothing in the snapshot.
    pub(super) fn has_consumer_routes(&self) -> bool {
        self.resources().routes.values().any(|route| {
            route.parents.iter().any(|parent| match parent {
                RouteParent::Service { service, .. } => service.namespace != route.meta.name.namespace,
                RouteParent::Listener { .. } => false,
            })
        })
    }

    /// Each rule of the snapshot once, with its targets.
    pub(super) fn rules(&self) -> Vec<&Arc<Rule>> {
        let mut seen = BTreeMap::new();
        for (rule, _) in self.snapshot.targets() {
            seen.entry(Arc::as_ptr(rule)).or_insert(rule);
        }
        seen.into_values().collect()
    }
}

/// The route, and the place in it, of a rule; `field` is one of its own.
pub(super) fn of_rule(
    subject: &Subject<'_>,
    rule: &Rule,
    field: &str,
) -> Option<(ObjectKey, (SourceRef, String))> {
    let kind = if rule.grpc { RouteKind::Grpc } else { RouteKind::Http };
    let name: ResourceName = rule.route.as_deref()?.parse().ok()?;
    let source = rule.source.clone()?;
    let route = subject.resources().routes.get(&(kind, name.clone()))?;
    let named = |index: &usize| match &route.rules[*index].name {
        Some(name) => *name == rule.name,
        None => *index.to_string() == *rule.name,
    };
    let index = (0..route.rules.len()).find(named)?;
    Some((route_key(kind.as_str(), &name), (source, format!("/rules/{index}{field}"))))
}

/// The object that a rule is written in.
pub(super) fn route_key(kind: &str, name: &ResourceName) -> ObjectKey {
    ObjectKey { kind: kind.to_owned(), namespace: name.namespace.to_string(), name: name.name.to_string() }
}

pub(super) fn key_of(policy: &Policy) -> ObjectKey {
    let ResourceName { namespace, name } = &policy.meta.name;
    ObjectKey { kind: policy.kind.to_string(), namespace: namespace.to_string(), name: name.to_string() }
}
