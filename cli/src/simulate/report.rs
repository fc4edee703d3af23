//! What is told of a replay, whatever it is told as.

use std::time::Duration;

use anyhow::Result;
use tidegate_policy::Timestamp;
use tidegate_policy::simulate::{Change, Column, Measured, RouteTally, RuleTally, Tally, Threshold};

use super::feed::{Replay, Runs};

/// See the module.
pub(super) struct Report<'r> {
    pub(super) replay: &'r Replay,
    pub(super) runs: &'r Runs<'r>,
    pub(super) judged: &'r [Judged],
    pub(super) notes: &'r [String],
}

/// A threshold and what it came to.
pub(super) struct Judged {
    pub(super) text: String,
    pub(super) holds: bool,
    pub(super) value: String,
}

/// What is counted, in the order in which it is told.
pub(super) const COLUMNS: [(&str, Column); 7] = [
    ("requests", Column::Requests),
    ("limited", Column::Limited),
    ("refused", Column::Refused),
    ("would_refuse", Column::WouldRefuse),
    ("delayed", Column::Delayed),
    ("retries", Column::Retries),
    ("failed", Column::Failed),
];

/// So many keys of a rule are told.
pub(super) const KEYS: usize = 10;

impl Judged {
    /// # Errors
    /// It asks for what was not measured.
    pub(super) fn of(threshold: &Threshold, runs: &Runs<'_>) -> Result<Self> {
        let changed = runs.comparison().map(|comparison| comparison.changed());
        let measured = Measured { tally: runs.tally(), changed };
        let (holds, value) = threshold.holds(measured).map_err(anyhow::Error::msg)?;
        let value = if threshold.is_percent() { format!("{value:.3} %") } else { value.to_string() };
        Ok(Self { text: threshold.to_string(), holds, value })
    }
}

impl Report<'_> {
    pub(super) fn tally(&self) -> &Tally {
        self.runs.tally()
    }

    /// Whose traffic, how much of it, and how fast.
    pub(super) fn headline(&self) -> String {
        let tally = self.tally();
        let (all, took) = (tally.sum(Column::Requests), self.replay.took.as_secs_f64());
        let span = tally.last.since(tally.first.unwrap_or(tally.last));
        let Replay { source, format, .. } = self.replay;
        let (span, first) = (shown_span(span), shown_time(tally.first.unwrap_or_default()));
        format!(
            "{all} requests of {source} ({format}), {span} of traffic from {first} on, replayed in {took:.2} s"
        )
    }

    /// What was not as it should be, in sentences.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Replay { lines, garbage, first, missing, others, late, broken, .. } = self.replay;
        let mut told = Vec::new();
        if let Some(broken) = broken {
            told.push(format!("the log {broken}: what came before was replayed"));
        }
        if *garbage > 0 {
            told.push(format!("{garbage} of {lines} lines are no lines of a log and were passed over:"));
            told.extend(first.iter().map(|(line, why, text)| format!("  line {line}: {why}: {text}")));
        }
        for (what, count) in missing {
            told.push(match what.as_str() {
                "parts of a second" => {
                    format!("{count} lines have whole seconds only: they were spread over theirs by chance")
                }
                what => format!("{count} lines have no {what}: the usual one was taken"),
            });
        }
        if self.replay.format == "tidegate" {
            told.push(String::from("our own log has no queries: what asks for one sees none"));
        }
        if *others > 0 {
            told.push(format!(
                "{others} lines are of another side of a proxy than --as says, and were left out"
            ));
        }
        if *late > 0 {
            told.push(format!("the clock of the log goes backwards by too much: {late} requests were moved"));
        }
        if self.tally().cut_short > 0 {
            told.push(format!(
                "{} requests ended early, for too many were under way",
                self.tally().cut_short
            ));
        }
        told
    }

    /// Rules of policies, those that refuse most first.
    pub(super) fn rules(&self) -> Vec<&RuleTally> {
        let mut rules: Vec<_> = self.tally().rules.iter().collect();
        let refusals = |rule: &RuleTally| outcome(rule, "refused") + outcome(rule, "would_refuse");
        rules.sort_by_key(|rule| {
            (std::cmp::Reverse(refusals(rule)), rule.policy.name.to_string(), rule.rule.name.clone())
        });
        rules
    }

    /// Rules of routes, those with most requests first.
    pub(super) fn routes(&self) -> Vec<&RouteTally> {
        let mut routes: Vec<_> = self.tally().routes.iter().collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.requests));
        routes
    }
}

pub(super) fn outcome(rule: &RuleTally, outcome: &str) -> u64 {
    rule.outcomes.get(outcome)
}

/// `RateLimitPolicy shop/p each`.
pub(super) fn rule_name(rule: &RuleTally) -> String {
    format!("{} {} {}", rule.policy.kind, rule.policy.name, rule.rule.name)
}

pub(super) fn route_name(route: &RouteTally) -> String {
    match &route.rule.route {
        Some(name) => format!("{name} {}", route.rule.name),
        None => route.rule.name.to_string(),
    }
}

/// `200 shop/v1:80` -> `429 rate_limited`.
pub(super) fn change_name(change: &Change) -> (String, String) {
    let of = |ended: &tidegate_policy::simulate::Ended| {
        let reason = ended.reason.map(|reason| reason.flag());
        let detail = reason.or(ended.backend.as_deref()).map(|detail| format!(" {detail}"));
        format!("{}{}", ended.status, detail.unwrap_or_default())
    };
    (of(&change.from), of(&change.to))
}

/// The rule that makes the difference, and where it is written.
pub(super) fn change_by(change: &Change) -> Option<(String, String)> {
    let by = change.by.as_ref()?;
    let name = format!("{} {} {}", by.policy.kind, by.policy.name, by.rule.name);
    Some((name, by.source().to_string()))
}

/// The lines that are none, for who has hardly any other.
pub(super) fn garbage(replay: &Replay) -> Vec<String> {
    let line = |(number, why, text): &(u64, &str, String)| format!("line {number}: {why}: {text}");
    replay.first.iter().map(line).collect()
}

pub(super) fn percent(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

/// `2h 3m`, `1.5 s`.
pub(super) fn shown_span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// RFC 3339, in UTC and whole seconds.
pub(super) fn shown_time(at: Timestamp) -> String {
    let seconds = at.as_nanos() / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let from_march = days + 719_468;
    let (era, of_era) = (from_march / 146_097, from_march % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
