//! A schema as `schemars` writes it, as the structural schema that the API server wants (Kubernetes: "Specifying a
//! structural schema"): one type each, no references, no choices with a structure of their own.
//!
//! What has no structural form (an enum with data that is neither tagged nor constant) becomes `x-kubernetes-preserve-
//! unknown-fields`: the API server keeps it as written and admission judges it. No kind has such a field, but one that
//! asks for it because what is written there is for others to know: a plugin's configuration. A test asks for another spelling
//! where one appears.

use serde_json::{Map, Value as Json, json};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Said of a value, and the same in both dialects.
const KEPT: [&str; 16] = [
    "description",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "multipleOf",
    "enum",
    "required",
    "nullable",
    super::rules::KEYWORD,
    PRESERVE,
];

pub(super) fn schema(root: &Json) -> Map<String, Json> {
    Converter { root, within: Vec::new() }.convert(root)
}

struct Converter<'a> {
    root: &'a Json,
    /// The references that are being followed: a type that holds itself has no structural form.
    within: Vec<&'a str>,
}

impl<'a> Converter<'a> {
    fn convert(&mut self, schema: &'a Json) -> Map<String, Json> {
        let Some(written) = schema.as_object() else { return preserved() };
        let mut out = match written.get("$ref").and_then(Json::as_str) {
            Some(reference) => self.follow(reference),
            None => Map::new(),
        };
        for keyword in ["anyOf", "oneOf"] {
            if let Some(branches) = written.get(keyword).and_then(Json::as_array) {
                out.extend(self.choice(branches));
            }
        }
        self.own(written, &mut out);
        out
    }

    fn follow(&mut self, reference: &'a str) -> Map<String, Json> {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target.filter(|_| !self.within.contains(&reference)) else { return preserved() };
        self.within.push(reference);
        let followed = self.convert(target);
        self.within.pop();
        followed
    }

    /// What the schema says itself, over what its parts say.
    fn own(&mut self, written: &'a Map<String, Json>, out: &mut Map<String, Json>) {
        for keyword in KEPT {
            if let Some(value) = written.get(keyword) {
                out.insert(keyword.to_owned(), value.clone());
            }
        }
        if let Some(value) = written.get("const") {
            out.insert("enum".to_owned(), json!([value]));
        }
        match written.get("type") {
            Some(Json::Array(types)) => {
                if types.iter().any(|t| t == "null") {
                    out.insert("nullable".to_owned(), json!(true));
                }
                let others: Vec<_> = types.iter().filter(|t| *t != "null").collect();
                match others[..] {
                    [one] => drop(out.insert("type".to_owned(), one.clone())),
                    _ => out.extend(either(others.iter().filter_map(|t| t.as_str()))),
                }
            }
            Some(one) => drop(out.insert("type".to_owned(), one.clone())),
            None => {}
        }
        // An empty list or mapping is what is not written; to fill it in would only make noise.
        let default = written.get("default").filter(|value| !is_empty(value));
        out.extend(default.map(|value| ("default".to_owned(), value.clone())));
        number(written, out);
        self.inner(written, out);
    }

    fn inner(&mut self, written: &'a Map<String, Json>, out: &mut Map<String, Json>) {
        if let Some(items) = written.get("items") {
            out.insert("items".to_owned(), Json::Object(self.convert(items)));
        }
        if let Some(properties) = written.get("properties").and_then(Json::as_object) {
            let converted =
                properties.iter().map(|(name, schema)| (name.clone(), self.convert(schema).into()));
            out.insert("properties".to_owned(), Json::Object(converted.collect()));
        } else if let Some(rest) = written.get("additionalProperties").filter(|rest| rest.is_object()) {
            out.insert("additionalProperties".to_owned(), Json::Object(self.convert(rest)));
        }
    }

    fn choice(&mut self, branches: &'a [Json]) -> Map<String, Json> {
        let is_null = |branch: &Json| branch.get("type").is_some_and(|t| t == "null");
        let mut out = match branches.iter().filter(|branch| !is_null(branch)).collect::<Vec<_>>()[..] {
            [only] => self.convert(only),
            ref several => self.several(several),
        };
        if branches.iter().any(is_null) {
            out.insert("nullable".to_owned(), json!(true));
        }
        out
    }

    fn several(&mut self, branches: &[&'a Json]) -> Map<String, Json> {
        let converted: Vec<_> = branches.iter().map(|branch| self.convert(branch)).collect();
        let types: Vec<_> = converted.iter().filter_map(|c| c.get("type").and_then(Json::as_str)).collect();
        let constants: Option<Vec<_>> =
            converted.iter().map(|c| c.get("enum").and_then(Json::as_array).cloned()).collect();
        match (constants, types.first()) {
            (Some(constants), Some(first)) if types.iter().all(|t| t == first) => {
                let mut out = Map::from_iter([("type".to_owned(), json!(first))]);
                out.insert("enum".to_owned(), constants.concat().into());
                let told: Vec<_> = converted.iter().filter_map(told).collect();
                if !told.is_empty() {
                    out.insert("description".to_owned(), told.join("\n").into());
                }
                out
            }
            _ => either(types.into_iter()),
        }
    }
}

/// `- H2C: HTTP/2 with prior knowledge.`
fn told(constant: &Map<String, Json>) -> Option<String> {
    let about = constant.get("description")?.as_str()?;
    let value = constant.get("enum")?.get(0)?.as_str()?;
    Some(format!("- {value}: {about}"))
}

fn preserved() -> Map<String, Json> {
    Map::from_iter([(PRESERVE.to_owned(), json!(true))])
}

fn either<'t>(types: impl Iterator<Item = &'t str>) -> Map<String, Json> {
    let mut types: Vec<_> = types.collect();
    types.sort_unstable();
    match types[..] {
        ["integer", "string"] => Map::from_iter([(INT_OR_STRING.to_owned(), json!(true))]),
        _ => preserved(),
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Formats and bounds: OpenAPI v3 knows no unsigned numbers, and says whether a bound is itself allowed beside it.
fn number(written: &Map<String, Json>, out: &mut Map<String, Json>) {
    let (format, low, high) = match written.get("format").and_then(Json::as_str) {
        Some("uint8") => ("int32", Some(0), Some(i64::from(u8::MAX))),
        Some("uint16") => ("int32", Some(0), Some(i64::from(u16::MAX))),
        Some("int8" | "int16" | "int32") => ("int32", None, None),
        Some("uint32") => ("int64", Some(0), Some(i64::from(u32::MAX))),
        Some("uint64" | "uint") => ("int64", Some(0), None),
        Some("int64" | "int") => ("int64", None, None),
        Some("double" | "float") => ("double", None, None),
        _ => return,
    };
    out.insert("format".to_owned(), json!(format));
    for (inclusive, exclusive, bound) in
        [("minimum", "exclusiveMinimum", low), ("maximum", "exclusiveMaximum", high)]
    {
        if let Some(value) = written.get(exclusive) {
            out.insert(inclusive.to_owned(), value.clone());
            out.insert(exclusive.to_owned(), json!(true));
        } else if let (Some(bound), false) = (bound, out.contains_key(inclusive)) {
            out.insert(inclusive.to_owned(), json!(bound));
        }
    }
}
