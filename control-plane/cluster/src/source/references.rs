//! Which Secrets and ConfigMaps an object names: only these are read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value as Json;
use tidegate_policy::kinds;

use crate::kinds::REFERRED;

/// The name of an object that is read because another names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

/// What `object`, of `kind` and in `namespace`, names. Whether it may, by a ReferenceGrant, is judged with the objects.
pub fn references(kind: &str, namespace: &str, object: &Json) -> Vec<Reference> {
    let mut found = BTreeSet::new();
    match kinds::find(kind) {
        Some(entry) => {
            let named = RefCell::new(BTreeSet::new());
            let mut spec = object.get("spec").cloned().unwrap_or_default();
            let _ = (entry.look_up)(&mut spec, &|name, _| {
                named.borrow_mut().insert(name.to_owned());
                Err(String::new())
            });
            found.extend(named.into_inner().into_iter().map(|name| Reference {
                kind: "ConfigMap",
                namespace: namespace.to_owned(),
                name,
            }));
        }
        None if matches!(kind, "Gateway" | "ListenerSet" | "BackendTLSPolicy") => {
            walk(object.get("spec").unwrap_or(&Json::Null), "", namespace, &mut found);
        }
        None => {}
    }
    found.into_iter().collect()
}

/// The fields that name such objects end in `Ref` or `Refs`, and a certificate without a kind is in a Secret.
fn walk(value: &Json, field: &str, namespace: &str, found: &mut BTreeSet<Reference>) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| walk(item, field, namespace, found)),
        Json::Object(fields) => {
            if (field.ends_with("Ref") || field.ends_with("Refs"))
                && let Some(reference) = reference(value, field, namespace)
            {
                found.insert(reference);
            }
            for (name, value) in fields {
                walk(value, name, namespace, found);
            }
        }
        _ => {}
    }
}

fn reference(value: &Json, field: &str, namespace: &str) -> Option<Reference> {
    let text = |name: &str| value.get(name).and_then(Json::as_str);
    let implied = if field.contains("ertificate") { "Secret" } else { "" };
    let kind = text("kind").unwrap_or(implied);
    let kind = REFERRED.into_iter().find(|referred| *referred == kind)?;
    let name = text("name")?.to_owned();
    Some(Reference { kind, namespace: text("namespace").unwrap_or(namespace).to_owned(), name })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(kind: &str, spec: Json) -> Vec<String> {
        let mut object = json!({});
        object["spec"] = spec;
        let found = references(kind, "shop", &object);
        found.iter().map(|r| format!("{}/{}/{}", r.kind, r.namespace, r.name)).collect()
    }

    #[test]
    fn a_gateway_names_the_secrets_of_its_listeners_and_the_bundles_of_its_clients() {
        let spec = json!({
            "gatewayClassName": "tidegate",
            "listeners": [
                { "tls": { "certificateRefs": [{ "name": "here" }, { "name": "there", "namespace": "vault" }] } },
                { "tls": { "certificateRefs": [{ "group": "x", "kind": "Vault", "name": "no" }] } },
            ],
            "tls": { "frontend": { "default": { "validation": {
                "caCertificateRefs": [{ "kind": "ConfigMap", "name": "clients" }],
            } } } },
        });
        assert_eq!(
            named("Gateway", spec),
            ["ConfigMap/shop/clients", "Secret/shop/here", "Secret/vault/there"]
        );
    }

    #[test]
    fn a_policy_names_what_its_kind_looks_up() {
        let provider = |name: &str| json!({ "jwks": { "configMapRef": { "name": name, "key": "k" } } });
        let spec = json!({ "providers": [provider("a"), provider("b"), provider("a")] });
        assert_eq!(named("JwtAuthenticationPolicy", spec), ["ConfigMap/shop/a", "ConfigMap/shop/b"]);
    }

    #[test]
    fn routes_and_services_name_none() {
        let spec = json!({ "parentRefs": [{ "kind": "Secret", "name": "odd" }] });
        assert_eq!(named("HTTPRoute", spec), Vec::<String>::new());
    }
}
