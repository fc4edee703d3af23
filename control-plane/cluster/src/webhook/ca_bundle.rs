//! Tells the API server what to trust: the `caBundle` of our webhook configurations.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Request, header};
use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::errors::{in_time, told};

/// Somebody may have applied the manifests again, without the bundle.
const LOOK: Duration = Duration::from_secs(15);
const RETRY: Duration = Duration::from_secs(1);

/// Which webhooks are ours.
#[derive(Clone, Debug)]
pub(crate) struct Ours {
    /// Of the configurations, validating and mutating.
    pub(crate) configuration: String,
    pub(crate) namespace: String,
    pub(crate) service: String,
    /// Names under which a configuration may reach us by `url`.
    pub(crate) hosts: Vec<String>,
}

/// Keeps the bundle in place, whenever `leads` says that it is us who write, until `shutdown`.
pub(crate) async fn keep(
    client: Client,
    ours: Ours,
    mut bundle: watch::Receiver<Option<String>>,
    mut leads: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    let keeping = async {
        let mut complaint = None;
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let Ok(now) = bundle.wait_for(Option::is_some).await.map(|bundle| bundle.clone()) else { return };
            let mut pause = LOOK;
            for kind in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
                if let Err(error) = in_time(put(&client, &ours, kind, &now.clone().unwrap_or_default())).await
                {
                    let error = told(&error);
                    if complaint.as_ref() != Some(&error) {
                        tracing::warn!(kind, name = ours.configuration, %error, "cannot set the caBundle");
                    }
                    complaint = Some(error);
                    pause = RETRY;
                }
            }
            tokio::select! {
                Ok(()) = bundle.changed() => {}
                Ok(()) = leads.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    };
    shutdown.run_until_cancelled(keeping).await;
}

async fn put(client: &Client, ours: &Ours, kind: &str, bundle: &str) -> Result<(), kube::Error> {
    let url = format!("/apis/admissionregistration.k8s.io/v1/{kind}/{}", ours.configuration);
    let get = Request::get(&url).body(Vec::new()).map_err(kube::Error::HttpError)?;
    let found: Json = match client.request(get).await {
        Ok(found) => found,
        // Not every installation has both.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(patch) = patch(&found, ours, bundle) else { return Ok(()) };
    let patch = Request::patch(&url)
        .header(header::CONTENT_TYPE, "application/json-patch+json")
        .body(patch.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request::<Json>(patch).await?;
    tracing::info!(kind, name = ours.configuration, "the API server trusts the webhook's certificates");
    Ok(())
}

/// What is to be changed of a configuration, as JSON patch: nobody's fields but these. `None` if it is as it should be.
fn patch(found: &Json, ours: &Ours, bundle: &str) -> Option<Json> {
    let bundle = json!(BASE64_STANDARD.encode(bundle));
    let webhooks = found["webhooks"].as_array()?;
    let is_ours = |webhook: &Json| {
        let service = &webhook["clientConfig"]["service"];
        let url = webhook["clientConfig"]["url"].as_str().and_then(|url| url.parse::<http::Uri>().ok());
        let host = url.as_ref().and_then(http::Uri::host);
        (service["name"] == *ours.service && service["namespace"] == *ours.namespace)
            || host.is_some_and(|host| ours.hosts.iter().any(|ours| ours == host))
    };
    let lacking = webhooks
        .iter()
        .enumerate()
        .filter(|(_, webhook)| is_ours(webhook) && webhook["clientConfig"]["caBundle"] != bundle);
    let add = |(i, _)| json!({ "op": "add", "path": format!("/webhooks/{i}/clientConfig/caBundle"), "value": bundle });
    let mut operations: Vec<Json> = lacking.map(add).collect();
    if operations.is_empty() {
        return None;
    }
    // The numbers are those of what was read.
    let version = &found["metadata"]["resourceVersion"];
    operations.insert(0, json!({ "op": "test", "path": "/metadata/resourceVersion", "value": version }));
    Some(Json::Array(operations))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bundles_of_our_own_service_are_set_and_only_where_they_differ() {
        let ours = Ours {
            configuration: "c".into(),
            namespace: "mesh".into(),
            service: "tidegate".into(),
            hosts: vec!["localhost".into()],
        };
        let by_url =
            |host: &str| json!({ "clientConfig": { "url": format!("https://{host}:9443/validate") } });
        let webhook = |service: &str, bundle: &str| {
            json!({ "clientConfig": {
                "service": { "name": service, "namespace": "mesh" }, "caBundle": BASE64_STANDARD.encode(bundle),
            } })
        };
        let found = json!({
            "metadata": { "resourceVersion": "7" },
            "webhooks": [webhook("tidegate", "new"), webhook("other", "old"), webhook("tidegate", "old"), by_url("example.com"), by_url("localhost")],
        });
        let expected = json!([
            { "op": "test", "path": "/metadata/resourceVersion", "value": "7" },
            { "op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": BASE64_STANDARD.encode("new") },
            { "op": "add", "path": "/webhooks/4/clientConfig/caBundle", "value": BASE64_STANDARD.encode("new") },
        ]);
        assert_eq!(patch(&found, &ours, "new"), Some(expected));
        let found = json!({ "webhooks": [webhook("tidegate", "new")] });
        assert_eq!(patch(&found, &ours, "new"), None);
    }
}
