//! JSON schemas of whole documents, for editors: completion, descriptions, and most errors while somebody types.
//!
//! From the same table that documents are read by. As strict as that reading is: fields that are not known are refused,
//! those that mean nothing to the mesh are let pass. What only [`super::parse`] can say (references, expressions, what two
//! fields say of each other) an editor cannot.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use super::kinds::{self, Content, METADATA, Row};
use super::schema::generate;
use crate::cases::CaseFile;

#[cfg(test)]
mod tests;

/// JSON Schema of 2020-12, as the schemas of the kinds are.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
const DEFINITIONS: &str = "$defs";

/// The schema of a document of `kind`; `None` if there is no such kind.
pub fn of_kind(kind: &str) -> Option<Json> {
    let row = kinds::find(kind)?;
    let mut definitions = Map::new();
    let schema = document(row, "", &mut definitions);
    Some(complete(schema, definitions))
}

/// The schema of a document of any kind: what an editor is told for a whole folder.
pub fn of_any() -> Json {
    let mut definitions = Map::new();
    for row in kinds::rows() {
        let schema = document(row, &format!("{}.", row.kind), &mut definitions);
        definitions.insert(row.kind.to_owned(), Json::Object(schema));
    }
    let choice = kinds::rows().iter().map(|row| json!({ "$ref": format!("#/{DEFINITIONS}/{}", row.kind) }));
    let mut schema = Map::new();
    schema.insert("title".into(), "A document of Tidegate".into());
    schema.insert("oneOf".into(), choice.collect());
    complete(schema, definitions)
}

/// The schema of a file of cases (`*.test.yaml`).
pub fn of_cases() -> Json {
    let mut definitions = Map::new();
    let schema = embed(generate::<CaseFile>().to_value(), "", &mut definitions);
    complete(schema, definitions)
}

/// Every kind, with one sentence about it where there is one.
pub fn kinds() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    kinds::rows().iter().map(|row| (row.kind, row.policy_entry().map(|entry| entry.about)))
}

fn complete(mut schema: Map<String, Json>, definitions: Map<String, Json>) -> Json {
    schema.insert("$schema".into(), DIALECT.into());
    if !definitions.is_empty() {
        schema.insert(DEFINITIONS.into(), Json::Object(definitions));
    }
    Json::Object(schema)
}

/// The schema of a document without its definitions, which are put under names that begin with `prefix`.
fn document(row: &Row, prefix: &str, definitions: &mut Map<String, Json>) -> Map<String, Json> {
    let own = embed(row.schema.root().clone(), prefix, definitions);
    let metadata = embed(METADATA.root().clone(), &format!("{prefix}Metadata."), definitions);
    let about =
        row.policy_entry().map(|entry| json!(entry.about)).or_else(|| own.get("description").cloned());
    let mut required = vec![json!("apiVersion"), json!("kind"), json!("metadata")];
    let mut properties = match row.content {
        Content::Beside => {
            required.extend(own.get("required").and_then(Json::as_array).into_iter().flatten().cloned());
            own.get("properties").and_then(Json::as_object).cloned().unwrap_or_default()
        }
        Content::Spec | Content::OptionalSpec => {
            if row.content == Content::Spec {
                required.push(json!("spec"));
            }
            Map::from_iter([(String::from("spec"), Json::Object(own.clone()))])
        }
    };
    // What the mesh passes over at the root of an object without a spec.
    for name in own.get("x-ignored").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
        if row.content == Content::Beside {
            properties.insert(name.to_owned(), json!(true));
        }
    }
    let versions: Vec<_> = row.api_versions.iter().map(|version| json!(version)).collect();
    properties.insert("apiVersion".into(), json!({ "enum": versions }));
    properties.insert("kind".into(), json!({ "const": row.kind }));
    properties.insert("metadata".into(), Json::Object(metadata));
    properties.insert("status".into(), json!({ "type": "object", "description": "Written by controllers." }));
    let mut schema = Map::from_iter([
        (String::from("title"), json!(row.kind)),
        (String::from("type"), json!("object")),
        (String::from("properties"), Json::Object(properties)),
        (String::from("required"), Json::Array(required)),
        (String::from("additionalProperties"), json!(false)),
    ]);
    if let Some(about) = about {
        schema.insert("description".into(), about);
    }
    schema
}

