//! JSON schemas from types, and located trees held against them.
//!
//! The walker knows the part of JSON Schema that `schemars` writes. It collects every fault instead of stopping at the
//! first, and it is stricter than the standard in one way: an object that lists its properties is closed.

use std::collections::HashMap;

use regex::Regex;
use schemars::Schema;
use serde_json::Value as Json;

use super::diagnostic::Report;
use super::field::{Field, escaped};
use super::lost::Lost;
use super::yaml::{Node, Place, Value};

mod choice;
mod known;
mod values;

use known::Known;

pub fn generate<T: schemars::JsonSchema>() -> Schema {
    schemars::SchemaGenerator::default().into_root_schema_for::<T>()
}

/// A schema made ready to check many trees.
///
/// Two extensions are understood beside the standard: `x-ignored` lists properties that are real but mean nothing to
/// the mesh, `x-unsupported` those that would change what happens and are not done yet.
#[derive(Debug)]
pub(crate) struct Checker {
    root: Json,
    patterns: HashMap<String, Regex>,
}

impl Checker {
    pub(crate) fn new(schema: Schema) -> Self {
        let root = schema.to_value();
        let mut patterns = HashMap::new();
        collect_patterns(&root, &mut patterns);
        Self { root, patterns }
    }

    /// Reports everything about `node` that the schema does not allow. `field` is the node's own path.
    pub(crate) fn check(&self, node: &Node, field: &str, report: &mut Report) {
        let mut walk = Walk { checker: self, field: Field::new(field), report };
        walk.node(node, &self.root);
    }

    /// The schema itself.
    pub(crate) fn root(&self) -> &Json {
        &self.root
    }

    /// The field names of the object that the schema describes.
    pub(crate) fn fields(&self) -> Vec<&str> {
        Known::of(self, &self.root).names
    }

    fn resolve<'a>(&'a self, schema: &'a Json) -> &'a Json {
        let target = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#'));
        target.and_then(|pointer| self.root.pointer(pointer)).unwrap_or(schema)
    }
}

fn collect_patterns(schema: &Json, patterns: &mut HashMap<String, Regex>) {
    match schema {
        Json::Object(map) => {
            if let Some(Json::String(pattern)) = map.get("pattern")
                && let Ok(regex) = Regex::new(pattern)
            {
                patterns.insert(pattern.clone(), regex);
            }
            map.values().for_each(|child| collect_patterns(child, patterns));
        }
        Json::Array(items) => items.iter().for_each(|child| collect_patterns(child, patterns)),
        _ => {}
    }
}

/// One walk through one tree.
struct Walk<'a> {
    checker: &'a Checker,
    field: Field,
    report: &'a mut Report,
}

impl<'a> Walk<'a> {
    /// A node with everything that applies to it, unknown fields included.
    fn node(&mut self, node: &Node, schema: &'a Json) {
        let known = Known::of(self.checker, schema);
        self.apply(node, schema, &known);
        if let Value::Mapping(entries) = &node.value
            && known.closed
        {
            for entry in entries.iter().filter(|e| !known.names.contains(&e.key.as_str())) {
                self.unknown(&entry.key, entry.place, &known);
            }
        }
    }

    fn unknown(&mut self, key: &str, place: Place, known: &Known<'a>) {
        if known.ignored.contains(&key) {
            return;
        }
        let (message, help) = if known.unsupported.contains(&key) {
            (String::from("is not supported yet"), None)
        } else {
            (String::from("unknown field"), unknown_field_help(key, &known.names))
        };
        let above = self.field.pointer().to_owned();
        let meant =
            nearest(key, known.names.iter().copied()).map(|name| format!("{above}/{}", escaped(name)));
        self.report.lose(Lost { pointer: format!("{above}/{}", escaped(key)), meant, decides: false });
        self.field.within(key, |field| self.report.error(place, field, message, help));
    }

    /// One schema, without judging fields that another schema of the same node may know.
    fn apply(&mut self, node: &Node, schema: &'a Json, known: &Known<'a>) {
        let Some(map) = schema.as_object() else { return };
        let target = self.checker.resolve(schema);
        if !std::ptr::eq(target, schema) {
            self.apply(node, target, known);
        }
        if !self.has_type(node, schema) {
            return;
        }
        self.scalar(node, schema);
        match &node.value {
            Value::Sequence(items) => self.sequence(node.place, items, schema),
            Value::Mapping(_) => self.mapping(node, schema, known),
            _ => {}
        }
        for part in map.get("allOf").and_then(Json::as_array).into_iter().flatten() {
            self.apply(node, part, known);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(branches) = map.get(keyword).and_then(Json::as_array) {
                self.choice(node, branches, known);
            }
        }
    }

    fn sequence(&mut self, place: Place, items: &[std::sync::Arc<Node>], schema: &'a Json) {
        let limit = |name: &str| schema.get(name).and_then(Json::as_u64);
        let count = items.len() as u64;
        if let Some(min) = limit("minItems").filter(|min| count < *min) {
            self.error(place, format!("needs at least {min}, has {count}"), None);
        }
        if let Some(max) = limit("maxItems").filter(|max| count > *max) {
            self.error(place, format!("at most {max} are allowed, has {count}"), None);
        }
        let Some(item_schema) = schema.get("items") else { return };
        for (i, item) in items.iter().enumerate() {
            let length = self.field.push_index(i);
            self.node(item, item_schema);
            self.field.truncate(length);
        }
    }

    fn mapping(&mut self, node: &Node, schema: &'a Json, known: &Known<'a>) {
        let properties = schema.get("properties").and_then(Json::as_object);
        let additional = schema.get("additionalProperties");
        for entry in node.entries().iter().filter(|e| e.value.value != Value::Null) {
            let property = properties.and_then(|p| p.get(&entry.key));
            let length = self.field.push(&entry.key);
            match (property, additional) {
                (Some(property), _) => self.node(&entry.value, property),
                (None, Some(Json::Bool(false))) if known.names.contains(&entry.key.as_str()) => {
                    self.error(
                        entry.place,
                        String::from("cannot be combined with the other fields here"),
                        None,
                    );
                }
                (None, Some(rest)) => self.node(&entry.value, rest),
                (None, None) => {}
            }
            self.field.truncate(length);
        }
        for name in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
            let Some(name) = name.as_str().filter(|n| node.get(n).is_none()) else { continue };
            self.field.within(name, |field| self.report.error(node.place, field, "is required", None));
        }
    }

    fn error(&mut self, place: Place, message: String, help: Option<String>) {
        self.lose(false);
        self.report.error(place, self.field.as_str(), message, help);
    }

    /// The value at hand cannot be read as what it should be.
    fn lose(&mut self, decides: bool) {
        let pointer = self.field.pointer().to_owned();
        self.report.lose(Lost { pointer, meant: None, decides });
    }
}

/// `did you mean …`, or the list where nothing is near and the list is short.
pub(crate) fn unknown_field_help(key: &str, names: &[&str]) -> Option<String> {
    const SHORT: usize = 8;
    if let Some(name) = nearest(key, names.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    (1..=SHORT).contains(&names.len()).then(|| format!("known here: {}", names.join(", ")))
}

/// The name that was probably meant.
pub(crate) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    const CLOSE_ENOUGH: f64 = 0.6;
    let lower = word.to_lowercase();
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(score, _)| *score >= CLOSE_ENOUGH)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
