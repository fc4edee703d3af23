//! A replay, for a terminal.

use std::fmt::Write as _;

use tidegate_policy::simulate::{Column, Comparison, Example};

use super::plot::spark;
use super::report::{
    COLUMNS, KEYS, Report, change_by, change_name, outcome, percent, route_name, rule_name, shown_span,
    shown_time,
};

const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// A sparkline is no wider.
const WIDTH: usize = 48;
/// No more lines of a table, or changes.
const LINES: usize = 20;

struct Page {
    out: String,
    colour: bool,
}

pub(super) fn render(report: &Report<'_>, colour: bool) -> String {
    let mut page = Page { out: String::new(), colour };
    page.line(&report.headline());
    page.sums(report);
    page.statuses(report);
    page.rules(report);
    page.keys(report);
    page.routes(report);
    page.backends(report);
    if let Some(comparison) = report.runs.comparison() {
        page.changes(comparison);
    }
    page.list("Not as in production", report.notes);
    page.list("About the log", &report.warnings());
    page.judged(report);
    page.out
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn title(&mut self, text: &str) {
        let text = self.tint(text, BOLD);
        let _ = writeln!(self.out, "\n{text}");
    }

    fn tint(&self, text: &str, code: &str) -> String {
        if self.colour { format!("{code}{text}{PLAIN}") } else { text.to_owned() }
    }

    fn list(&mut self, title: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.title(title);
            lines.iter().for_each(|line| self.line(&format!("  {line}")));
        }
    }

    /// Each with its share and its course.
    fn sums(&mut self, report: &Report<'_>) {
        let tally = report.tally();
        let all = tally.sum(Column::Requests);
        self.title(&format!("Over time, {} a step", shown_span(step(report))));
        for (name, column) in COLUMNS {
            let sum = tally.sum(column);
            let spark = spark(&tally.series.column(column as usize).collect::<Vec<_>>(), WIDTH);
            let spark = if sum == 0 { String::new() } else { spark };
            let line = format!("  {name:<13}{sum:>10}  {:>7.3} %  {spark}", percent(sum, all));
            self.line(line.trim_end());
        }
        if !tally.waited.is_zero() {
            let longest = tally.longest_wait.as_millis();
            let mean = tally.waited.as_millis() / u128::from(tally.sum(Column::Delayed).max(1));
            self.line(&format!("  those delayed waited {mean} ms on average, {longest} ms at most"));
        }
    }

    fn statuses(&mut self, report: &Report<'_>) {
        let tally = report.tally();
        self.title("Status          here    in the log");
        let mut all: Vec<_> = tally.statuses.keys().chain(tally.logged.keys()).copied().collect();
        all.sort_unstable();
        all.dedup();
        let of = |counts: &std::collections::BTreeMap<u16, u64>, status| {
            counts.get(&status).map_or_else(|| String::from("-"), ToString::to_string)
        };
        for status in all {
            let (here, logged) = (of(&tally.statuses, status), of(&tally.logged, status));
            self.line(&format!("  {status:<6}{here:>12}  {logged:>12}"));
        }
        let reasons: Vec<_> =
            tally.reasons.iter().map(|(reason, count)| format!("{} {count}", reason.flag())).collect();
        if !reasons.is_empty() {
            self.line(&format!("  by the mesh: {}", reasons.join(", ")));
        }
    }

    fn rules(&mut self, report: &Report<'_>) {
        let rules = report.rules();
        if rules.is_empty() {
            return;
        }
        self.title("Rules that decided");
        for rule in rules.iter().take(LINES) {
            let outcomes: Vec<_> =
                rule.outcomes.iter().map(|(word, count)| format!("{word} {count}")).collect();
            let refuses = outcome(rule, "refused") > 0;
            let outcomes = outcomes.join(", ");
            let outcomes = if refuses { self.tint(&outcomes, RED) } else { outcomes };
            let (name, source) = (rule_name(rule), &rule.rule.source);
            self.line(&format!("  {name}  {source}\n    {outcomes}"));
        }
        self.more(rules.len());
    }

    fn keys(&mut self, report: &Report<'_>) {
        let rules: Vec<_> = report.rules().into_iter().filter(|rule| rule.keys.is_some()).collect();
        if rules.is_empty() {
            return;
        }
        self.title("Keys refused most");
        for rule in rules.iter().take(LINES) {
            self.line(&format!("  {}", rule_name(rule)));
            for (key, count, excess) in rule.keys.iter().flat_map(|keys| keys.0.top(KEYS)) {
                let shown: String = key.chars().filter(|c| !c.is_control()).take(60).collect();
                let about =
                    if excess > 0 { format!(" ({excess} of them maybe others')") } else { String::new() };
                self.line(&format!("    {count:>10}  {shown}{about}"));
            }
        }
    }

    fn routes(&mut self, report: &Report<'_>) {
        let routes = report.routes();
        if routes.is_empty() {
            return;
        }
        self.title("Routes              requests     refused      failed");
        for route in routes.iter().take(LINES) {
            let (requests, refused, failed) = (route.requests, route.refused, route.failed);
            self.line(&format!("  {:<16}{requests:>12}{refused:>12}{failed:>12}", route_name(route)));
        }
        self.more(routes.len());
    }

    fn backends(&mut self, report: &Report<'_>) {
        let backends = &report.tally().backends;
        if backends.is_empty() {
            return;
        }
        self.title("Backends               calls      failed  at one time");
        for backend in backends.iter().take(LINES) {
            let spark = spark(&backend.series.column(0).collect::<Vec<_>>(), WIDTH / 2);
            let (calls, failed, peak) = (backend.calls, backend.failed, backend.peak);
            self.line(&format!("  {:<16}{calls:>12}{failed:>12}{peak:>13}  {spark}", backend.backend.label));
        }
        self.more(backends.len());
    }

    fn changes(&mut self, comparison: &Comparison<'_>) {
        let all = comparison.after().sum(Column::Requests);
        let (changed, share) = (comparison.changed(), percent(comparison.changed(), all));
        self.title(&format!("Against the others: {changed} verdicts differ, {share:.3} %"));
        let changes = comparison.changes();
        for change in changes.iter().take(LINES) {
            let (from, to) = change_name(change);
            let line = format!("  {:>10}  {from} -> {to}", change.count);
            let line = self.tint(&line, if change.to.reason.is_some() { RED } else { GREEN });
            self.line(&line);
            if let Some((rule, source)) = change_by(change) {
                self.line(&format!("              by {rule}  {source}"));
            }
            change
                .examples
                .iter()
                .for_each(|example| self.line(&format!("              {}", shown(example))));
        }
        self.more(changes.len());
        if comparison.others() > 0 {
            self.line(&format!("  {} more, in other ways", comparison.others()));
        }
    }

    fn judged(&mut self, report: &Report<'_>) {
        if report.judged.is_empty() {
            return;
        }
        self.title("Thresholds");
        for judged in report.judged {
            let word = match judged.holds {
                true => self.tint("FAILED", RED),
                false => self.tint("ok", GREEN),
            };
            self.line(&format!("  {word} {}: {}", judged.text, judged.value));
        }
    }

    fn more(&mut self, all: usize) {
        if all > LINES {
            let more = self.tint(&format!("  and {} more: --json has all", all - LINES), YELLOW);
            self.line(&more);
        }
    }
}

fn step(report: &Report<'_>) -> std::time::Duration {
    let series = &report.tally().series;
    let steps = series.counts().len().max(1);
    series.step() * u32::try_from(steps.div_ceil(WIDTH)).unwrap_or(1)
}

/// `2026-11-28T18:10:28Z 10.0.0.7 GET shop.example/cart`.
pub(super) fn shown(example: &Example) -> String {
    let host = example.host.as_ref().map(|host| String::from_utf8_lossy(host.as_bytes())).unwrap_or_default();
    let (at, client) = (shown_time(example.at), example.client);
    let uri: String = example.uri.to_string().chars().take(100).collect();
    format!("{at} {client} {} {host}{uri}", example.method)
}
