//! What came of the cases, for people and for scripts.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};
use tidegate_policy::cases::{Coverage, Mismatch, Ran};

use super::Outcome;

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";

pub(super) fn text(outcomes: &[Outcome], coverage: Option<&Coverage>, colour: bool) -> String {
    let mut out = String::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.ran.as_ref().map_or(true, |ran| !ran.is_empty()))
    {
        let _ = writeln!(out, "{}", outcome.path);
        match &outcome.ran {
            Ok(ran) => ran.iter().for_each(|case| tell(case, colour, &mut out)),
            Err(faults) => faults.iter().for_each(|fault| {
                let _ = writeln!(out, "  {fault}");
            }),
        }
    }
    if let Some(coverage) = coverage {
        tell_coverage(coverage, colour, &mut out);
    }
    let Sums { passed, failed, unread } = Sums::of(outcomes);
    let word = if failed + unread == 0 { tint("passed", GREEN, colour) } else { tint("failed", RED, colour) };
    let _ = write!(out, "{word}: {passed} of {} cases hold", passed + failed);
    if unread > 0 {
        let _ = write!(out, "; {unread} files could not be run");
    }
    out.push('\n');
    out
}

fn tell(case: &Ran, colour: bool, out: &mut String) {
    let word = match case.mismatches.is_empty() {
        true => tint("ok", GREEN, colour),
        false => tint("FAILED", RED, colour),
    };
    let _ = writeln!(out, "  {word} {}", case.name);
    for Mismatch { file, line, field, expected, got, .. } in &case.mismatches {
        let _ = writeln!(out, "    {file}:{line}: {field}");
        let _ = writeln!(out, "      expected {}", tint(expected, GREEN, colour));
        let _ = writeln!(out, "      got      {}", tint(got, RED, colour));
    }
}

fn tell_coverage(coverage: &Coverage, colour: bool, out: &mut String) {
    let unseen: Vec<_> = coverage.unseen().collect();
    let rules = coverage.rules();
    let _ = writeln!(out, "{} of {rules} rules have decided something", rules - unseen.len());
    for (words, source) in unseen {
        let _ = writeln!(out, "  {} {source}: {words}", tint("never", YELLOW, colour));
    }
}

pub(super) fn json(outcomes: &[Outcome], coverage: Option<&Coverage>) -> Result<String> {
    let Sums { passed, failed, unread } = Sums::of(outcomes);
    let mut all = json!({
        "passed": passed, "failed": failed, "unread": unread,
        "files": outcomes.iter().map(file).collect::<Vec<_>>(),
    });
    if let Some(coverage) = coverage {
        let unseen = coverage.unseen();
        let unseen: Vec<_> =
            unseen.map(|(rule, source)| json!({"rule": rule, "source": source.to_string()})).collect();
        all["coverage"] = json!({"rules": coverage.rules(), "unseen": unseen});
    }
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}

fn file(outcome: &Outcome) -> Value {
    match &outcome.ran {
        Ok(ran) => json!({"path": &*outcome.path, "cases": ran.iter().map(case).collect::<Vec<_>>()}),
        Err(faults) => {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            json!({"path": &*outcome.path, "errors": faults})
        }
    }
}

fn case(ran: &Ran) -> Value {
    let mismatch = |mismatch: &Mismatch| {
        let Mismatch { line, field, expected, got, .. } = mismatch;
        json!({"line": line, "field": field, "expected": expected, "got": got})
    };
    let mismatches: Vec<_> = ran.mismatches.iter().map(mismatch).collect();
    json!({"name": ran.name, "line": ran.line, "passed": mismatches.is_empty(), "mismatches": mismatches})
}

/// How many cases hold, how many do not, and how many files could not be run.
struct Sums {
    passed: usize,
    failed: usize,
    unread: usize,
}

impl Sums {
    fn of(outcomes: &[Outcome]) -> Self {
        let mut sums = Self { passed: 0, failed: 0, unread: 0 };
        for outcome in outcomes {
            let Ok(ran) = &outcome.ran else {
                sums.unread += 1;
                continue;
            };
            let failed = ran.iter().filter(|case| !case.mismatches.is_empty()).count();
            sums.failed += failed;
            sums.passed += ran.len() - failed;
        }
        sums
    }
}

fn tint(text: &str, tone: &str, colour: bool) -> String {
    if colour { format!("{tone}{text}\u{1b}[0m") } else { text.to_owned() }
}
