use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;

use super::super::yaml;
use super::*;
use crate::objects::GepDuration;

/// Shapes that policy kinds are likely to use.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
struct Sample {
    #[schemars(length(min = 1))]
    keys: Option<Vec<Key>>,
    source: Option<Source>,
    amount: Option<Amount>,
    #[serde(default)]
    level: Level,
    ratio: Option<f64>,
    #[serde(default)]
    names: BTreeMap<String, u8>,
    wait: Option<GepDuration>,
    big: Option<u32>,
    #[serde(flatten)]
    more: More,
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct More {
    extra: Option<bool>,
}

/// Externally tagged, with and without data.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
enum Key {
    Path,
    Header(String),
    Address { prefix: u8 },
}

/// Internally tagged.
#[derive(Deserialize, JsonSchema)]
#[serde(tag = "type")]
#[allow(dead_code)]
enum Source {
    File { path: String },
    Url { url: String, port: Option<u16> },
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)]
enum Amount {
    Number(u32),
    Text(String),
}

#[derive(Default, Deserialize, JsonSchema)]
enum Level {
    /// With a comment, which makes schemars write one constant per branch.
    #[default]
    Low,
    /// And another.
    High,
}

fn told(text: &str) -> Vec<String> {
    let checker = Checker::new(generate::<Sample>());
    let stream = yaml::read(text);
    assert_eq!(stream.syntax_errors, []);
    let mut report = Report::new(Arc::from("f"));
    checker.check(stream.documents[0].root.as_ref().unwrap(), "spec", &mut report);
    report.finish().iter().map(|d| d.to_string().replace(" error: ", " ")).collect()
}

fn clean(text: &str) {
    assert_eq!(told(text), Vec::<String>::new(), "{text}");
}

#[test]
fn every_right_form_of_a_choice_passes() {
    clean("keys: [path, {header: x}, {address: {prefix: 8}}]");
    clean("source: {type: File, path: x}");
    clean("source: {type: Url, url: x, port: 1}");
    clean("amount: 5");
    clean("amount: five");
    clean("{level: High, ratio: 5, names: {a.b: 1}, wait: 1s, big: 4294967295, extra: true}");
    clean("{level: null, keys: null, source: ~, extra: null}");
}

#[test]
fn a_wrong_form_is_judged_by_what_was_meant() {
    assert_eq!(
        told("keys: [{address: {prefix: 300}}]"),
        ["f:1:27: spec.keys[0].address.prefix: must be between 0 and 255, got the number 300"]
    );
    assert_eq!(told("source: {type: Url, port: 1}"), ["f:1:9: spec.source.url: is required"]);
    assert_eq!(
        told("source: {type: Fil}"),
        ["f:1:16: spec.source.type: must be one of File, Url, got the string `Fil` (did you mean `File`?)"]
    );
    assert_eq!(told("source: {path: x}"), ["f:1:9: spec.source.type: is required"]);
    assert_eq!(told("source: x"), ["f:1:9: spec.source: expected a mapping, got the string `x`"]);
    assert_eq!(told("amount: [1]"), ["f:1:9: spec.amount: expected an integer or a string, got a list"]);
    assert_eq!(
        told("level: Hihg"),
        ["f:1:8: spec.level: must be one of Low, High, got the string `Hihg` (did you mean `High`?)"]
    );
}

#[test]
fn a_misspelt_or_doubled_choice_is_told_once() {
    assert_eq!(told("keys: [{heder: x}]").len(), 1);
    assert!(told("keys: [{heder: x}]")[0].contains("did you mean `header`?"));
    assert_eq!(told("keys: [{header: x, address: {prefix: 1}}]").len(), 1);
    assert_eq!(told("keys: [{}]"), ["f:1:8: spec.keys[0]: one of header, address is required"]);
    assert!(told("keys: [pth]")[0].contains("spec.keys[0]: must be"), "{:?}", told("keys: [pth]"));
}

#[test]
fn values_are_held_to_their_bounds() {
    assert_eq!(told("keys: []"), ["f:1:7: spec.keys: needs at least 1, has 0"]);
    assert_eq!(told("ratio: .nan"), ["f:1:8: spec.ratio: must be a finite number"]);
    assert_eq!(told("names: {a: 256, b: x}").len(), 2);
    assert_eq!(
        told("big: 4294967296"),
        ["f:1:6: spec.big: must be between 0 and 4294967295, got the number 4294967296"]
    );
    assert_eq!(told("big: 1.0"), ["f:1:6: spec.big: expected an integer, got the number 1"]);
    assert!(told("wait: 5")[0].ends_with("got the number 5 (write the unit too: 5s)"));
    assert!(told("level: 5")[0].ends_with("got the number 5 (put it in quotes: \"5\")"));
    assert!(told("extra: yes")[0].ends_with("(write true, without quotes)"));
}

#[test]
fn flattened_fields_are_known_and_others_are_not() {
    assert_eq!(told("extr: true"), ["f:1:1: spec.extr: unknown field (did you mean `extra`?)"]);
}
