//! Kubernetes `ConfigMap`, as far as a bundle of CA certificates is in one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::decoded;
use super::{Faults, Object, Spec, Written};

/// What a ConfigMap holds beside its metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-ignored" = ["immutable"]))]
pub struct ConfigMapSpec {
    /// As it is.
    data: BTreeMap<String, String>,
    /// Base64. Shares no key with `data`.
    binary_data: BTreeMap<String, String>,
}

impl ConfigMapSpec {
    /// The bytes under `key`; `None` where there are none.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.data.get(key) {
            Some(text) => Some(text.clone().into_bytes()),
            None => decoded(self.binary_data.get(key)?),
        }
    }
}

impl Spec for ConfigMapSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        let ConfigMapSpec { data, binary_data } = &object.spec;
        for (key, value) in binary_data {
            let at = format!("/binaryData/{key}");
            if data.contains_key(key) {
                faults.error(at, format!("`{key}` is under `data` too"));
            } else if decoded(value).is_none() {
                faults.error_with_help(at, "is not base64", "put plain text under `data`");
            }
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::ConfigMap(Box::new(object))
    }
}
