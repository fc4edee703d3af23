//! Kubernetes `Secret`, as far as a listener's certificate is in one.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Faults, Object, Spec, Written};

/// The type whose data is a certificate and its key.
pub const TLS_SECRET: &str = "kubernetes.io/tls";

/// What a Secret holds beside its metadata. Its content is never printed.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-ignored" = ["immutable"]))]
pub struct SecretSpec {
    #[serde(default = "opaque", rename = "type")]
    pub kind: String,
    /// Base64.
    #[serde(default)]
    data: BTreeMap<String, String>,
    /// As it is; wins over `data`.
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

impl SecretSpec {
    /// The bytes under `key`; `None` where there are none.
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        match self.string_data.get(key) {
            Some(text) => Some(text.clone().into_bytes()),
            None => decoded(self.data.get(key)?),
        }
    }
}

impl Spec for SecretSpec {
    fn check(object: &Written<Self>, faults: &mut Faults) {
        for (key, value) in &object.spec.data {
            if decoded(value).is_none() {
                let help = "put plain text under `stringData`";
                faults.error_with_help(format!("/data/{key}"), "is not base64", help);
            }
        }
    }

    fn wrap(object: Written<Self>) -> Object {
        Object::Secret(Box::new(object))
    }
}

impl fmt::Debug for SecretSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.keys().chain(self.string_data.keys()).collect();
        f.debug_struct("SecretSpec").field("type", &self.kind).field("keys", &keys).finish()
    }
}

/// Line breaks are allowed: YAML blocks have them.
pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    let bare: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(bare).ok()
}

fn opaque() -> String {
    String::from("Opaque")
}
