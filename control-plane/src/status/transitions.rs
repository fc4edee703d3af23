//! Since when each condition has the status that it has.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidegate_policy::document::ObjectKey;

use super::Condition;

/// A condition of one object: the part of the object that it is about, and its type.
type Slot = (ObjectKey, String, String);

/// A pure fold: conditions and `now` in, conditions with `lastTransitionTime` out. What is no longer said is forgotten.
#[derive(Debug, Default)]
pub struct Transitions(BTreeMap<Slot, (String, i64)>);

/// One round of stamping.
#[derive(Debug)]
pub(super) struct Stamp<'a> {
    before: &'a Transitions,
    after: Transitions,
    /// Seconds since the Unix epoch.
    now: i64,
}

/// A condition on its way to a manifest.
pub(super) struct Said<'a> {
    pub(super) kind: &'a str,
    /// `True`, `False` or `Unknown`.
    pub(super) status: &'a str,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
}

impl Transitions {
    pub(super) fn stamp(&self, now: i64) -> Stamp<'_> {
        Stamp { before: self, after: Self::default(), now }
    }
}

impl Stamp<'_> {
    pub(super) fn finish(self) -> Transitions {
        self.after
    }

    /// `part` tells apart the lists of conditions that one object has.
    pub(super) fn conditions(
        &mut self,
        key: &ObjectKey,
        generation: i64,
        part: &str,
        said: &[Said<'_>],
    ) -> Json {
        let stamped = said.iter().map(|said| {
            let slot = (key.clone(), part.to_owned(), said.kind.to_owned());
            let since = match self.before.0.get(&slot) {
                Some((status, since)) if status == said.status => *since,
                _ => self.now,
            };
            self.after.0.insert(slot, (said.status.to_owned(), since));
            json!({
                "type": said.kind,
                "status": said.status,
                "observedGeneration": generation,
                "lastTransitionTime": rfc3339(since),
                "reason": said.reason,
                "message": said.message,
            })
        });
        stamped.collect()
    }
}

impl<'a> From<&'a Condition> for Said<'a> {
    fn from(told: &'a Condition) -> Self {
        Self { kind: &told.kind, status: &told.status, reason: &told.reason, message: &told.message }
    }
}

impl<'a> From<&'a tidegate_policy::resolve::Condition> for Said<'a> {
    fn from(told: &'a tidegate_policy::resolve::Condition) -> Self {
        let status = if told.holds { "True" } else { "False" };
        Self { kind: told.kind, status, reason: told.reason, message: &told.message }
    }
}

/// UTC, to the second, as Kubernetes writes times.
fn rfc3339(seconds: i64) -> String {
    const DAY: i64 = 86_400;
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Days since 0000-03-01: a year that begins in March has its leap day at its end.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_kubernetes_does() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_769_860_799, "2026-01-31T11:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let key = ObjectKey { kind: "Gateway".into(), namespace: "a".into(), name: "b".into() };
        let mut transitions = Transitions::default();
        let mut at = |now, status, reason| {
            let mut stamp = transitions.stamp(now);
            let said = Said { kind: "Accepted", status, reason, message: "" };
            let told = stamp.conditions(&key, now, "", &[said]);
            transitions = stamp.finish();
            told[0]["lastTransitionTime"].as_str().map(str::to_owned)
        };
        let first = at(1, "True", "Accepted");
        assert_eq!(at(2, "True", "Other"), first);
        let second = at(3, "False", "Other");
        assert_ne!(second, first);
        assert_eq!(at(4, "False", "Other"), second);
    }
}