/// The schema itself, closed; its definitions go to `definitions`, under names that begin with `prefix`.
fn embed(schema: Json, prefix: &str, definitions: &mut Map<String, Json>) -> Map<String, Json> {
    let Json::Object(mut schema) = schema else { return Map::new() };
    schema.remove("$schema");
    let own = match schema.remove(DEFINITIONS) {
        Some(Json::Object(own)) => own,
        _ => Map::new(),
    };
    let mut open = BTreeSet::new();
    let mut whole = Json::Object(schema);
    find_parts(&whole, &mut open);
    own.values().for_each(|one| find_parts(one, &mut open));
    close(&mut whole, false);
    rename(&mut whole, prefix);
    for (name, mut one) in own {
        close(&mut one, open.contains(&name));
        rename(&mut one, prefix);
        definitions.insert(format!("{prefix}{name}"), one);
    }
    match whole {
        Json::Object(schema) => schema,
        _ => Map::new(),
    }
}

const CHOICES: [&str; 3] = ["allOf", "anyOf", "oneOf"];

/// Whether other schemas describe the same object beside this one, so that none of them knows all of its fields.
fn is_shared(schema: &Map<String, Json>) -> bool {
    schema.contains_key("properties") && CHOICES.iter().any(|keyword| schema.contains_key(*keyword))
}

/// The definitions that describe only a part of an object.
fn find_parts(schema: &Json, parts: &mut BTreeSet<String>) {
    match schema {
        Json::Object(map) => {
            for keyword in CHOICES {
                if !is_shared(map) && keyword != "allOf" {
                    continue;
                }
                let branches = map.get(keyword).and_then(Json::as_array).into_iter().flatten();
                parts.extend(branches.filter_map(|branch| definition(branch).map(str::to_owned)));
            }
            if is_shared(map) || map.contains_key("properties") {
                parts.extend(definition(schema).map(str::to_owned));
            }
            map.values().for_each(|child| find_parts(child, parts));
        }
        Json::Array(list) => list.iter().for_each(|child| find_parts(child, parts)),
        _ => {}
    }
}

fn definition(schema: &Json) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// Refuses what is not known, in every object that is described whole; `part`: this one is not.
fn close(schema: &mut Json, part: bool) {
    let Json::Object(map) = schema else { return };
    let shared = is_shared(map);
    if map.contains_key("properties") && !shared && !part && !map.contains_key("$ref") {
        map.entry("additionalProperties").or_insert(json!(false));
    }
    let ignored: Vec<_> = map.get("x-ignored").and_then(Json::as_array).cloned().unwrap_or_default();
    if let Some(Json::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(|child| close(child, false));
        for name in ignored.iter().filter_map(Json::as_str) {
            properties.entry(name).or_insert(json!(true));
        }
    }
    for keyword in CHOICES {
        let below = shared || part || keyword == "allOf";
        if let Some(Json::Array(branches)) = map.get_mut(keyword) {
            branches.iter_mut().for_each(|branch| close(branch, below));
        }
    }
    for keyword in ["items", "additionalProperties", "not"] {
        if let Some(child) = map.get_mut(keyword) {
            close(child, false);
        }
    }
}

fn rename(schema: &mut Json, prefix: &str) {
    match schema {
        Json::Object(map) => {
            if let Some(Json::String(target)) = map.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/$defs/{prefix}{name}");
            }
            map.values_mut().for_each(|child| rename(child, prefix));
        }
        Json::Array(list) => list.iter_mut().for_each(|child| rename(child, prefix)),
        _ => {}
    }
}
