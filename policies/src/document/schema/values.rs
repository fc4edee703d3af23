//! Types, ranges, patterns and enumerations: what a schema says of a single value.

use serde_json::Value as Json;

use super::super::yaml::{Node, Value};
use super::{Walk, nearest};
use crate::objects::GepDuration;

impl<'a> Walk<'a> {
    /// Whether the node is of a type the schema allows; if not, the one error that matters is reported.
    pub(super) fn has_type(&mut self, node: &Node, schema: &Json) -> bool {
        let allowed = types(schema);
        if allowed.is_empty() || allowed.iter().any(|t| is_type(node, t)) {
            return true;
        }
        let unit = match &node.value {
            Value::Int(n) if is_duration(schema) => Some(format!("write the unit too: {n}s")),
            _ => None,
        };
        self.mistyped(node, &allowed, unit.or_else(|| type_help(node, &allowed)));
        false
    }

    pub(super) fn wrong_type(&mut self, node: &Node, allowed: &[&str]) {
        self.mistyped(node, allowed, type_help(node, allowed));
    }

    fn mistyped(&mut self, node: &Node, allowed: &[&str], help: Option<String>) {
        let mut names: Vec<_> = allowed.iter().filter(|t| **t != "null").map(|t| describe_type(t)).collect();
        names.dedup();
        let message = format!("expected {}, got {}", names.join(" or "), describe(node));
        self.error(node.place, message, help);
    }

    pub(super) fn scalar(&mut self, node: &Node, schema: &'a Json) {
        if let Some(allowed) = schema.get("enum").and_then(Json::as_array) {
            let allowed: Vec<_> = allowed.iter().collect();
            self.one_of(node, &allowed);
        }
        if let Some(constant) = schema.get("const") {
            self.one_of(node, &[constant]);
        }
        match &node.value {
            Value::Int(number) => self.range(node, *number as f64, schema),
            Value::Float(number) if number.is_finite() => self.range(node, *number, schema),
            Value::Float(_) => self.error(node.place, String::from("must be a finite number"), None),
            Value::String(text) => self.text(node, text, schema),
            _ => {}
        }
    }

    pub(super) fn one_of(&mut self, node: &Node, allowed: &[&Json]) {
        if allowed.iter().any(|a| equals(node, a)) {
            return;
        }
        self.lose(true);
        let names: Vec<_> = allowed.iter().filter_map(|a| a.as_str()).collect();
        let near = node.as_str().and_then(|text| nearest(text, names.iter().copied()));
        let help = near.map(|name| format!("did you mean `{name}`?"));
        let list = allowed.iter().map(|a| plain(a)).collect::<Vec<_>>().join(", ");
        let message = match allowed {
            [only] => format!("must be {}, got {}", plain(only), describe(node)),
            _ => format!("must be one of {list}, got {}", describe(node)),
        };
        self.error(node.place, message, help);
    }

    fn range(&mut self, node: &Node, number: f64, schema: &Json) {
        let bound = |name: &str| schema.get(name).filter(|b| b.is_number());
        let (format_min, format_max) = format_bounds(schema.get("format").and_then(Json::as_str));
        let min = bound("minimum").and_then(Json::as_f64).or(format_min);
        let max = bound("maximum").and_then(Json::as_f64).or(format_max);
        let message = match (min, max) {
            (Some(min), Some(max)) if number < min || number > max => {
                format!("must be between {min} and {max}, got {}", describe(node))
            }
            (Some(min), None) if number < min => format!("must be at least {min}, got {}", describe(node)),
            (None, Some(max)) if number > max => format!("must be at most {max}, got {}", describe(node)),
            _ => match (
                bound("exclusiveMinimum").and_then(Json::as_f64),
                bound("exclusiveMaximum").and_then(Json::as_f64),
            ) {
                (Some(min), _) if number <= min => format!("must be more than {min}, got {}", describe(node)),
                (_, Some(max)) if number >= max => format!("must be less than {max}, got {}", describe(node)),
                _ => return,
            },
        };
        self.error(node.place, message, None);
    }

