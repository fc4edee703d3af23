//! The rules of the Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a
//! structural schema", as a walk that collects every breach.

use serde_json::{Value as Json, json};

use super::super::definitions;

const FORBIDDEN: [&str; 16] = [
    "$ref",
    "$schema",
    "$defs",
    "const",
    "definitions",
    "dependencies",
    "deprecated",
    "discriminator",
    "id",
    "patternProperties",
    "readOnly",
    "writeOnly",
    "xml",
    "additionalItems",
    "anyOf",
    "oneOf",
];
const TYPES: [&str; 6] = ["object", "array", "string", "integer", "number", "boolean"];
/// What `kube-openapi` knows; others only make the API server warn.
const FORMATS: [&str; 4] = ["int32", "int64", "double", "date-time"];

fn breaches(schema: &Json, at: &str, found: &mut Vec<String>) {
    let mut wrong = |what: String| found.push(format!("{at}: {what}"));
    let Some(fields) = schema.as_object() else { return wrong(String::from("is not an object")) };
    for name in FORBIDDEN.iter().filter(|name| fields.contains_key(**name)) {
        wrong(format!("has `{name}`"));
    }
    let kind = schema["type"].as_str();
    let is_special = schema["x-kubernetes-int-or-string"] == true
        || schema["x-kubernetes-preserve-unknown-fields"] == true;
    match kind {
        Some(kind) if !TYPES.contains(&kind) => wrong(format!("type {kind}")),
        None if !is_special => wrong(String::from("has no type")),
        _ => {}
    }
    if schema["uniqueItems"] == true {
        wrong(String::from("has `uniqueItems`"));
    }
    if schema["additionalProperties"] == false {
        wrong(String::from("`additionalProperties: false`"));
    }
    if fields.contains_key("properties") && fields.contains_key("additionalProperties") {
        wrong(String::from("`properties` and `additionalProperties`"));
    }
    if fields.get("format").is_some_and(|format| !FORMATS.iter().any(|known| format == known)) {
        wrong(format!("format {}", fields["format"]));
    }
    for (keyword, wanted) in
        [("properties", "object"), ("items", "array"), ("pattern", "string"), ("minimum", "number")]
    {
        let fits = kind == Some(wanted) || (wanted == "number" && kind == Some("integer"));
        if fields.contains_key(keyword) && !fits {
            wrong(format!("`{keyword}` of a {kind:?}"));
        }
    }
    let properties = fields.get("properties").and_then(Json::as_object);
    for name in fields.get("required").and_then(Json::as_array).into_iter().flatten() {
        if !properties
            .is_some_and(|properties| name.as_str().is_some_and(|name| properties.contains_key(name)))
        {
            wrong(format!("requires {name}, which it does not have"));
        }
    }
    if kind == Some("array") && !fields.contains_key("items") {
        wrong(String::from("has no `items`"));
    }
    for (name, property) in properties.into_iter().flatten() {
        breaches(property, &format!("{at}.{name}"), found);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(keyword) {
            breaches(inner, &format!("{at}[{keyword}]"), found);
        }
    }
}

fn schemas() -> Vec<(String, Json)> {
    let of = |crd: &Json| {
        (crd["metadata"]["name"].to_string(), crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
    };
    definitions().iter().map(of).collect()
}

#[test]
fn every_schema_is_structural() {
    let mut found = Vec::new();
    for (name, schema) in schemas() {
        assert_eq!(schema["type"], "object");
        assert_eq!(schema["properties"]["metadata"], json!({ "type": "object" }));
        breaches(&schema, &name, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_walk_finds_what_it_looks_for() {
    let bad = json!({
        "type": "object",
        "required": ["c"],
        "properties": {
            "a": { "anyOf": [] },
            "b": { "type": "array", "items": { "type": ["string", "null"], "format": "uint32" } },
        },
        "additionalProperties": false,
    });
    let mut found = Vec::new();
    breaches(&bad, "x", &mut found);
    for wanted in [
        "x.a: has `anyOf`",
        "x.a: has no type",
        "x.b[items]: has no type",
        "x.b[items]: format",
        "requires \"c\"",
        "`additionalProperties: false`",
    ] {
        assert!(found.iter().any(|breach| breach.contains(wanted)), "{wanted}: {found:#?}");
    }
}

fn walk(schema: &Json, bounded: bool, see: &mut dyn FnMut(&Json, bool)) {
    see(schema, bounded);
    for (_, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, bounded, see);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], bounded && schema["maxItems"].is_u64(), see);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], bounded && schema["maxProperties"].is_u64(), see);
    }
}

#[test]
fn nothing_is_kept_without_being_known() {
    // The API server would store misspelt fields. Where a kind needs a choice with data, give each alternative a field of
    // its own, as `http`, `grpc` and `tcp` of a HealthCheckPolicy, with a rule of `crd/rules.rs`.
    let mut kept = Vec::new();
    for (name, schema) in schemas() {
        walk(&schema, true, &mut |part, _| {
            if !part["x-kubernetes-preserve-unknown-fields"].is_null() {
                kept.push((name.clone(), part["description"].as_str().unwrap_or_default().to_owned()));
            }
        });
    }
    // What a plugin is configured with, only the plugin knows.
    let plugin = ["\"wasmplugins.tidegate.io\""];
    assert_eq!(kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), plugin, "{kept:#?}");
}

#[test]
fn no_field_has_a_name_that_kubectl_reads_as_something_else() {
    // Its YAML is of version 1.1: `on: x` is `true: x` there.
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"];
    for (name, schema) in schemas() {
        walk(&schema, true, &mut |part, _| {
            for field in part["properties"].as_object().into_iter().flatten().map(|(field, _)| field) {
                assert!(!words.contains(&field.to_lowercase().as_str()), "{name}: `{field}`");
            }
        });
    }
}

#[test]
fn rules_are_only_where_the_api_server_can_bound_their_cost() {
    let mut rules = 0;
    for (name, schema) in schemas() {
        walk(&schema, true, &mut |part, bounded| {
            if part["x-kubernetes-validations"].is_array() {
                rules += 1;
                assert!(bounded, "{name}: a rule within a list without `maxItems`: {part}");
            }
        });
    }
    assert!(rules > 20, "only {rules}");
}

#[test]
fn defaults_are_values_that_their_own_schema_allows() {
    for (name, schema) in schemas() {
        walk(&schema, true, &mut |part, _| {
            let default = &part["default"];
            let fits = match part["type"].as_str() {
                Some("string") => default.is_string(),
                Some("integer" | "number") => default.is_number(),
                Some("array") => default.is_array(),
                Some("boolean") => default.is_boolean(),
                _ => default.is_object(),
            };
            assert!(default.is_null() || fits, "{name}: {part}");
            if let (Some(allowed), false) = (part["enum"].as_array(), default.is_null()) {
                assert!(allowed.contains(default), "{name}: {part}");
            }
        });
    }
}
