//! Gateway API `GatewayClass`: which controller looks after the Gateways that name it. Cluster-scoped.

use schemars::JsonSchema;
use serde::Deserialize;

use super::rules::{Reference, is_dns_subdomain};
use super::{Faults, Object, Spec, Written};

#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// `domain/path`.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,
    /// Settings of the controller; ours has none.
    pub parameters_ref: Option<ParametersRef>,
    /// For people.
    #[schemars(length(max = 64))]
    pub description: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParametersRef {
    #[schemars(length(max = 253))]
    pub group: String,
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    pub namespace: Option<String>,
}

impl Spec for GatewayClassSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        let name = &object.spec.controller_name;
        let is_path = |(domain, path): (&str, &str)| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
            is_dns_subdomain(domain) && !path.is_empty() && path.chars().all(allowed)
        };
        if !name.split_once('/').is_some_and(is_path) {
            faults.error("/controllerName", format!("`{name}` is not of the form example.com/name"));
        }
        if let Some(ParametersRef { group, kind, namespace, .. }) = &object.spec.parameters_ref {
            Reference { group, kind, namespace: namespace.as_deref() }.check("/parametersRef", faults);
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::GatewayClass(Box::new(object))
    }
}
