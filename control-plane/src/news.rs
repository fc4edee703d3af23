//! What the log says when the world changes: each fault once when it appears and once when it is gone.

use std::collections::BTreeMap;

use tracing::Level;

use crate::status::Condition;
use crate::world::World;

/// One fault as people read it.
struct Fault {
    level: Level,
    text: String,
}

/// Logs how `after` differs from `before`.
pub(crate) fn log(before: &World, after: &World) {
    let (new, fixed) = compare(faults(before), faults(after));
    for fault in new {
        match fault.level {
            Level::ERROR => tracing::error!("{}", fault.text),
            _ => tracing::warn!("{}", fault.text),
        }
    }
    for fault in fixed {
        tracing::info!("fixed: {}", fault.text);
    }
}

/// `(new, fixed)`
fn compare(before: Vec<(String, Fault)>, after: Vec<(String, Fault)>) -> (Vec<Fault>, Vec<Fault>) {
    let mut gone = BTreeMap::<String, Vec<Fault>>::new();
    for (gist, fault) in before {
        gone.entry(gist).or_default().push(fault);
    }
    let mut new = Vec::new();
    for (gist, fault) in after {
        if gone.get_mut(&gist).and_then(Vec::pop).is_none() {
            new.push(fault);
        }
    }
    (new, gone.into_values().flatten().collect())
}

/// Each with what makes it the same fault when its line moves.
fn faults(world: &World) -> Vec<(String, Fault)> {
    let findings = world.diagnostics.iter().map(|d| {
        let level = if d.is_error() { Level::ERROR } else { Level::WARN };
        (format!("{} {} {}", d.file, d.field, d.message), Fault { level, text: d.to_string() })
    });
    let conditions = world.conditions.iter().flat_map(|(key, told)| told.iter().map(move |c| (key, c)));
    let conditions = conditions.filter(|(_, condition)| is_fault(condition)).map(|(key, condition)| {
        let Condition { kind, status, reason, message, parent } = condition;
        let text = format!("{key}: {kind}={status} ({reason}) {message}");
        (format!("{key} {kind} {reason} {parent:?}"), Fault { level: Level::WARN, text })
    });
    findings.chain(conditions).collect()
}

fn is_fault(condition: &Condition) -> bool {
    match &*condition.kind {
        "Conflicted" | "Overridden" => condition.holds(),
        _ => !condition.holds(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(gists: &[&str]) -> Vec<(String, Fault)> {
        let fault = |gist: &str| Fault { level: Level::ERROR, text: format!("{gist}!") };
        gists.iter().map(|gist| ((*gist).to_owned(), fault(gist))).collect()
    }

    #[test]
    fn a_fault_is_told_once_for_each_time_it_is_there() {
        let (new, fixed) = compare(faults(&["a", "a", "b"]), faults(&["a", "c", "c"]));
        let texts = |faults: Vec<Fault>| faults.into_iter().map(|f| f.text).collect::<Vec<_>>();
        assert_eq!(texts(new), ["c!", "c!"]);
        assert_eq!(texts(fixed), ["a!", "b!"]);
    }
}
