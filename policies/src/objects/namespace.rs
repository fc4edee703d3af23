//! Kubernetes v1 `Namespace`, for its labels: a listener may pick by them whose routes it takes. Cluster-scoped.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, Object, Spec, Written};

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NamespaceSpec {
    /// The cluster's own business.
    pub finalizers: Vec<String>,
}

impl Spec for NamespaceSpec {
    fn check(_object: &Written<Self>, _faults: &mut Faults) {}

    fn wrap(object: Written<Self>) -> Object {
        Object::Namespace(Box::new(object))
    }
}
