//! A replay as one file of HTML: plots, tables, nothing from elsewhere and no script. Whatever was read is escaped.

use std::fmt::Write as _;

use tidegate_policy::simulate::{Column, Comparison};

use super::plot::{Course, svg};
use super::report::{
    COLUMNS, KEYS, Report, change_by, change_name, percent, route_name, rule_name, shown_span,
};
use super::text::shown;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2330;--dim:#667085;--paper:#fff;--line:#e4e7ec;--all:#9db4d6;--bad:#d64545;--warn:#e0a030;--ok:#3d9970}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--paper:#14181f;--line:#2a313c;--all:#41567a;--bad:#f07070;--warn:#e8b860;--ok:#5fc196}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}\
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}small,.dim{color:var(--dim)}\
svg{width:100%;height:auto}svg text{fill:var(--dim);font-size:11px}.grid{stroke:var(--line)}\
.all{fill:var(--all);background:var(--all)}.bad{fill:var(--bad);background:var(--bad)}.warn{fill:var(--warn);background:var(--warn)}\
.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .8em}.failed{color:var(--bad)}.ok{color:var(--ok)}\
code{font-size:.9em;overflow-wrap:anywhere}";

/// For text and for values of attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No control character has a place in HTML.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn render(report: &Report<'_>) -> String {
    let mut out = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width\">");
    let _ = write!(out, "<title>Replay of {}</title>", escape(&report.replay.source));
    let _ = write!(out, "<style>{STYLE}</style></head><body>");
    let _ = write!(out, "<h1>Traffic through policies</h1><p>{}</p>", escape(&report.headline()));
    thresholds(report, &mut out);
    sums(report, &mut out);
    plots(report, &mut out);
    rules(report, &mut out);
    keys(report, &mut out);
    routes(report, &mut out);
    backends(report, &mut out);
    if let Some(comparison) = report.runs.comparison() {
        changes(comparison, &mut out);
    }
    list("Not as in production", report.notes, &mut out);
    list("About the log", &report.warnings(), &mut out);
    out.push_str("</body></html>\n");
    out
}