    fn text(&mut self, node: &Node, text: &str, schema: &Json) {
        let limit = |name: &str| schema.get(name).and_then(Json::as_u64);
        let length = text.chars().count() as u64;
        if let Some(min) = limit("minLength").filter(|min| length < *min) {
            let message = match (length, min) {
                (0, _) => String::from("must not be empty"),
                _ => format!("needs at least {min} characters, has {length}"),
            };
            return self.error(node.place, message, None);
        }
        if let Some(max) = limit("maxLength").filter(|max| length > *max) {
            return self.error(
                node.place,
                format!("at most {max} characters are allowed, has {length}"),
                None,
            );
        }
        let pattern = schema.get("pattern").and_then(Json::as_str);
        let regex = pattern.and_then(|p| self.checker.patterns.get(p));
        if regex.is_some_and(|r| !r.is_match(text)) {
            let about =
                schema.get("description").and_then(Json::as_str).map(|d| d.trim_end_matches('.').to_owned());
            let message = format!("{} does not have the right form", describe(node));
            let help = about.or_else(|| pattern.map(|p| format!("it must match {p}")));
            self.error(node.place, message, help);
        }
    }
}

/// The types a schema names itself; empty where it says nothing.
pub(super) fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one.as_str()],
        Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

pub(super) fn is_type(node: &Node, name: &str) -> bool {
    match &node.value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Int(_) => matches!(name, "integer" | "number"),
        Value::Float(_) => name == "number",
        Value::String(_) => name == "string",
        Value::Sequence(_) => name == "array",
        Value::Mapping(_) => name == "object",
    }
}

fn describe_type(name: &str) -> &str {
    match name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

/// A value as a person would name it, cut short.
fn describe(node: &Node) -> String {
    const SHOWN: usize = 40;
    match &node.value {
        Value::Null => String::from("nothing"),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Int(value) => format!("the number {value}"),
        Value::Float(value) => format!("the number {value}"),
        Value::String(text) if text.chars().count() > SHOWN => {
            format!("the string `{}…`", text.chars().take(SHOWN).collect::<String>())
        }
        Value::String(text) => format!("the string `{text}`"),
        Value::Sequence(_) => String::from("a list"),
        Value::Mapping(_) => String::from("a mapping"),
    }
}

fn is_duration(schema: &Json) -> bool {
    schema.get("pattern").and_then(Json::as_str) == Some(GepDuration::PATTERN)
}

fn type_help(node: &Node, allowed: &[&str]) -> Option<String> {
    let wants = |name| allowed.contains(&name);
    match &node.value {
        Value::Int(n) if wants("string") => Some(format!("put it in quotes: \"{n}\"")),
        Value::Float(n) if wants("string") => Some(format!("put it in quotes: \"{n}\"")),
        Value::Bool(b) if wants("string") => Some(format!("put it in quotes: \"{b}\"")),
        Value::String(text) if wants("integer") && text.parse::<i64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        Value::String(text) if wants("boolean") => match text.as_str() {
            "yes" | "on" | "y" | "Yes" | "On" | "true" => Some(String::from("write true, without quotes")),
            "no" | "off" | "n" | "No" | "Off" | "false" => Some(String::from("write false, without quotes")),
            _ => None,
        },
        Value::Mapping(_) | Value::String(_) if wants("array") => {
            Some(String::from("begin each item of the list with `- `"))
        }
        _ => None,
    }
}

fn equals(node: &Node, json: &Json) -> bool {
    match (&node.value, json) {
        (Value::String(text), Json::String(other)) => text == other,
        (Value::Bool(value), Json::Bool(other)) => value == other,
        (Value::Int(value), Json::Number(other)) => other.as_i128() == Some(*value),
        (Value::Null, Json::Null) => true,
        _ => false,
    }
}

fn plain(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_owned)
}

/// `schemars` leaves the bounds of wider integers to `format`.
fn format_bounds(format: Option<&str>) -> (Option<f64>, Option<f64>) {
    match format {
        Some("uint32") => (Some(0.0), Some(f64::from(u32::MAX))),
        Some("int32") => (Some(f64::from(i32::MIN)), Some(f64::from(i32::MAX))),
        Some("uint64" | "uint") => (Some(0.0), None),
        _ => (None, None),
    }
}
