//! Finds the pods in what people write: Deployments, Jobs, lists of them.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::decide::{Decision, decide};
use crate::settings::Settings;
use crate::wish::INJECT;
use crate::{Outcome, Refusal};

/// Where each kind has its pod.
const TEMPLATES: [(&str, &str); 7] = [
    ("Pod", ""),
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// Injects one document, whatever its namespace says: whoever hands it in wants it. Pods that say no are left alone.
///
/// # Errors
/// What its pod asks for cannot be done.
pub fn document(document: &Json, settings: &Settings) -> Result<Outcome, Refusal> {
    let text = |pointer: &str| document.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
    let kind = text("/kind");
    if let ("List", Some(items)) = (kind, document.get("items").and_then(Json::as_array)) {
        return list(document, items, settings);
    }
    let Some((_, pointer)) = TEMPLATES.into_iter().find(|(name, _)| *name == kind) else {
        return Ok(Outcome::Skipped(format!("a {kind} has no pods")));
    };
    let Some(pod) = document.pointer(pointer) else {
        return Err(Refusal(vec![format!("{pointer}: a {kind} has a pod there")]));
    };
    let namespace = BTreeMap::from([(INJECT.to_owned(), String::from("enabled"))]);
    let because = match decide(pod, &namespace)? {
        Decision::Inject(because) => because,
        Decision::Leave(why) => return Ok(Outcome::Skipped(why)),
    };
    // A template has no name of its own.
    let named =
        if pointer.is_empty() { None } else { Some(text("/metadata/name")).filter(|name| !name.is_empty()) };
    Ok(match crate::pod::of_workload(pod, because, named, settings)? {
        Outcome::Injected(pod) => {
            let mut whole = document.clone();
            if let Some(place) = whole.pointer_mut(pointer) {
                *place = pod;
            }
            Outcome::Injected(whole)
        }
        other => other,
    })
}

fn list(whole: &Json, items: &[Json], settings: &Settings) -> Result<Outcome, Refusal> {
    let mut injected = items.to_vec();
    let (mut changed, mut there, mut faults) = (false, false, Vec::new());
    for (i, item) in items.iter().enumerate() {
        match document(item, settings) {
            Ok(Outcome::Injected(one)) => {
                injected[i] = one;
                changed = true;
            }
            Ok(Outcome::AlreadyThere) => there = true,
            Ok(Outcome::Skipped(_)) => {}
            Err(Refusal(of_item)) => {
                faults.extend(of_item.iter().map(|fault| format!("items[{i}]: {fault}")));
            }
        }
    }
    if !faults.is_empty() {
        return Err(Refusal(faults));
    }
    if !changed {
        return Ok(if there {
            Outcome::AlreadyThere
        } else {
            Outcome::Skipped(String::from("nothing in it has pods"))
        });
    }
    let mut whole = whole.clone();
    whole["items"] = Json::Array(injected);
    Ok(Outcome::Injected(whole))
}

/// Who runs a pod, from what the API server knows: a Deployment's name is its ReplicaSet's without the hash.
pub(crate) fn workload_of(pod: &Json) -> Option<String> {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Json::as_str).filter(|text| !text.is_empty());
    if let Some(owner) = text("/metadata/ownerReferences/0/name") {
        let hash = text("/metadata/labels/pod-template-hash");
        let stem = hash.and_then(|hash| owner.strip_suffix(hash)?.strip_suffix('-'));
        return Some(stem.unwrap_or(owner).to_owned());
    }
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName"))?;
    Some(name.trim_end_matches('-').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_named_after_whoever_runs_it() {
        let owned = |name: &str, labels: Json| json!({ "metadata": { "generateName": "x-", "labels": labels, "ownerReferences": [{ "name": name }] } });
        assert_eq!(
            workload_of(&owned("web-5d9c", json!({ "pod-template-hash": "5d9c" }))).as_deref(),
            Some("web")
        );
        assert_eq!(workload_of(&owned("db", json!({}))).as_deref(), Some("db"));
        assert_eq!(
            workload_of(&json!({ "metadata": { "generateName": "one-off-" } })).as_deref(),
            Some("one-off")
        );
        assert_eq!(workload_of(&json!({ "metadata": {} })), None);
    }
}
