//! Gateway API `ReferenceGrant`: who may refer to objects of its namespace from another one.

use schemars::JsonSchema;
use serde::Deserialize;

use super::rules::Reference;
use super::{Faults, Object, Spec, Written};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// ORed.
    #[schemars(length(min = 1, max = 16))]
    pub from: Vec<GrantFrom>,
    /// ORed.
    #[schemars(length(min = 1, max = 16))]
    pub to: Vec<GrantTo>,
}

/// Who refers. An HTTPRoute and a GRPCRoute are two kinds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantFrom {
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// What may be referred to, in the namespace of the grant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantTo {
    /// The empty group is the core one, of Service and Secret.
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Absent: every object of the kind.
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
}

impl Spec for ReferenceGrantSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        for (i, GrantFrom { group, kind, namespace }) in object.spec.from.iter().enumerate() {
            Reference { group, kind, namespace: Some(namespace) }.check(&format!("/from/{i}"), faults);
        }
        for (i, GrantTo { group, kind, .. }) in object.spec.to.iter().enumerate() {
            Reference { group, kind, namespace: None }.check(&format!("/to/{i}"), faults);
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::ReferenceGrant(Box::new(object))
    }
}
