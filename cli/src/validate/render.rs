//! Problems for people: what, where, the line itself, and what would be right.

use std::fmt::Write as _;

use tidegate_policy::document::Severity;

use super::problem::{INVALID, Problem, Report};
use super::snippet::{Snippet, clean};

const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const BLUE: &str = "\u{1b}[1;34m";
const GREEN: &str = "\u{1b}[32m";
const BOLD: &str = "\u{1b}[1m";

pub(super) fn text(report: &Report, colour: bool) -> String {
    let mut out = String::new();
    for problem in &report.problems {
        tell(report, problem, colour, &mut out);
        out.push('\n');
    }
    out += &summary(report, colour);
    out
}

fn tell(report: &Report, problem: &Problem, colour: bool, out: &mut String) {
    let (word, hue) = match problem.severity {
        Severity::Error => ("error", RED),
        Severity::Warning => ("warning", YELLOW),
    };
    let code = if problem.code == INVALID { String::new() } else { format!("[{}]", problem.code) };
    let word = tint(&format!("{word}{code}"), hue, colour);
    let message = tint(&clean(&problem.message), BOLD, colour);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{word}: {message}");
    let width = problem.line.max(1).ilog10() as usize + 1;
    let bar = |text: &str| tint(&format!("{text:>width$} |"), BLUE, colour);
    let arrow = tint(&format!("{:>width$}-->", ""), BLUE, colour);
    let _ = writeln!(out, "{arrow} {}", place(problem));
    let text = report.texts.get(&problem.file);
    let snippet = text.and_then(|text| Snippet::of(text, problem.line, problem.column));
    if let Some(Snippet { text, before, length }) = snippet {
        let field = clean(&problem.field);
        let marks = tint(format!("{} {field}", "^".repeat(length)).trim_end(), hue, colour);
        let _ = writeln!(out, "{}", bar(""));
        let _ = writeln!(out, "{} {text}", bar(&problem.line.to_string()));
        let _ = writeln!(out, "{} {}{marks}", bar(""), " ".repeat(before));
    } else if !problem.field.is_empty() {
        let _ = writeln!(out, "{} {}", bar(""), clean(&problem.field));
    }
    let label = |name: &str| tint(&format!("{:>width$} = {name}:", ""), BLUE, colour);
    if let Some(help) = &problem.help {
        let _ = writeln!(out, "{} {}", label("help"), clean(help));
    }
    for other in &problem.related {
        let _ = writeln!(
            out,
            "{} {}:{}: {}",
            label("note"),
            clean(&other.file),
            other.line,
            clean(&other.message)
        );
    }
}

fn place(problem: &Problem) -> String {
    let file = clean(&problem.file);
    match (problem.line, problem.column) {
        (0, _) => file,
        (line, 0) => format!("{file}:{line}"),
        (line, column) => format!("{file}:{line}:{column}"),
    }
}

fn summary(report: &Report, colour: bool) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (errors, warnings) = (report.errors(), report.warnings());
    let hue = match (errors, warnings) {
        (0, 0) => GREEN,
        (0, _) => YELLOW,
        _ => RED,
    };
    let found = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
    let looked = format!("{}, {}", count(report.files, "file"), count(report.objects, "object"));
    format!("{looked}, {}\n", tint(&found, hue, colour))
}

fn tint(text: &str, hue: &str, colour: bool) -> String {
    if colour && !text.is_empty() { format!("{hue}{text}\u{1b}[0m") } else { text.to_owned() }
}
