//! Gateway API `GatewayClass`: which controller looks after the Gateways that name it. Cluster-scoped.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, Object, Spec, Written};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["description"]))]
pub struct GatewayClassSpec {
    /// `domain/path`.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,
    /// Settings of the controller; ours has none.
    pub parameters_ref: Option<ParametersRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParametersRef {
    pub group: String,
    pub kind: String,
    pub name: String,
    pub namespace: Option<String>,
}

impl Spec for GatewayClassSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        let name = &object.spec.controller_name;
        let is_path = |(domain, path): (&str, &str)| domain.contains('.') && !path.is_empty();
        if !name.split_once('/').is_some_and(is_path) {
            faults.error("/controllerName", format!("`{name}` is not of the form example.com/name"));
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::GatewayClass(Box::new(object))
    }
}
