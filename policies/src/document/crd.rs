//! CustomResourceDefinitions of every tidegate.io kind, from the same table that documents are read by: a new kind has
//! one without a line of its own.
//!
//! The API server keeps what its structural schema knows and drops the rest, so the schema must say all that a file may
//! say. What it cannot say (references, expressions) is left to admission, which compiles as the proxies do.

use serde_json::{Map, Value as Json, json};

use super::kinds::{self, Row};
use crate::kind::KindEntry;
use crate::model::TargetKind;
use crate::objects::TIDEGATE_GROUP;

pub(crate) mod rules;
mod status;
mod structural;

#[cfg(test)]
mod tests;

/// What `kubectl get tidegate` lists.
const CATEGORY: &str = "tidegate";

/// One definition per kind, in the order of their names.
pub fn definitions() -> Vec<Json> {
    let mut rows: Vec<_> = kinds::rows().iter().filter(|row| is_ours(row)).collect();
    rows.sort_by_key(|row| row.kind);
    rows.into_iter().map(definition).collect()
}

fn is_ours(row: &Row) -> bool {
    row.api_versions.iter().any(|version| group_and_version(version).0 == TIDEGATE_GROUP)
}

fn group_and_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn definition(row: &Row) -> Json {
    let plural = plural(row.kind);
    let policy = row.policy_entry();
    let mut metadata = json!({ "name": format!("{plural}.{TIDEGATE_GROUP}") });
    if let Some(entry) = policy {
        // GEP-713: tools find policies by this label.
        metadata["labels"] = json!({ "gateway.networking.k8s.io/policy": inheritance(entry) });
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": TIDEGATE_GROUP,
            "scope": if row.cluster_scoped { "Cluster" } else { "Namespaced" },
            "names": {
                "kind": row.kind,
                "listKind": format!("{}List", row.kind),
                "plural": plural,
                "singular": row.kind.to_lowercase(),
                "shortNames": [short_name(row.kind)],
                "categories": [CATEGORY],
            },
            "versions": row.api_versions.iter().enumerate().map(|(i, v)| version(row, v, i)).collect::<Vec<_>>(),
        },
    })
}

fn version(row: &Row, api_version: &str, index: usize) -> Json {
    let policy = row.policy_entry();
    let about = policy.map_or_else(
        || row.schema.root().get("description").cloned().unwrap_or(Json::Null),
        |entry| json!(entry.about),
    );
    let mut schema = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string" },
            "kind": { "type": "string" },
            "metadata": { "type": "object" },
            "spec": spec(row),
            "status": if policy.is_some() { status::of_policy() } else { status::of_object() },
        },
    });
    if !about.is_null() {
        schema["description"] = about;
    }
    json!({
        "name": group_and_version(api_version).1,
        "served": true,
        "storage": index == 0,
        "schema": { "openAPIV3Schema": schema },
        "subresources": { "status": {} },
        "additionalPrinterColumns": columns(policy.is_some()),
    })
}

fn spec(row: &Row) -> Json {
    let mut spec = Json::Object(structural::schema(row.schema.root()));
    let target = spec.pointer_mut("/properties/targetRefs/items").and_then(Json::as_object_mut);
    if let (Some(target), Some(entry)) = (target, row.policy_entry()) {
        only_these_targets(target, entry.targets);
    }
    spec
}

/// What kinds a policy can be attached to is known here: the API server may say so itself.
fn only_these_targets(target: &mut Map<String, Json>, allowed: &[TargetKind]) {
    if let Some(kind) = target.get_mut("properties").and_then(|p| p.get_mut("kind")) {
        kind["enum"] = allowed.iter().map(|kind| kind.as_str()).collect();
    }
    let whole: Vec<_> = [TargetKind::Namespace, TargetKind::Backend]
        .into_iter()
        .filter(|kind| allowed.contains(kind))
        .collect();
    if !whole.is_empty() {
        let names: Vec<_> = whole.iter().map(|kind| format!("'{}'", kind.as_str())).collect();
        let rule = format!("!(has(self.sectionName) && self.kind in [{}])", names.join(", "));
        let which = whole.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or a ");
        let message = format!("a {which} has no sections: leave out `sectionName`");
        target.insert(rules::KEYWORD.to_owned(), json!([{ "rule": rule, "message": message }]));
    }
}

/// A policy on something that holds others is handed down to them.
fn inheritance(entry: &KindEntry) -> &'static str {
    let hands_down = [TargetKind::Namespace, TargetKind::Gateway];
    if entry.targets.iter().any(|target| hands_down.contains(target)) { "Inherited" } else { "Direct" }
}

fn columns(is_policy: bool) -> Json {
    let conditions = if is_policy { ".status.ancestors[*].conditions" } else { ".status.conditions" };
    let of = |kind: &str| format!("{conditions}[?(@.type==\"{kind}\")].status");
    let age = json!({ "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" });
    let accepted = json!({ "name": "Accepted", "type": "string", "jsonPath": of("Accepted") });
    if !is_policy {
        let programmed = json!({ "name": "Programmed", "type": "string", "jsonPath": of("Programmed") });
        return json!([accepted, programmed, age]);
    }
    json!([
        accepted,
        { "name": "Programmed", "type": "string", "jsonPath": ".status.programmed",
          "description": "Proxies that run it, of those that should." },
        { "name": "Mode", "type": "string", "jsonPath": ".spec.mode" },
        { "name": "Targets", "type": "string", "jsonPath": ".spec.targetRefs[*].name", "priority": 1 },
        age,
    ])
}

fn plural(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{lower}s"),
    }
}

/// `tg` and the initials of the kind, without `Policy`: a RateLimitPolicy is a `tgrl`. The prefix keeps clear of other
/// projects, whose kinds have the same initials.
fn short_name(kind: &str) -> String {
    let stem = kind.strip_suffix("Policy").filter(|stem| !stem.is_empty()).unwrap_or(kind);
    format!("tg{}", stem.chars().filter(char::is_ascii_uppercase).collect::<String>().to_lowercase())
}
