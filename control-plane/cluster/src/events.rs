//! Kubernetes Events on objects, for what needs a person.

use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::Value as Json;

use crate::errors::{in_time, told};
use crate::kinds::Served;

/// Something to tell, on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// The API cuts longer notes, in bytes.
const MAX_NOTE: usize = 1000;

/// Writes Events; one that cannot be written is logged and no more.
#[derive(Clone)]
pub(crate) struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// What an Event is about.
#[derive(Clone, Debug)]
pub(crate) struct About<'a> {
    pub(crate) served: &'a Served,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) uid: &'a str,
}

impl Events {
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter { controller: String::from("tidegate"), instance: Some(instance.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    pub(crate) async fn tell(&self, about: &About<'_>, news: &News) {
        let reference = k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some(about.served.resource.api_version.clone()),
            kind: Some(about.served.kind.to_owned()),
            name: Some(about.name.to_owned()),
            namespace: Some(about.namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
            uid: Some(about.uid.to_owned()),
            ..Default::default()
        };
        let event = Event {
            type_: if news.warning { EventType::Warning } else { EventType::Normal },
            reason: news.reason.clone(),
            note: Some(cut(&news.note).to_owned()),
            action: String::from("Reconcile"),
            secondary: None,
        };
        if let Err(error) = in_time(self.recorder.publish(&event, &reference)).await {
            let (kind, name) = (about.served.kind, about.name);
            tracing::debug!(kind, name, "cannot write an Event: {}", told(&error));
        }
    }
}

/// Conditions that have turned so that somebody should look: one that just waits for proxies has not.
pub(crate) fn news(before: &Json, after: &Json) -> Vec<News> {
    let old = conditions(before);
    let mut news = Vec::new();
    for (part, condition) in conditions(after) {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        let (kind, reason) = (text("type"), text("reason"));
        let bad = match kind {
            "Conflicted" | "Overridden" => text("status") == "True" && reason != "NoConflicts",
            _ => text("status") == "False" && !matches!(reason, "Pending" | "NoConflicts"),
        };
        let known = old.iter().any(|(other, c)| {
            *other == part && ["type", "status", "reason", "message"].iter().all(|f| c[f] == condition[f])
        });
        let told = News {
            warning: true,
            reason: format!(
                "{}{kind}",
                if kind == "Conflicted" || kind == "Overridden" { "" } else { "Not" }
            ),
            note: format!("{reason}: {}", text("message")),
        };
        if bad && !known && !news.contains(&told) {
            news.push(told);
        }
    }
    news
}

/// Every condition of a status, with the part that it is about.
fn conditions(status: &Json) -> Vec<(String, &Json)> {
    let own = status["conditions"].as_array().into_iter().flatten().map(|c| (String::new(), c));
    let parts = ["parents", "ancestors", "listeners"].into_iter().flat_map(|field| {
        status[field].as_array().into_iter().flatten().flat_map(move |entry| {
            let part = format!("{field} {} {}", entry["parentRef"], entry["name"]);
            let part = format!("{part} {} {}", entry["ancestorRef"], entry["controllerName"]);
            entry["conditions"].as_array().into_iter().flatten().map(move |c| (part.clone(), c))
        })
    });
    own.chain(parts).collect()
}

fn cut(note: &str) -> &str {
    let mut end = note.len().min(MAX_NOTE);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    &note[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(kind: &str, status: &str, reason: &str) -> Json {
        let condition = json!({ "type": kind, "status": status, "reason": reason, "message": "m" });
        json!({ "parents": [{ "parentRef": { "name": "edge" }, "conditions": [condition] }] })
    }

    #[test]
    fn what_has_turned_bad_is_told_once() {
        let bad = status("Accepted", "False", "NoMatchingParent");
        let told = news(&status("Accepted", "True", "Accepted"), &bad);
        assert_eq!((told.len(), &*told[0].reason, &*told[0].note), (1, "NotAccepted", "NoMatchingParent: m"));
        assert_eq!(news(&bad, &bad), []);
        assert_eq!(news(&json!({}), &status("Conflicted", "True", "Conflicted")).len(), 1);
    }

    #[test]
    fn waiting_for_proxies_is_no_news() {
        assert_eq!(news(&json!({}), &status("Programmed", "False", "Pending")), []);
    }

    #[test]
    fn a_long_note_is_cut_between_characters() {
        assert_eq!(cut(&"é".repeat(600)).len(), 1000);
        assert_eq!(cut("short"), "short");
    }
}
