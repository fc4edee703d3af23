//! A replay, for programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_policy::simulate::{Change, Comparison};

use super::report::{COLUMNS, KEYS, Report, change_by, route_name};
use super::text::shown;

pub(super) fn render(report: &Report<'_>) -> Value {
    let (tally, replay) = (report.tally(), report.replay);
    let sums: serde_json::Map<_, _> =
        COLUMNS.iter().map(|(name, column)| ((*name).to_owned(), json!(tally.sum(*column)))).collect();
    let series: serde_json::Map<_, _> = COLUMNS
        .iter()
        .map(|(name, column)| {
            ((*name).to_owned(), json!(tally.series.column(*column as usize).collect::<Vec<_>>()))
        })
        .collect();
    let reasons: serde_json::Map<_, _> =
        tally.reasons.iter().map(|(reason, count)| (reason.flag().to_owned(), json!(count))).collect();
    json!({
        "source": replay.source,
        "format": replay.format,
        "first_unix_ms": tally.first.map(|at| at.as_nanos() / 1_000_000),
        "last_unix_ms": tally.last.as_nanos() / 1_000_000,
        "sums": sums,
        "retried": tally.retried,
        "calls": tally.calls,
        "waited_ms": tally.waited.as_millis() as u64,
        "longest_wait_ms": tally.longest_wait.as_millis() as u64,
        "statuses": tally.statuses,
        "logged_statuses": tally.logged,
        "reasons": reasons,
        "rules": rules(report),
        "routes": routes(report),
        "backends": backends(report),
        "series": {"step_ms": tally.series.step().as_millis() as u64, "counts": series},
        "against": report.runs.comparison().map(against),
        "thresholds": thresholds(report),
        "notes": report.notes,
        "log": {
            "lines": replay.lines,
            "garbage": replay.garbage,
            "first_garbage": replay.first.iter().map(|(line, why, text)| json!({"line": line, "why": why, "text": text})).collect::<Vec<_>>(),
            "missing": replay.missing.iter().map(|(what, count)| (what.as_str().to_owned(), json!(count))).collect::<serde_json::Map<_, _>>(),
            "other_sides": replay.others,
            "late": replay.late,
            "broken": replay.broken,
        },
    })
}

fn rules(report: &Report<'_>) -> Vec<Value> {
    let keys = |key: &(&str, u64, u64)| json!({"key": key.0, "count": key.1, "excess": key.2});
    let rules = report.rules().into_iter().map(|rule| {
        let top = rule.keys.as_ref().map(|all| all.0.top(KEYS).iter().map(keys).collect::<Vec<_>>());
        json!({
            "kind": rule.policy.kind,
            "policy": rule.policy.name.to_string(),
            "rule": rule.rule.name,
            "source": rule.rule.source,
            "outcomes": rule.outcomes.iter().collect::<BTreeMap<_, _>>(),
            "refused_keys": top,
        })
    });
    rules.collect()
}

fn routes(report: &Report<'_>) -> Vec<Value> {
    let routes = report.routes().into_iter().map(|route| {
        json!({
            "route": route_name(route),
            "source": route.rule.source,
            "requests": route.requests,
            "refused": route.refused,
            "failed": route.failed,
        })
    });
    routes.collect()
}

fn backends(report: &Report<'_>) -> Vec<Value> {
    let backends = report.tally().backends.iter().map(|backend| {
        json!({
            "backend": backend.backend.label,
            "calls": backend.calls,
            "failed": backend.failed,
            "peak": backend.peak,
        })
    });
    backends.collect()
}

fn against(comparison: &Comparison<'_>) -> Value {
    let sums: serde_json::Map<_, _> = COLUMNS
        .iter()
        .map(|(name, column)| ((*name).to_owned(), json!(comparison.before().sum(*column))))
        .collect();
    json!({
        "changed": comparison.changed(),
        "others": comparison.others(),
        "sums": sums,
        "changes": comparison.changes().into_iter().map(change).collect::<Vec<_>>(),
    })
}

fn change(change: &Change) -> Value {
    let ended = |ended: &tidegate_policy::simulate::Ended| {
        let reason = ended.reason.map(|reason| reason.flag());
        json!({"status": ended.status, "reason": reason, "backend": ended.backend})
    };
    let by = change_by(change).map(|(rule, source)| json!({"rule": rule, "source": source}));
    json!({
        "count": change.count,
        "from": ended(&change.from),
        "to": ended(&change.to),
        "by": by,
        "examples": change.examples.iter().map(shown).collect::<Vec<_>>(),
    })
}

fn thresholds(report: &Report<'_>) -> Vec<Value> {
    let one = |judged: &super::report::Judged| json!({"threshold": judged.text, "value": judged.value, "failed": judged.holds});
    report.judged.iter().map(one).collect()
}
