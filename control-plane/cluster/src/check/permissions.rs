//! Whether the control plane's service account may do what it must.

use http::{Request, header};
use kube::Client;
use serde_json::{Value as Json, json};

use super::{Finding, Place, broken, lacking, well};
use crate::errors::told;

/// `(group, resource, verbs)`; a resource may name its subresource.
const EVERYWHERE: [(&str, &str, &[&str]); 10] = [
    ("", "services", &["list", "watch"]),
    ("", "namespaces", &["list", "watch"]),
    ("", "pods", &["list", "watch"]),
    ("discovery.k8s.io", "endpointslices", &["list", "watch"]),
    ("gateway.networking.k8s.io", "httproutes", &["list", "watch"]),
    ("gateway.networking.k8s.io", "httproutes/status", &["patch"]),
    ("tidegate.io", "ratelimitpolicies", &["list", "watch"]),
    ("tidegate.io", "ratelimitpolicies/status", &["patch"]),
    ("events.k8s.io", "events", &["create"]),
    ("authentication.k8s.io", "tokenreviews", &["create"]),
];
/// In its own namespace.
const AT_HOME: [(&str, &str, &[&str]); 2] = [
    ("coordination.k8s.io", "leases", &["get", "create", "update"]),
    ("", "secrets", &["get", "create", "update"]),
];

pub(super) async fn check(client: &Client, place: &Place) -> Vec<Finding> {
    let user = format!("system:serviceaccount:{}:{}", place.namespace, place.service);
    let everywhere = EVERYWHERE.iter().map(|asked| (asked, None));
    let at_home = AT_HOME.iter().map(|asked| (asked, Some(&*place.namespace)));
    let mut denied = Vec::new();
    for ((group, resource, verbs), namespace) in everywhere.chain(at_home) {
        for verb in *verbs {
            match may(client, &user, (group, resource, verb), namespace).await {
                Ok(true) => {}
                Ok(false) => denied.push(format!("{verb} {resource}")),
                Err(error) => {
                    // Who may not ask is no proof of anything.
                    return vec![lacking(format!("cannot ask what {user} may do: {}", told(&error)))];
                }
            }
        }
    }
    vec![match denied.is_empty() {
        true => well(format!("{user} may do what it must")),
        false => broken(format!("{user} may not {}; apply the roles of this version", denied.join(", "))),
    }]
}

async fn may(
    client: &Client,
    user: &str,
    (group, resource, verb): (&str, &str, &str),
    namespace: Option<&str>,
) -> Result<bool, kube::Error> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": { "user": user, "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": {
            "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            "namespace": namespace.unwrap_or_default(),
        } },
    });
    let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header(header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let answer: Json = client.request(request).await?;
    Ok(answer["status"]["allowed"] == true)
}
