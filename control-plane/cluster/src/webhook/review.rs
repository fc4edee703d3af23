//! `AdmissionReview` in, `AdmissionReview` out (admission.k8s.io/v1).
//!
//! Pure: it judges with the very functions that judge files, so an author reads at `kubectl apply` what
//! `tidegate validate` would have told him.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tidegate_policy::document::{self, Diagnostic};
use tidegate_policy::objects::TIDEGATE_GROUP;

use super::mutate::{Mutate, Namespace, Refusal};

/// The largest review that is read: an object of the API has at most 3 MiB, and a review holds it twice.
pub const MAX_REVIEW: usize = 8 << 20;
/// More warnings than people read.
const MAX_WARNINGS: usize = 16;

#[derive(Debug, Deserialize)]
struct Review {
    request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupKind,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    object: Json,
    #[serde(default)]
    old_object: Json,
}

#[derive(Debug, Deserialize)]
struct GroupKind {
    #[serde(default)]
    group: String,
    kind: String,
}

/// What is answered, but for its envelope.
#[derive(Debug, Default)]
struct Answer {
    refusal: Option<String>,
    warnings: Vec<String>,
    patch: Option<Json>,
}

/// Judges one of our objects.
///
/// # Errors
/// If `review` is no review.
pub fn validate(review: &[u8]) -> Result<Json, String> {
    let Request { uid, kind, namespace, name, operation, object, old_object } = read(review)?;
    let asked = kind.group == TIDEGATE_GROUP && matches!(&*operation, "CREATE" | "UPDATE");
    let mut answer = Answer::default();
    if asked {
        let shown: Arc<str> = format!("{}/{namespace}/{name}", kind.kind).into();
        let parsed = document::parse_object(&shown, &object.to_string());
        let (errors, warnings): (Vec<_>, Vec<_>) =
            parsed.diagnostics.iter().partition(|diagnostic| diagnostic.is_error());
        answer.warnings = warnings.iter().map(ToString::to_string).collect();
        // An object that was stored before and is not changed now must not be held: not its labels, nor its removal.
        let is_changed = operation == "CREATE" || object.get("spec") != old_object.get("spec");
        match errors.is_empty() {
            true => {}
            false if is_changed => answer.refusal = Some(told(&errors)),
            false => answer.warnings.extend(errors.iter().map(ToString::to_string)),
        }
    }
    Ok(answer.wrap(&uid))
}

/// Why a review is not answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It is none.
    Bad(String),
    /// It would be later.
    NotNow(String),
}

/// Asks `mutate` about a pod.
///
/// # Errors
/// If `review` is no review, or nobody knows what it takes to answer it.
pub(super) fn mutate(
    review: &[u8],
    mutate: &dyn Mutate,
    namespaces: impl Fn(&str) -> Result<Namespace, String>,
) -> Result<Json, Unanswered> {
    let Request { uid, kind, namespace, operation, object, .. } = read(review).map_err(Unanswered::Bad)?;
    let mut answer = Answer::default();
    if kind.kind == "Pod" && kind.group.is_empty() && operation == "CREATE" {
        let namespace = namespaces(&namespace).map_err(Unanswered::NotNow)?;
        match mutate.mutate(&object, &namespace) {
            Ok(patch) => answer.patch = patch,
            Err(Refusal::Wrong(why)) => answer.refusal = Some(why),
            Err(Refusal::NotNow(why)) => return Err(Unanswered::NotNow(why)),
        }
    }
    Ok(answer.wrap(&uid))
}

/// Lets everything pass as it is.
///
/// # Errors
/// If `review` is no review.
pub(super) fn leave(review: &[u8]) -> Result<Json, String> {
    Ok(Answer::default().wrap(&read(review)?.uid))
}

fn read(review: &[u8]) -> Result<Request, String> {
    let review: Review = serde_json::from_slice(review).map_err(|e| format!("no AdmissionReview: {e}"))?;
    Ok(review.request)
}

/// All of it at once, a line each.
fn told(errors: &[&Diagnostic]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl Answer {
    fn wrap(self, uid: &str) -> Json {
        let mut response = json!({ "uid": uid, "allowed": self.refusal.is_none() });
        if let Some(message) = self.refusal {
            response["status"] =
                json!({ "status": "Failure", "reason": "Invalid", "code": 422, "message": message });
        }
        if !self.warnings.is_empty() {
            let warnings: Vec<_> = self.warnings.into_iter().take(MAX_WARNINGS).collect();
            response["warnings"] = json!(warnings);
        }
        if let Some(patch) = self.patch {
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(BASE64_STANDARD.encode(patch.to_string()));
        }
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response })
    }
}

#[cfg(test)]
mod tests {
    use super::super::mutate::Patch;
    use super::*;

