//! Problems for scripts. The names here are kept.

use anyhow::Result;
use serde_json::{Value, json};

use super::problem::{Problem, Report};

pub(super) fn render(report: &Report) -> Result<String> {
    let whole = json!({
        "files": report.files,
        "objects": report.objects,
        "errors": report.errors(),
        "warnings": report.warnings(),
        "diagnostics": report.problems.iter().map(problem).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}

fn problem(problem: &Problem) -> Value {
    let related = |other: &super::problem::Related| json!({ "file": *other.file, "line": other.line, "message": other.message });
    json!({
        "severity": problem.severity,
        "code": problem.code,
        "file": *problem.file,
        "line": problem.line,
        "column": problem.column,
        "field": problem.field,
        "message": problem.message,
        "help": problem.help,
        "related": problem.related.iter().map(related).collect::<Vec<_>>(),
    })
}