/// A heading, then a table: each column with whether it is of numbers.
fn table(title: &str, columns: &[(&str, bool)], rows: &[Vec<String>], out: &mut String) {
    if rows.is_empty() {
        return;
    }
    let class = |number: bool| if number { " class=\"n\"" } else { "" };
    let _ = write!(out, "<h2>{}</h2><table><tr>", escape(title));
    for (name, number) in columns {
        let _ = write!(out, "<th{}>{}</th>", class(*number), escape(name));
    }
    out.push_str("</tr>");
    for row in rows {
        out.push_str("<tr>");
        for (cell, (_, number)) in row.iter().zip(columns) {
            let _ = write!(out, "<td{}>{}</td>", class(*number), escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

fn list(title: &str, lines: &[String], out: &mut String) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(out, "<h2>{}</h2><ul>", escape(title));
    for line in lines {
        let _ = write!(out, "<li>{}</li>", escape(line));
    }
    out.push_str("</ul>");
}

fn thresholds(report: &Report<'_>, out: &mut String) {
    for judged in report.judged {
        let (class, word) = if judged.holds { ("failed", "failed") } else { ("ok", "ok") };
        let (text, value) = (escape(&judged.text), escape(&judged.value));
        let _ = write!(out, "<p class=\"{class}\"><b>{word}</b> <code>{text}</code>: {value}</p>");
    }
}

fn sums(report: &Report<'_>, out: &mut String) {
    let tally = report.tally();
    let all = tally.sum(Column::Requests);
    let mut columns = vec![("", false), ("count", true), ("share", true)];
    let before = report.runs.comparison().map(Comparison::before);
    if before.is_some() {
        columns.push(("of the others", true));
    }
    let row = |(name, column): &(&str, Column)| {
        let sum = tally.sum(*column);
        let mut row = vec![(*name).to_owned(), sum.to_string(), format!("{:.3} %", percent(sum, all))];
        row.extend(before.map(|before| before.sum(*column).to_string()));
        row
    };
    table("All together", &columns, &COLUMNS.iter().map(row).collect::<Vec<_>>(), out);
    let statuses = tally.statuses.keys().chain(tally.logged.keys()).copied();
    let statuses: std::collections::BTreeSet<_> = statuses.collect();
    let count = |counts: &std::collections::BTreeMap<u16, u64>, status: u16| {
        counts.get(&status).copied().unwrap_or_default().to_string()
    };
    let row =
        |status: u16| vec![status.to_string(), count(&tally.statuses, status), count(&tally.logged, status)];
    let rows: Vec<_> = statuses.into_iter().map(row).collect();
    table("Status", &[("status", false), ("here", true), ("in the log", true)], &rows, out);
}

fn plots(report: &Report<'_>, out: &mut String) {
    let series = &report.tally().series;
    let span = series.step() * u32::try_from(series.counts().len()).unwrap_or(u32::MAX);
    let course = |name, class, column: Column| Course {
        name,
        class,
        counts: series.column(column as usize).collect(),
    };
    let step = shown_span(series.step());
    let _ = write!(out, "<h2>Requests <small>a step of {step}</small></h2><p class=\"dim\">");
    for (class, name) in [("all", "all"), ("bad", "refused"), ("warn", "failed")] {
        let _ = write!(out, "<span class=\"key {class}\"></span>{name} ");
    }
    out.push_str("</p>");
    let courses = [
        course("requests", "all", Column::Requests),
        course("refused", "bad", Column::Refused),
        course("failed", "warn", Column::Failed),
    ];
    out.push_str(&svg(&courses, &shown_span(span)));
    let others =
        [("Would refuse", Column::WouldRefuse), ("Delayed", Column::Delayed), ("Retries", Column::Retries)];
    for (name, column) in others.into_iter().filter(|(_, column)| report.tally().sum(*column) > 0) {
        let _ = write!(out, "<h2>{name}</h2>{}", svg(&[course(name, "warn", column)], &shown_span(span)));
    }
}

fn rules(report: &Report<'_>, out: &mut String) {
    let row = |rule: &&tidegate_policy::simulate::RuleTally| {
        let outcomes: Vec<_> = rule.outcomes.iter().map(|(word, count)| format!("{word} {count}")).collect();
        vec![rule_name(rule), rule.rule.source.to_string(), outcomes.join(", ")]
    };
    let rows: Vec<_> = report.rules().iter().map(row).collect();
    table("Rules that decided", &[("rule", false), ("written at", false), ("decisions", false)], &rows, out);
}

fn keys(report: &Report<'_>, out: &mut String) {
    for rule in report.rules() {
        let Some(keys) = &rule.keys else { continue };
        let row = |(key, count, excess): &(&str, u64, u64)| {
            vec![(*key).to_owned(), count.to_string(), excess.to_string()]
        };
        let rows: Vec<_> = keys.0.top(KEYS).iter().map(row).collect();
        let title = format!("Keys that {} refuses most", rule_name(rule));
        table(&title, &[("key", false), ("refused", true), ("of them maybe others'", true)], &rows, out);
    }
}

fn routes(report: &Report<'_>, out: &mut String) {
    let row = |route: &&tidegate_policy::simulate::RouteTally| {
        let counts = [route.requests, route.refused, route.failed].map(|count| count.to_string());
        [route_name(route)].into_iter().chain(counts).collect()
    };
    let rows: Vec<Vec<_>> = report.routes().iter().map(row).collect();
    let columns = [("route", false), ("requests", true), ("refused", true), ("failed", true)];
    table("Routes", &columns, &rows, out);
}

fn backends(report: &Report<'_>, out: &mut String) {
    let backends = &report.tally().backends;
    let row = |backend: &tidegate_policy::simulate::BackendTally| {
        let counts = [backend.calls, backend.failed, backend.peak].map(|count| count.to_string());
        [backend.backend.label.to_string()].into_iter().chain(counts).collect()
    };
    let rows: Vec<Vec<_>> = backends.iter().map(row).collect();
    let columns = [("backend", false), ("calls", true), ("failed", true), ("at one time", true)];
    table("Load on backends", &columns, &rows, out);
    for backend in backends.iter().take(16) {
        let span = backend.series.step() * u32::try_from(backend.series.counts().len()).unwrap_or(u32::MAX);
        let course =
            Course { name: &backend.backend.label, class: "all", counts: backend.series.column(0).collect() };
        let (label, plot) = (escape(&backend.backend.label), svg(&[course], &shown_span(span)));
        let _ = write!(out, "<p class=\"dim\">calls of {label}</p>{plot}");
    }
}

fn changes(comparison: &Comparison<'_>, out: &mut String) {
    let share = percent(comparison.changed(), comparison.after().sum(Column::Requests));
    let title = format!("Against the others: {} verdicts differ, {share:.3} %", comparison.changed());
    let row = |change: &&tidegate_policy::simulate::Change| {
        let (from, to) = change_name(change);
        let by = change_by(change).map(|(rule, source)| format!("{rule} ({source})")).unwrap_or_default();
        let examples: Vec<_> = change.examples.iter().map(shown).collect();
        vec![change.count.to_string(), from, to, by, examples.join("; ")]
    };
    let rows: Vec<_> = comparison.changes().iter().map(row).collect();
    let columns = [("requests", true), ("from", false), ("to", false), ("by", false), ("for example", false)];
    table(&title, &columns, &rows, out);
}