    fn review(operation: &str, requests: &Json, before: &Json) -> Vec<u8> {
        let object = |requests: &Json| {
            json!({
                "apiVersion": "tidegate.io/v1alpha1", "kind": "RateLimitPolicy",
                "metadata": { "name": "per-user", "namespace": "shop", "uid": "1", "managedFields": [] },
                "spec": {
                    "targetRefs": [{ "kind": "Service", "name": "web" }],
                    "limits": [{ "name": "all", "requests": requests, "per": "1s" }],
                },
            })
        };
        let old = if before.is_null() { Json::Null } else { object(before) };
        let request = json!({
            "uid": "u-1", "operation": operation, "namespace": "shop", "name": "per-user",
            "kind": { "group": "tidegate.io", "version": "v1alpha1", "kind": "RateLimitPolicy" },
            "object": object(requests), "oldObject": old,
        });
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn a_policy_that_is_well_is_let_in() {
        let answer = validate(&review("CREATE", &json!(5), &Json::Null)).unwrap();
        assert_eq!(answer["response"], json!({ "uid": "u-1", "allowed": true }));
        assert_eq!(answer["kind"], "AdmissionReview");
    }

    #[test]
    fn a_mistake_is_refused_with_the_words_of_validate() {
        let answer = validate(&review("CREATE", &json!("many"), &Json::Null)).unwrap();
        let response = &answer["response"];
        assert_eq!((&response["allowed"], &response["status"]["code"]), (&json!(false), &json!(422)));
        let message = response["status"]["message"].as_str().unwrap();
        let yaml = "apiVersion: tidegate.io/v1alpha1\nkind: RateLimitPolicy\nmetadata: {name: per-user, namespace: shop}\n\
                    spec:\n  targetRefs: [{kind: Service, name: web}]\n  limits: [{name: all, requests: many, per: 1s}]\n";
        let in_a_file = document::parse(&"x.yaml".into(), yaml).diagnostics[0].to_string();
        let (_, words) = in_a_file.split_once("error: ").unwrap();
        assert_eq!(message, format!("RateLimitPolicy/shop/per-user: error: {words}"));
        assert!(words.starts_with("spec.limits[0].requests: "), "{words}");
    }

    #[test]
    fn what_was_stored_before_is_not_held_for_its_labels() {
        let answer = validate(&review("UPDATE", &json!("many"), &json!("many"))).unwrap();
        assert_eq!(answer["response"]["allowed"], true);
        assert!(answer["response"]["warnings"][0].as_str().unwrap().contains("requests"));
        let answer = validate(&review("UPDATE", &json!("many"), &json!(5))).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
    }

    #[test]
    fn what_is_deleted_or_not_ours_is_let_pass() {
        let answer = validate(&review("DELETE", &json!("many"), &Json::Null)).unwrap();
        assert_eq!(answer["response"]["allowed"], true);
        let other = String::from_utf8(review("CREATE", &json!("many"), &Json::Null)).unwrap();
        let other = other.replace("\"tidegate.io\"", "\"example.com\"");
        assert_eq!(validate(other.as_bytes()).unwrap()["response"]["allowed"], true);
    }

    #[test]
    fn what_is_no_review_is_an_error() {
        for odd in ["", "{}", "[]", r#"{"request": {"uid": 1}}"#] {
            assert!(validate(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[derive(Debug)]
    struct Labels;

    impl Mutate for Labels {
        fn mutate(&self, pod: &Json, namespace: &Namespace) -> Result<Option<Patch>, Refusal> {
            if pod["spec"]["hostNetwork"] == true {
                return Err(Refusal::Wrong(String::from("host network")));
            }
            let wanted = namespace.labels.contains_key("inject");
            Ok(wanted.then(|| json!([{ "op": "add", "path": "/x", "value": 1 }])))
        }
    }

    #[test]
    fn a_pod_gets_the_patch_of_who_decides_and_his_refusal() {
        let ask = |spec: Json, label: &str| {
            let request = json!({
                "uid": "u", "operation": "CREATE", "namespace": "shop",
                "kind": { "group": "", "version": "v1", "kind": "Pod" }, "object": { "spec": spec },
            });
            let namespace = |name: &str| {
                let labels = [(label.to_owned(), String::new())].into();
                Ok(Namespace { name: name.to_owned(), labels })
            };
            let review = json!({ "request": request }).to_string();
            mutate(review.as_bytes(), &Labels, namespace).unwrap()["response"].clone()
        };
        let patched = ask(json!({}), "inject");
        let patch = BASE64_STANDARD.decode(patched["patch"].as_str().unwrap()).unwrap();
        assert_eq!(patch, br#"[{"op":"add","path":"/x","value":1}]"#);
        assert_eq!(patched["patchType"], "JSONPatch");
        assert_eq!(ask(json!({}), "other"), json!({ "uid": "u", "allowed": true }));
        let refused = ask(json!({ "hostNetwork": true }), "inject");
        assert_eq!(refused["status"]["message"], "host network");
    }
}
