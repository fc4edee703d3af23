#![allow(clippy::disallowed_methods, reason = "it reads examples")]

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::*;
use crate::document::plain;

/// Why a value does not hold against a schema: as much of JSON Schema as these schemas are written in.
fn faults(root: &Json, schema: &Json, value: &Json, at: &str) -> Vec<String> {
    let Json::Object(map) = schema else {
        return if *schema == json!(false) { vec![format!("{at}: not allowed")] } else { Vec::new() };
    };
    let mut found = Vec::new();
    if let Some(target) = map.get("$ref").and_then(Json::as_str) {
        let target = root.pointer(&target[1..]).unwrap_or_else(|| panic!("no {target}"));
        found.extend(faults(root, target, value, at));
    }
    let types: Vec<&str> = match map.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(list)) => list.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|wanted| is_type(value, wanted)) {
        found.push(format!("{at}: expected {types:?}"));
    }
    if map.get("const").is_some_and(|constant| constant != value) {
        found.push(format!("{at}: is another constant"));
    }
    if map.get("enum").and_then(Json::as_array).is_some_and(|all| !all.contains(value)) {
        found.push(format!("{at}: is none of the allowed"));
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let Some(branches) = map.get(keyword).and_then(Json::as_array) else { continue };
        let told: Vec<_> = branches.iter().map(|branch| faults(root, branch, value, at)).collect();
        let fitting = told.iter().filter(|told| told.is_empty()).count();
        let fits = match keyword {
            "allOf" => fitting == branches.len(),
            "anyOf" => fitting > 0,
            _ => fitting == 1,
        };
        if !fits {
            found.push(format!(
                "{at}: {fitting} of {keyword} fit: {:?}",
                told.iter().min_by_key(|told| told.len())
            ));
        }
    }
    scalars(map, value, at, &mut found);
    if let Json::Object(fields) = value {
        object(root, map, fields, at, &mut found);
    }
    if let (Json::Array(list), Some(items)) = (value, map.get("items")) {
        found.extend(
            list.iter().enumerate().flat_map(|(i, one)| faults(root, items, one, &format!("{at}/{i}"))),
        );
    }
    found
}

fn object(
    root: &Json,
    map: &Map<String, Json>,
    fields: &Map<String, Json>,
    at: &str,
    found: &mut Vec<String>,
) {
    for name in map.get("required").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str) {
        if !fields.contains_key(name) {
            found.push(format!("{at}: {name} is required"));
        }
    }
    let properties = map.get("properties").and_then(Json::as_object);
    for (name, value) in fields {
        let at = format!("{at}/{name}");
        let schema = properties.and_then(|all| all.get(name)).or_else(|| map.get("additionalProperties"));
        found.extend(schema.into_iter().flat_map(|schema| faults(root, schema, value, &at)));
    }
}

fn scalars(map: &Map<String, Json>, value: &Json, at: &str, found: &mut Vec<String>) {
    let bound = |name: &str| map.get(name).and_then(Json::as_f64);
    if let Some(number) = value.as_f64()
        && (bound("minimum").is_some_and(|least| number < least)
            || bound("maximum").is_some_and(|most| number > most))
    {
        found.push(format!("{at}: out of range"));
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), map.get("pattern").and_then(Json::as_str))
        && !Regex::new(pattern).unwrap().is_match(text)
    {
        found.push(format!("{at}: does not match"));
    }
}

fn is_type(value: &Json, wanted: &str) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => value.is_null(),
    }
}

fn yaml_below(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn documents(path: &Path) -> Vec<Json> {
    plain(&path.display().to_string().into(), &fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn every_example_holds_against_the_schema_of_its_kind_and_against_that_of_all() {
    let any = of_any();
    let mut seen = BTreeSet::new();
    for path in yaml_below("examples") {
        for document in documents(&path) {
            let kind = document["kind"].as_str().unwrap().to_owned();
            let Some(schema) = of_kind(&kind) else { continue };
            let told = faults(&schema, &schema, &document, "");
            assert_eq!(told, [] as [String; 0], "{}", path.display());
            assert_eq!(faults(&any, &any, &document, ""), [] as [String; 0], "{}", path.display());
            seen.insert(kind);
        }
    }
    let without: Vec<_> = kinds().filter(|(kind, _)| !seen.contains(*kind)).map(|(kind, _)| kind).collect();
    assert_eq!(without, ["UDPRoute", "Pod", "Secret"], "these have no example");
}

#[test]
fn a_slip_in_any_object_of_a_policy_does_not_hold() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/RateLimitPolicy.yaml");
    let good = documents(&path).remove(0);
    let schema = of_kind("RateLimitPolicy").unwrap();
    let any = of_any();
    for at in ["", "/metadata", "/spec", "/spec/targetRefs/0", "/spec/limits/0"] {
        let mut wrong = good.clone();
        wrong.pointer_mut(at).unwrap()["reqests"] = json!(1);
        assert!(!faults(&schema, &schema, &wrong, "").is_empty(), "{at}");
        assert!(!faults(&any, &any, &wrong, "").is_empty(), "{at}");
    }
    let mut wrong = good;
    wrong["spec"]["limits"][0]["per"] = json!(5);
    assert!(!faults(&schema, &schema, &wrong, "").is_empty());
}

#[test]
fn every_file_of_cases_holds_against_the_schema_of_cases() {
    let schema = of_cases();
    let mut files = 0;
    for path in yaml_below("cases") {
        for document in documents(&path) {
            if document.get("cases").is_none() {
                continue;
            }
            files += 1;
            assert_eq!(faults(&schema, &schema, &document, ""), [] as [String; 0], "{}", path.display());
        }
    }
    assert!(files > 20, "{files}");
    assert!(!faults(&schema, &schema, &json!({ "cases": [{ "nme": "x" }] }), "").is_empty());
}

/// Every reference leads somewhere, and every field of a policy says what it is for.
#[test]
fn schemas_are_whole_and_say_what_fields_are_for() {
    fn references(schema: &Json, found: &mut Vec<String>) {
        match schema {
            Json::Object(map) => {
                found.extend(map.get("$ref").and_then(Json::as_str).map(str::to_owned));
                map.values().for_each(|child| references(child, found));
            }
            Json::Array(list) => list.iter().for_each(|child| references(child, found)),
            _ => {}
        }
    }
    for schema in kinds().filter_map(|(kind, _)| of_kind(kind)).chain([of_any(), of_cases()]) {
        let mut found = Vec::new();
        references(&schema, &mut found);
        for target in found {
            assert!(schema.pointer(&target[1..]).is_some(), "{target} of {}", schema["title"]);
        }
    }
    let schema = of_kind("RateLimitPolicy").unwrap();
    let limits = schema.pointer("/properties/spec/properties/limits/description");
    assert!(limits.is_some_and(Json::is_string), "{schema:#}");
}
