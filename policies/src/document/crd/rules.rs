//! CEL rules for a schema, of the sorts that specs need: `#[schemars(extend("x-kubernetes-validations" = …))]`.
//!
//! They say what a JSON schema of the API server cannot, of one object by itself. They are never stricter than `compile`,
//! which has the last word; a test holds both against the same documents. A field that is written as null counts as
//! written here.

use serde::Serialize;

/// Where Kubernetes reads them.
pub(crate) const KEYWORD: &str = "x-kubernetes-validations";

/// An entry of `x-kubernetes-validations`.
#[derive(Debug, Serialize)]
pub(crate) struct Rule {
    rule: String,
    message: String,
}

/// Exactly one of the fields is written.
pub(crate) fn exactly_one(fields: &[&str]) -> Rule {
    Rule {
        rule: format!("{} == 1", count(fields)),
        message: format!("write one of {}", listed(fields, "and")),
    }
}

/// No two of the fields are written.
pub(crate) fn at_most_one(fields: &[&str]) -> Rule {
    Rule {
        rule: format!("{} <= 1", count(fields)),
        message: format!("write {}, not both", listed(fields, "or")),
    }
}

/// At least one of the fields, which are not lists, is written.
pub(crate) fn at_least_one(fields: &[&str]) -> Rule {
    Rule {
        rule: fields.iter().map(|field| format!("has(self.{field})")).collect::<Vec<_>>().join(" || "),
        message: format!("write at least one of {}", listed(fields, "and")),
    }
}

/// One of the lists has an entry.
pub(crate) fn some_list(fields: &[&str]) -> Rule {
    let one = |field: &&str| format!("(has(self.{field}) && size(self.{field}) > 0)");
    Rule {
        rule: fields.iter().map(one).collect::<Vec<_>>().join(" || "),
        message: format!("write at least one of {}", listed(fields, "and")),
    }
}

/// `field` is written only where `tag` has one of the values.
pub(crate) fn only_with(field: &str, tag: &str, values: &[&str]) -> Rule {
    let quoted: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
    Rule {
        rule: format!("!has(self.{field}) || (has(self.{tag}) && self.{tag} in [{}])", quoted.join(", ")),
        message: format!("`{field}` goes with {tag} {} only", values.join(" or ")),
    }
}

/// `field` is written only where `other` is.
pub(crate) fn only_beside(field: &str, other: &str) -> Rule {
    Rule {
        rule: format!("!has(self.{field}) || has(self.{other})"),
        message: format!("`{field}` goes with `{other}` only"),
    }
}

/// `field` is written where `tag` has one of the values.
pub(crate) fn needed_with(field: &str, tag: &str, values: &[&str]) -> Rule {
    let quoted: Vec<_> = values.iter().map(|value| format!("'{value}'")).collect();
    Rule {
        rule: format!("!has(self.{tag}) || !(self.{tag} in [{}]) || has(self.{field})", quoted.join(", ")),
        message: format!("{tag} {} needs a `{field}`", values.join(" or ")),
    }
}

fn count(fields: &[&str]) -> String {
    let one = |field: &&str| format!("(has(self.{field}) ? 1 : 0)");
    fields.iter().map(one).collect::<Vec<_>>().join(" + ")
}

fn listed(fields: &[&str], last: &str) -> String {
    let quoted: Vec<_> = fields.iter().map(|field| format!("`{field}`")).collect();
    match quoted.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} {last} {end}", rest.join(", ")),
        _ => quoted.join(""),
    }
}
