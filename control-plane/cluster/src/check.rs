//! `tidegate check`: is everything there that a mesh in this cluster needs, and if not, what would help.
//!
//! Asks and changes nothing: what it would have refused is sent as a dry run.

mod definitions;
mod permissions;

use http::{Request, header};
use kube::Client;
use serde_json::{Value as Json, json};
use tidegate_control_plane::status::Status;

use crate::errors::told;

/// Where the control plane should be.
#[derive(Clone, Debug)]
pub struct Place {
    pub namespace: String,
    /// Its Service, and its service account.
    pub service: String,
    pub lease: String,
    pub webhook_configuration: String,
    /// Those that it makes and keeps: the webhook's certificates and the CA.
    pub secrets: Vec<String>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub verdict: Verdict,
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// It works without; something is missing that may be wanted.
    Lacking,
    Broken,
}

/// The port of the Service that answers people.
const ADMIN_PORT: u16 = 15014;

/// Asks one question after the other; each that cannot be answered is a finding of its own.
pub async fn check(client: &Client, place: &Place) -> Vec<Finding> {
    let version = match client.apiserver_version().await {
        Ok(version) => version.git_version,
        Err(error) => return vec![broken(format!("the API does not answer: {}", told(&error)))],
    };
    let mut found = vec![well(format!("the API answers: Kubernetes {version}"))];
    found.extend(definitions::check(client).await);
    found.push(webhook(client, place).await);
    found.extend(permissions::check(client, place).await);
    found.push(leader(client, place).await);
    found.push(proxies(client, place).await);
    found
}

/// Whether the API server asks the webhook: what it must refuse is sent, and not to be kept.
async fn webhook(client: &Client, place: &Place) -> Finding {
    let name = &place.webhook_configuration;
    let url = format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}");
    match get(client, &url).await {
        Ok(found) if found["webhooks"][0]["clientConfig"]["caBundle"].is_string() => {}
        Ok(_) => {
            return broken(format!(
                "webhook {name}: its caBundle is empty: no control plane has set it; is one running, and may it?"
            ));
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            return lacking(format!("webhook {name}: not installed; mistakes are told in the status only"));
        }
        Err(error) => return broken(format!("webhook {name}: {}", told(&error))),
    }
    let wrong = json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "RateLimitPolicy",
        "metadata": { "name": "tidegate-check", "namespace": place.namespace },
        "spec": {
            "targetRefs": [{ "kind": "Service", "name": place.service }],
            "when": "this is no expression",
            "limits": [{ "name": "check", "requests": 1, "per": "1s" }],
        },
    });
    let url =
        format!("/apis/tidegate.io/v1alpha1/namespaces/{}/ratelimitpolicies?dryRun=All", place.namespace);
    let request = Request::post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(wrong.to_string().into_bytes());
    let answer = match request {
        Ok(request) => client.request::<Json>(request).await,
        Err(error) => Err(kube::Error::HttpError(error)),
    };
    match answer {
        Err(kube::Error::Api(status)) if status.message.contains("denied the request") => {
            well(format!("webhook {name}: the API server asks it, and it refuses what is wrong"))
        }
        Err(error) => broken(format!("webhook {name}: {}", told(&error))),
        Ok(_) => broken(format!("webhook {name}: it let a policy in that is wrong, or was not asked")),
    }
}

async fn leader(client: &Client, place: &Place) -> Finding {
    let (namespace, name) = (&place.namespace, &place.lease);
    let url = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}");
    match get(client, &url).await {
        Ok(lease) => match lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty()) {
            Some(holder) => {
                let renewed = lease["spec"]["renewTime"].as_str().unwrap_or("never");
                well(format!("{holder} leads, as of {renewed}"))
            }
            None => broken(format!("Lease {namespace}/{name}: nobody leads, so no status is written")),
        },
        Err(kube::Error::Api(status)) if status.code == 404 => {
            broken(format!("there is no Lease {namespace}/{name}: is a control plane running?"))
        }
        Err(error) => broken(format!("Lease {namespace}/{name}: {}", told(&error))),
    }
}

/// The control plane's own word, by way of the API server.
async fn proxies(client: &Client, place: &Place) -> Finding {
    let (namespace, name) = (&place.namespace, &place.service);
    let url = format!("/api/v1/namespaces/{namespace}/services/http:{name}:{ADMIN_PORT}/proxy/status");
    let asked = match Request::get(&url).body(Vec::new()) {
        Ok(request) => client.request::<Status>(request).await,
        Err(error) => Err(kube::Error::HttpError(error)),
    };
    let status = match asked {
        Ok(status) => status,
        Err(error) => return broken(format!("Service {namespace}/{name} does not answer: {}", told(&error))),
    };
    let of = status.nodes.len();
    let behind: Vec<_> = status.nodes.iter().filter(|n| n.acknowledged < n.of).map(|n| &*n.id).collect();
    if of == 0 {
        lacking(String::from("no proxy is connected"))
    } else if behind.is_empty() {
        well(format!("{of} proxies are connected and run what is in force"))
    } else {
        let shown: Vec<_> = behind.iter().take(5).copied().collect();
        lacking(format!("{of} proxies are connected; {} are behind: {}", behind.len(), shown.join(", ")))
    }
}

async fn get(client: &Client, url: &str) -> Result<Json, kube::Error> {
    client.request(Request::get(url).body(Vec::new()).map_err(kube::Error::HttpError)?).await
}

fn well(what: String) -> Finding {
    Finding { verdict: Verdict::Well, what }
}

fn lacking(what: String) -> Finding {
    Finding { verdict: Verdict::Lacking, what }
}

fn broken(what: String) -> Finding {
    Finding { verdict: Verdict::Broken, what }
}
