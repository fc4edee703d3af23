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

/// A right on one object, or on all, of one namespace or of all.
#[derive(Clone, Copy)]
struct Right<'a> {
    group: &'a str,
    resource: &'a str,
    verb: &'a str,
    namespace: &'a str,
    name: &'a str,
}

pub(super) async fn check(client: &Client, place: &Place) -> Vec<Finding> {
    let user = format!("system:serviceaccount:{}:{}", place.namespace, place.service);
    let mut denied = Vec::new();
    for right in needed(place) {
        match may(client, &user, right).await {
            Ok(true) => {}
            Ok(false) => {
                let told = format!("{} {} {}", right.verb, right.resource, right.name);
                denied.push(told.trim_end().to_owned());
            }
            Err(error) => {
                // Who may not ask is no proof of anything.
                return vec![lacking(format!("cannot ask what {user} may do: {}", told(&error)))];
            }
        }
    }
    vec![match denied.is_empty() {
        true => well(format!("{user} may do what it must")),
        false => broken(format!("{user} may not {}; apply the roles of this version", denied.join(", "))),
    }]
}

fn needed(place: &Place) -> Vec<Right<'_>> {
    let everywhere = EVERYWHERE.iter().flat_map(|(group, resource, verbs)| {
        verbs.iter().map(|verb| Right { group, resource, verb, namespace: "", name: "" })
    });
    // By name, but for `create`, which cannot be granted so.
    let lease = ("coordination.k8s.io", "leases", &*place.lease);
    let at_home = std::iter::once(lease).chain(place.secrets.iter().map(|name| ("", "secrets", &**name)));
    let at_home = at_home.flat_map(|(group, resource, name)| {
        [("create", ""), ("get", name), ("update", name)].map(|(verb, name)| Right {
            group,
            resource,
            verb,
            namespace: &place.namespace,
            name,
        })
    });
    everywhere.chain(at_home).collect()
}

async fn may(
    client: &Client,
    user: &str,
    Right { group, resource, verb, namespace, name }: Right<'_>,
) -> Result<bool, kube::Error> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": { "user": user, "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": {
            "group": group, "resource": resource, "subresource": subresource, "verb": verb,
            "namespace": namespace, "name": name,
        } },
    });
    let request = Request::post("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header(header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let answer: Json = client.request(request).await?;
    Ok(answer["status"]["allowed"] == true)
}
