//! Problems for code review tools: SARIF 2.1.0 (OASIS, "Static Analysis Results Interchange Format").

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};
use tidegate_policy::document::Severity;
use tidegate_policy::lint;

use super::problem::{INVALID, Problem, Report};
use super::snippet::Snippet;

const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn render(report: &Report) -> Result<String> {
    let codes: BTreeSet<&str> = report.problems.iter().map(|problem| problem.code.as_str()).collect();
    let codes: Vec<&str> = codes.into_iter().collect();
    let results: Vec<_> = report.problems.iter().map(|problem| result(report, problem, &codes)).collect();
    let whole = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "tidegate",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": codes.iter().map(|code| rule(code)).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}

fn rule(code: &str) -> Value {
    let Some(lint) = lint::find(code) else {
        let about = match code {
            INVALID => "A document that is not valid",
            _ => "An object that cannot be used as it is written",
        };
        return json!({
            "id": code,
            "shortDescription": { "text": about },
            "defaultConfiguration": { "level": "error" },
        });
    };
    json!({
        "id": code,
        "shortDescription": { "text": lint.about },
        "fullDescription": { "text": lint.explanation },
        "help": { "text": lint.explanation },
        "defaultConfiguration": { "level": "warning" },
    })
}

fn result(report: &Report, problem: &Problem, codes: &[&str]) -> Value {
    let level = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text = problem.message.clone();
    if !problem.field.is_empty() {
        text = format!("{}: {text}", problem.field);
    }
    if let Some(help) = &problem.help {
        let _ = write!(text, " ({help})");
    }
    let related = problem.related.iter().map(|other| {
        let mut place = location(&other.file, region(other.line, 0, None));
        place["message"] = json!({ "text": other.message });
        place
    });
    let snippet =
        report.texts.get(&problem.file).and_then(|text| Snippet::of(text, problem.line, problem.column));
    let region = region(problem.line, problem.column, snippet.as_ref());
    let mut result = json!({
        "ruleId": problem.code,
        "ruleIndex": codes.binary_search(&problem.code.as_str()).unwrap_or_default(),
        "level": level,
        "message": { "text": text },
        "locations": [location(&problem.file, region)],
    });
    let related: Vec<_> = related.collect();
    if !related.is_empty() {
        result["relatedLocations"] = Value::Array(related);
    }
    result
}

fn location(file: &str, region: Option<Value>) -> Value {
    let mut physical = json!({ "artifactLocation": { "uri": uri(file) } });
    if let Some(region) = region {
        physical["region"] = region;
    }
    json!({ "physicalLocation": physical })
}

/// `None` where only the file is known: lines begin at 1.
fn region(line: u32, column: u32, snippet: Option<&Snippet>) -> Option<Value> {
    if line == 0 {
        return None;
    }
    let mut region = json!({ "startLine": line });
    if column > 0 {
        region["startColumn"] = json!(column);
        if let Some(snippet) = snippet {
            // The end is the first column behind it.
            region["endColumn"] = json!(usize::try_from(column).unwrap_or(1) + snippet.length);
        }
    }
    Some(region)
}

/// A path as a relative reference (RFC 3986): everything else than unreserved letters and slashes by its bytes.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn a_path_becomes_a_reference_that_any_reader_of_uris_takes() {
        assert_eq!(uri("mesh/a.yaml"), "mesh/a.yaml");
        assert_eq!(uri("./a b/ü:1.yaml"), "a%20b/%C3%BC%3A1.yaml");
    }
}
