//! Where listeners are written: in a Gateway, or in a ListenerSet that names it as its parent (GEP-1713). Everything else
//! about them is the same, and the rest of the code asks an [`Owner`].

use super::grants::Referrer;
use super::objects::Objects;
use crate::model::{ListenerName, Meta, ResourceName, SourceRef};
use crate::objects::{GATEWAY_GROUP, Gateway, ListenerSet, ListenerSpec};

#[derive(Clone, Copy, Debug)]
pub(super) struct Owner<'a> {
    /// At whose addresses the listeners are.
    pub(super) gateway: &'a Gateway,
    /// `None`: they are the Gateway's own.
    pub(super) set: Option<&'a ListenerSet>,
}

impl<'a> Owner<'a> {
    pub(super) fn of_gateway(gateway: &'a Gateway) -> Self {
        Self { gateway, set: None }
    }

    /// The ListenerSet at its Gateway, if that is ours, whether or not it allows it.
    pub(super) fn of_set(objects: &Objects<'a>, set: &'a ListenerSet) -> Option<Self> {
        let gateway = *objects.gateways.get(&parent(set)?)?;
        Some(Self { gateway, set: Some(set) })
    }

    /// As in `kind:` of the document.
    pub(super) fn kind(self) -> &'static str {
        if self.set.is_some() { "ListenerSet" } else { "Gateway" }
    }

    pub(super) fn meta(self) -> &'a Meta {
        self.set.map_or(&self.gateway.meta, |set| &set.meta)
    }

    pub(super) fn listeners(self) -> &'a [ListenerSpec] {
        self.set.map_or(&self.gateway.spec.listeners, |set| &set.spec.listeners)
    }

    /// The place of a listener, by its number.
    pub(super) fn source(self, at: usize) -> SourceRef {
        let lines = self.set.map_or(&self.gateway.lines, |set| &set.lines);
        self.meta().at(lines.line(&format!("/listeners/{at}")))
    }

    pub(super) fn listener_name(self, section: &str) -> ListenerName {
        ListenerName {
            gateway: self.gateway.meta.name.clone(),
            set: self.set.map(|set| set.meta.name.clone()),
            section: section.into(),
        }
    }

    /// What is granted to a Gateway is not granted to its ListenerSets, nor the other way round (GEP-1713).
    pub(super) fn referrer(self) -> Referrer<'a> {
        Referrer { group: GATEWAY_GROUP, kind: self.kind(), namespace: &self.meta().name.namespace }
    }
}

/// The Gateway that a ListenerSet names; `None` where it names something else.
pub(super) fn parent(set: &ListenerSet) -> Option<ResourceName> {
    let parent = &set.spec.parent_ref;
    let namespace = parent.namespace.as_deref().unwrap_or(&set.meta.name.namespace);
    let is_gateway = parent.group == GATEWAY_GROUP && parent.kind == "Gateway";
    is_gateway.then(|| ResourceName::new(namespace, parent.name.as_str()))
}
