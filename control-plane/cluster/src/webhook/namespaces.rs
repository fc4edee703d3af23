//! The labels of namespaces that pods are made in.
//!
//! The listing may be behind, or not there yet; what it does not say of a namespace is asked of the API, so that no pod is
//! without its sidecar because it was made right after its namespace was labelled.

use std::time::Duration;

use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::mutate::Namespace;
use crate::errors::told;
use crate::source::Cluster;

/// Well within what the API server gives us.
const ANSWER: Duration = Duration::from_secs(3);
const LABEL: &str = "tidegate.io/inject";

/// Waits: not for threads of the runtime.
///
/// # Errors
/// The API does not answer.
pub(crate) fn look_up(cluster: &Cluster, runtime: &Handle, name: &str) -> Result<Namespace, String> {
    let labels = cluster.store.lock().namespace_labels(name);
    if labels.contains_key(LABEL) {
        return Ok(Namespace { name: name.to_owned(), labels });
    }
    let resource = ApiResource {
        group: String::new(),
        version: String::from("v1"),
        api_version: String::from("v1"),
        kind: String::from("Namespace"),
        plural: String::from("namespaces"),
    };
    let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
    let asked = runtime.block_on(async { timeout(ANSWER, api.get_opt(name)).await });
    let why = match asked {
        Ok(Ok(found)) => {
            let labels = found.and_then(|object| object.metadata.labels).unwrap_or_default();
            return Ok(Namespace { name: name.to_owned(), labels });
        }
        Ok(Err(error)) => told(&error),
        Err(_) => format!("no answer within {} s", ANSWER.as_secs()),
    };
    Err(format!("cannot read the labels of namespace {name}: {why}; try again"))
}
