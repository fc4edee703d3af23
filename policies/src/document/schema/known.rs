use serde_json::Value as Json;

use super::Checker;

/// The fields that one node may have, over every schema that applies to it.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) ignored: Vec<&'a str>,
    pub(super) unsupported: Vec<&'a str>,
    /// Properties are listed, and nothing says that there may be more.
    pub(super) closed: bool,
}

impl<'a> Known<'a> {
    pub(super) fn of(checker: &'a Checker, schema: &'a Json) -> Self {
        let mut known = Self::default();
        let mut open = false;
        known.collect(checker, schema, &mut open);
        known.closed &= !open;
        known
    }

    fn collect(&mut self, checker: &'a Checker, schema: &'a Json, open: &mut bool) {
        let target = checker.resolve(schema);
        if !std::ptr::eq(target, schema) {
            self.collect(checker, target, open);
        }
        if let Some(properties) = schema.get("properties").and_then(Json::as_object) {
            self.closed = true;
            for name in properties.keys().map(String::as_str) {
                if !self.names.contains(&name) {
                    self.names.push(name);
                }
            }
        }
        match schema.get("additionalProperties") {
            Some(Json::Bool(false)) => self.closed = true,
            Some(_) => *open = true,
            None => {}
        }
        self.ignored.extend(strings(schema.get("x-ignored")));
        self.unsupported.extend(strings(schema.get("x-unsupported")));
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for part in schema.get(keyword).and_then(Json::as_array).into_iter().flatten() {
                self.collect(checker, part, open);
            }
        }
    }
}

fn strings(list: Option<&Json>) -> impl Iterator<Item = &str> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}
