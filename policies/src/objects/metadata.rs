use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// Kubernetes `ObjectMeta`: what identifies an object, and what the mesh reads of the rest.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = [
    "uid", "resourceVersion", "managedFields", "ownerReferences", "finalizers", "selfLink", "generateName",
    "deletionTimestamp", "deletionGracePeriodSeconds"
]))]
pub(crate) struct Metadata {
    #[schemars(length(min = 1, max = 253))]
    pub(crate) name: String,
    #[serde(default = "default_namespace")]
    #[schemars(length(min = 1, max = 63))]
    pub(crate) namespace: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(rename = "creationTimestamp")]
    _creation_timestamp: Option<String>,
    #[serde(default)]
    pub(crate) generation: i64,
}

pub(crate) fn default_namespace() -> String {
    String::from("default")
}
