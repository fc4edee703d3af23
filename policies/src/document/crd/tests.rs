//! The definitions hold to the rules of "Specifying a structural schema", and say what the documents say.

mod documents;
mod evaluate;
mod structure;

use serde_json::Value as Json;

use super::*;
use crate::kinds::KINDS;

/// Kind, and the schema of its `spec`.
fn specs() -> Vec<(String, Json)> {
    let of = |crd: &Json| {
        let kind = crd["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        (kind, crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone())
    };
    definitions().iter().map(of).collect()
}

fn spec_of(kind: &str) -> Json {
    specs().into_iter().find(|(name, _)| name == kind).unwrap().1
}

#[test]
fn every_kind_of_the_group_has_a_definition() {
    let defined: Vec<_> = specs().into_iter().map(|(kind, _)| kind).collect();
    let mut wanted: Vec<_> = KINDS.iter().map(|entry| entry.kind).chain(["Backend"]).collect();
    wanted.sort_unstable();
    assert_eq!(defined, wanted);
}

#[test]
fn names_are_what_people_type_and_no_two_are_the_same() {
    let mut taken = Vec::new();
    for crd in definitions() {
        let names = &crd["spec"]["names"];
        let plural = names["plural"].as_str().unwrap();
        assert_eq!(crd["metadata"]["name"], format!("{plural}.tidegate.io"));
        assert_eq!(names["categories"], json!(["tidegate"]));
        for name in [&names["plural"], &names["singular"], &names["shortNames"][0]] {
            assert!(!taken.contains(name), "{name} is the name of two kinds");
            taken.push(name.clone());
        }
    }
    assert_eq!(
        (plural("RateLimitPolicy"), short_name("RateLimitPolicy")),
        ("ratelimitpolicies".into(), "tgrl".into())
    );
    assert_eq!((plural("Backend"), short_name("Backend")), ("backends".into(), "tgb".into()));
    assert_eq!(plural("Relay"), "relays");
}

#[test]
fn kubectl_shows_whether_a_policy_is_in_force_and_how_it_acts() {
    for crd in definitions() {
        let version = &crd["spec"]["versions"][0];
        assert_eq!((&version["name"], &version["storage"]), (&json!("v1alpha1"), &json!(true)));
        assert_eq!(version["subresources"], json!({ "status": {} }));
        let columns = version["additionalPrinterColumns"].as_array().unwrap().clone();
        let shown: Vec<_> = columns.iter().filter(|c| c["priority"].is_null()).map(|c| &c["name"]).collect();
        let wanted: &[_] = match crd["spec"]["names"]["kind"].as_str() {
            Some("Backend") => &["Accepted", "Programmed", "Age"],
            _ => &["Accepted", "Programmed", "Mode", "Age"],
        };
        assert_eq!(shown, wanted);
    }
}

#[test]
fn a_policy_names_only_what_it_can_be_attached_to() {
    let kind =
        |policy: &str| spec_of(policy)["properties"]["targetRefs"]["items"]["properties"]["kind"].clone();
    assert_eq!(kind("CohortPolicy")["enum"], json!(["Gateway", "HTTPRoute", "GRPCRoute"]));
    assert_eq!(kind("CohortPolicy")["type"], "string");
}

#[test]
fn constants_become_an_enumeration_that_still_explains_each() {
    let protocol = &spec_of("Backend")["properties"]["protocol"];
    assert_eq!(protocol["enum"], json!(["HTTP1", "H2C"]));
    assert_eq!(protocol["type"], "string");
    let when = &spec_of("CohortPolicy")["properties"]["key"]["items"]["properties"]["type"];
    assert!(when["description"].as_str().unwrap().contains("- Cookie: The value of a cookie."), "{when}");
}

#[test]
fn a_schema_that_has_no_structural_form_keeps_what_is_written() {
    let kept = |schema: Json| Json::Object(structural::schema(&schema));
    let preserved = json!({ "x-kubernetes-preserve-unknown-fields": true });
    assert_eq!(kept(json!(true)), preserved);
    assert_eq!(kept(json!({ "anyOf": [{ "type": "object" }, { "type": "string" }] })), preserved);
    let int_or_string = json!({ "x-kubernetes-int-or-string": true });
    assert_eq!(kept(json!({ "type": ["integer", "string"] })), int_or_string);
    assert_eq!(kept(json!({ "anyOf": [{ "type": "string" }, { "type": "integer" }] })), int_or_string);
    let itself = json!({
        "$defs": { "Tree": { "type": "object", "properties": { "left": { "$ref": "#/$defs/Tree" } } } },
        "$ref": "#/$defs/Tree",
    });
    assert_eq!(kept(itself), json!({ "type": "object", "properties": { "left": preserved } }));
}

#[test]
fn numbers_keep_their_bounds_without_formats_that_openapi_lacks() {
    let number = |schema: Json| Json::Object(structural::schema(&schema));
    let wide = json!({ "type": ["integer", "null"], "format": "uint32", "minimum": 1 });
    let expected =
        json!({ "type": "integer", "nullable": true, "format": "int64", "minimum": 1, "maximum": u32::MAX });
    assert_eq!(number(wide), expected);
    let open = json!({ "type": "number", "format": "double", "exclusiveMinimum": 0.0 });
    let expected = json!({ "type": "number", "format": "double", "minimum": 0.0, "exclusiveMinimum": true });
    assert_eq!(number(open), expected);
}
