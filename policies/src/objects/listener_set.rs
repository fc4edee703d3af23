//! Gateway API `ListenerSet` (GEP-1713): listeners that somebody else than its owner adds to a Gateway.

use schemars::JsonSchema;
use serde::Deserialize;

use super::gateway::check_listeners;
use super::rules::Reference;
use super::{Faults, ListenerSpec, Object, Spec, Written, gateway_group, gateway_kind};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    pub parent_ref: ParentGatewayRef,
    /// On the addresses of the Gateway. Their names need not differ from those of its own listeners.
    #[schemars(length(min = 1, max = 64))]
    pub listeners: Vec<ListenerSpec>,
}

/// Gateway API `ParentGatewayReference`. It needs no ReferenceGrant: `allowedListeners` of the Gateway decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentGatewayRef {
    #[serde(default = "gateway_group")]
    #[schemars(length(max = 253))]
    pub group: String,
    #[serde(default = "gateway_kind")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Absent: the ListenerSet's own.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl Spec for ListenerSetSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        let ParentGatewayRef { group, kind, namespace, .. } = &object.spec.parent_ref;
        Reference { group, kind, namespace: namespace.as_deref() }.check("/parentRef", faults);
        check_listeners(&object.spec.listeners, faults);
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::ListenerSet(Box::new(object))
    }
}
