//! Secrets of our own: where they are, and as they are written.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kube::core::{ApiResource, DynamicObject, ObjectMeta, TypeMeta};
use kube::{Api, Client};
use serde_json::{Map, Value as Json, json};

pub(crate) fn secrets(client: Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: String::new(),
        version: String::from("v1"),
        api_version: String::from("v1"),
        kind: String::from("Secret"),
        plural: String::from("secrets"),
    };
    Api::namespaced_with(client, namespace, &resource)
}

/// `fields` under `name`; over `before` only if that is still what is stored, and with whatever else is in it.
pub(crate) fn secret<'a>(
    name: &str,
    fields: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    before: Option<&DynamicObject>,
) -> DynamicObject {
    let mut data: Map<String, Json> =
        before.and_then(|before| before.data["data"].as_object().cloned()).unwrap_or_default();
    data.extend(
        fields.into_iter().map(|(name, bytes)| (name.to_owned(), json!(BASE64_STANDARD.encode(bytes)))),
    );
    let metadata = match before {
        Some(before) => ObjectMeta { managed_fields: None, ..before.metadata.clone() },
        None => ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(String::from("app.kubernetes.io/part-of"), String::from("tidegate"))].into()),
            ..ObjectMeta::default()
        },
    };
    let types = TypeMeta { api_version: String::from("v1"), kind: String::from("Secret") };
    DynamicObject { types: Some(types), metadata, data: json!({ "type": "Opaque", "data": data }) }
}
