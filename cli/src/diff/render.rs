//! Changes for people and for scripts.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;
use tidegate_policy::diff::{Change, Detail, Said, Topic, Way};
use tidegate_policy::model::SourceRef;

const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const YELLOW: &str = "\u{1b}[33m";
const BOLD: &str = "\u{1b}[1m";

/// Of the ways on which the same changes, so many are named.
const NAMED: usize = 4;

pub(super) fn json(changes: &[Change]) -> Result<String> {
    let [added, removed, changed] = count(changes);
    let whole = json!({ "added": added, "removed": removed, "changed": changed, "changes": changes });
    Ok(serde_json::to_string_pretty(&whole)? + "\n")
}

pub(super) fn text(changes: &[Change], colour: bool) -> String {
    if changes.is_empty() {
        return String::from("No change in effect.\n");
    }
    let mut out = String::new();
    let mut topic = None;
    for change in changes {
        if topic.replace(change.topic) != Some(change.topic) {
            let _ = writeln!(out, "{}", tint(heading(change.topic), BOLD, colour));
        }
        tell(change, colour, &mut out);
    }
    let [added, removed, changed] = count(changes);
    let _ = writeln!(out, "{added} added, {removed} removed, {changed} changed");
    out
}

fn count(changes: &[Change]) -> [usize; 3] {
    [Way::Added, Way::Removed, Way::Changed].map(|way| changes.iter().filter(|one| one.way == way).count())
}

fn heading(topic: Topic) -> &'static str {
    match topic {
        Topic::Listener => "Listeners",
        Topic::Route => "Where requests lead",
        Topic::Holds => "Which policies hold",
        Topic::Policy => "What policies say",
        Topic::Backend => "Backends",
        Topic::Endpoints => "Endpoints",
    }
}

fn tell(change: &Change, colour: bool, out: &mut String) {
    let (sign, hue) = match change.way {
        Way::Added => ("+", GREEN),
        Way::Removed => ("-", RED),
        Way::Changed => ("~", YELLOW),
    };
    let place = arrow(change.before.as_ref().map(place), change.after.as_ref().map(place));
    let place = if place.is_empty() { place } else { format!("  ({place})") };
    for (at, subject) in change.subjects.iter().take(NAMED).enumerate() {
        let place = if at == 0 { place.as_str() } else { "" };
        let _ = writeln!(out, "  {} {subject}{place}", tint(sign, hue, colour));
    }
    if change.subjects.len() > NAMED {
        let _ = writeln!(out, "  {} and {} more", tint(sign, hue, colour), change.subjects.len() - NAMED);
    }
    // Of what is new or gone as a whole, only what holds is worth a line each.
    if change.way == Way::Changed || change.topic == Topic::Holds {
        change.details.iter().for_each(|one| detail(one, colour, out));
    }
}

fn detail(detail: &Detail, colour: bool, out: &mut String) {
    let said = |said: &Option<Said>, hue: &str| match said {
        Some(said) => tint(&said.text, hue, colour),
        None => String::from("nothing"),
    };
    let source = |said: &Option<Said>| said.as_ref().and_then(|said| said.source.as_ref()).map(place);
    let place = arrow(source(&detail.before), source(&detail.after));
    let place = if place.is_empty() { place } else { format!("  ({place})") };
    let (before, after) = (said(&detail.before, RED), said(&detail.after, GREEN));
    let _ = writeln!(out, "      {}: {before} -> {after}{place}", detail.field);
}

fn place(source: &SourceRef) -> String {
    source.to_string()
}

fn arrow(before: Option<String>, after: Option<String>) -> String {
    match (before, after) {
        (Some(before), Some(after)) => format!("{before} -> {after}"),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => String::new(),
    }
}

fn tint(text: &str, hue: &str, colour: bool) -> String {
    if colour { format!("{hue}{text}\u{1b}[0m") } else { text.to_owned() }
}
