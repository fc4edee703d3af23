//! Where the keys of an issuer are written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::crd::rules;
use crate::jwt::Jwks;
use crate::kind::{CompileContext, FieldError, FindText};

/// A JWK Set (RFC 7517). Write one of `inline` and `configMapRef`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rules::exactly_one(&["inline", "configMapRef"])]))]
pub(super) struct JwksSpec {
    /// As JSON. Keys that cannot be used here are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 131_072))]
    inline: Option<String>,
    /// Where it is, in the policy's own namespace. As long as it is not there, no token of this provider holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config_map_ref: Option<ConfigMapRef>,
}

/// One text of a ConfigMap.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConfigMapRef {
    #[schemars(length(min = 1, max = 253))]
    name: String,
    #[schemars(length(min = 1, max = 253))]
    key: String,
}

impl JwksSpec {
    /// `Some(None)`: they are still to be found.
    #[expect(clippy::option_option, reason = "wrong, or not there yet")]
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Option<Jwks>> {
        match (&self.inline, &self.config_map_ref) {
            (Some(text), None) => {
                let keys = Jwks::parse(text);
                keys.map_err(|why| cx.error(format!("{at}/inline"), why)).ok().map(Some)
            }
            (None, Some(_)) => Some(None),
            _ => {
                cx.error(at, "write one of `inline` and `configMapRef`");
                None
            }
        }
    }
}

/// Puts the sets that references lead to in their place. What leads to no set of keys stays as it is.
pub(super) fn look_up(spec: &mut Value, find: FindText<'_>) -> Vec<FieldError> {
    let mut faults = Vec::new();
    let providers = spec.get_mut("providers").and_then(Value::as_array_mut);
    for (i, provider) in providers.into_iter().flatten().enumerate() {
        let Some(jwks) = provider.get_mut("jwks") else { continue };
        let Some(reference) = jwks.get("configMapRef") else { continue };
        let Ok(ConfigMapRef { name, key }) = ConfigMapRef::deserialize(reference) else { continue };
        let found = find(&name, &key).and_then(|text| match Jwks::parse(&text) {
            Ok(_) => Ok(text),
            Err(why) => Err(format!("`{key}` of ConfigMap {name}: {why}")),
        });
        match found {
            Ok(text) => *jwks = serde_json::json!({ "inline": text }),
            Err(message) => {
                faults.push(FieldError { pointer: format!("/providers/{i}/jwks/configMapRef"), message });
            }
        }
    }
    faults
}
