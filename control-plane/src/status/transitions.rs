//! Since when each condition has the status that it has.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tidegate_policy::document::ObjectKey;

use super::Condition;

/// A condition of one object: the part of the object that it is about, and its type.
type Slot = (ObjectKey, String, String);

/// A pure fold: conditions and `now` in, conditions with `lastTransitionTime` out. What is no longer said is forgotten.
#[derive(Debug, Default)]
pub struct Transitions(BTreeMap<Slot, Standing>);

/// A condition's status, and since when it has been that.
#[derive(Clone, Debug)]
struct Standing {
    status: String,
    /// As in `lastTransitionTime`.
    since: String,
}

/// One round of stamping.
#[derive(Debug)]
pub(super) struct Stamp<'a> {
    before: &'a Transitions,
    after: Transitions,
    /// As in `lastTransitionTime`.
    now: String,
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
        Stamp { before: self, after: Self::default(), now: rfc3339(now) }
    }

    /// What was said before a restart, by the List that was left behind: a condition that still is as it was keeps its
    /// time. What cannot be read is taken as never said.
    pub fn recalled(list: &Json) -> Self {
        let mut recalled = Self::default();
        for item in list["items"].as_array().into_iter().flatten() {
            let text = |at: &str| item.pointer(at).and_then(Json::as_str).unwrap_or_default().to_owned();
            let (kind, namespace, name) =
                (text("/kind"), text("/metadata/namespace"), text("/metadata/name"));
            let key = ObjectKey { kind, namespace, name };
            for (part, conditions) in parts(&item["status"]) {
                for condition in conditions.as_array().into_iter().flatten() {
                    recalled.recall(&key, &part, condition);
                }
            }
        }
        recalled
    }

    fn recall(&mut self, key: &ObjectKey, part: &str, condition: &Json) {
        let text = |field: &str| condition[field].as_str();
        let (Some(kind), Some(status), Some(since)) =
            (text("type"), text("status"), text("lastTransitionTime"))
        else {
            return;
        };
        if is_time(since) {
            let standing = Standing { status: status.to_owned(), since: since.to_owned() };
            self.0.insert((key.clone(), part.to_owned(), kind.to_owned()), standing);
        }
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
                Some(standing) if standing.status == said.status => standing.since.clone(),
                _ => self.now.clone(),
            };
            self.after.0.insert(slot, Standing { status: said.status.to_owned(), since: since.clone() });
            json!({
                "type": said.kind,
                "status": said.status,
                "observedGeneration": generation,
                "lastTransitionTime": since,
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

/// The part that lists the conditions of a listener of this name.
pub(super) fn listener_part(name: &str) -> String {
    format!("listener {name}")
}

/// The lists of conditions in a status, each with the part of the object that it is about.
fn parts(status: &Json) -> Vec<(String, &Json)> {
    let entries = |field: &str| status[field].as_array().into_iter().flatten();
    let listeners = entries("listeners")
        .map(|entry| (listener_part(entry["name"].as_str().unwrap_or_default()), &entry["conditions"]));
    let parents = entries("parents").map(|entry| (entry["parentRef"].to_string(), &entry["conditions"]));
    let ancestors =
        entries("ancestors").map(|entry| (entry["ancestorRef"].to_string(), &entry["conditions"]));
    std::iter::once((String::new(), &status["conditions"]))
        .chain(listeners)
        .chain(parents)
        .chain(ancestors)
        .collect()
}

/// Whether it is of the form in which [`rfc3339`] writes times.
fn is_time(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let fits = |(have, form): (u8, &u8)| if *form == b'0' { have.is_ascii_digit() } else { have == *form };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
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

    #[test]
    fn what_was_said_before_a_restart_keeps_its_time_and_what_cannot_be_read_does_not_count() {
        let condition = |kind: &str, status: &str, since: &str| json!({ "type": kind, "status": status, "lastTransitionTime": since });
        let (then, now) = ("2026-01-02T03:04:05Z", rfc3339(0));
        let parent = json!({ "kind": "Gateway", "name": "gw" });
        let left = json!({ "items": [{
            "kind": "HTTPRoute",
            "metadata": { "namespace": "a", "name": "b" },
            "status": {
                "conditions": [condition("Whole", "True", then), condition("Odd", "True", "yesterday"), 7],
                "parents": [{ "parentRef": parent, "conditions": [condition("Accepted", "False", then)] }],
                "listeners": [{ "name": "l", "conditions": [condition("Accepted", "True", then)] }],
            },
        }, "what"] });
        let before = Transitions::recalled(&left);
        let mut stamp = before.stamp(0);
        let key = ObjectKey { kind: "HTTPRoute".into(), namespace: "a".into(), name: "b".into() };
        for (part, kind, status, since) in [
            ("", "Whole", "True", then),
            ("", "Whole", "False", &*now),
            ("", "Odd", "True", &now),
            (&parent.to_string(), "Accepted", "False", then),
            (&listener_part("l"), "Accepted", "True", then),
            (&listener_part("m"), "Accepted", "True", &now),
        ] {
            let said = Said { kind, status, reason: "", message: "" };
            let told = stamp.conditions(&key, 1, part, &[said]);
            assert_eq!(told[0]["lastTransitionTime"], since, "{part} {kind} {status}");
        }
        assert!(Transitions::recalled(&json!("no list")).0.is_empty());
    }
}
