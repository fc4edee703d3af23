//! Which kinds of the API are read, and under which of their versions a cluster serves them.

use std::collections::BTreeMap;

use kube::Client;
use kube::discovery::ApiResource;
use tidegate_policy::document;

/// Only those that something refers to are read: a cluster has many that are none of our business.
pub const REFERRED: [&str; 2] = ["ConfigMap", "Secret"];

/// Of the pods of a cluster, those with a sidecar.
const INJECTED: &str = "tidegate.io/injected";

/// The label selector of those objects of a kind that are read; `None`: all of them.
pub fn read_only(kind: &str) -> Option<&'static str> {
    (kind == "Pod").then_some(INJECTED)
}

/// A kind with a meaning to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    pub kind: &'static str,
    /// `group/version`, the one to prefer first.
    pub api_versions: &'static [&'static str],
}

/// A kind as this cluster serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub kind: &'static str,
    pub resource: ApiResource,
    pub namespaced: bool,
}

pub fn all() -> impl Iterator<Item = Kind> {
    document::kinds().map(|(kind, api_versions, _)| Kind { kind, api_versions })
}

/// Whether people are told by the `.status` of such objects how they fare.
pub fn has_status(resource: &ApiResource) -> bool {
    let ours = ["gateway.networking.k8s.io", "tidegate.io"];
    ours.contains(&resource.group.as_str()) && resource.kind != "ReferenceGrant"
}

/// Asks the API which of `kinds` it serves; those that are missing are not there, which is different from an error.
///
/// # Errors
/// If the API does not answer for one of their versions.
pub async fn discover(client: &Client, kinds: &[Kind]) -> Result<Vec<Served>, kube::Error> {
    let mut asked = BTreeMap::new();
    let mut served = Vec::new();
    for kind in kinds {
        for version in kind.api_versions {
            if !asked.contains_key(version) {
                asked.insert(*version, resources(client, version).await?);
            }
            let found = asked[version].iter().find(|(resource, _)| resource.kind == kind.kind);
            if let Some((resource, namespaced)) = found {
                let (resource, namespaced) = (resource.clone(), *namespaced);
                served.push(Served { kind: kind.kind, resource, namespaced });
                break;
            }
        }
    }
    Ok(served)
}

async fn resources(client: &Client, api_version: &str) -> Result<Vec<(ApiResource, bool)>, kube::Error> {
    let listed = match api_version.split_once('/') {
        Some(_) => client.list_api_group_resources(api_version).await,
        None => client.list_core_api_resources(api_version).await,
    };
    let listed = match listed {
        Ok(listed) => listed.resources,
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error),
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let whole = listed.into_iter().filter(|resource| !resource.name.contains('/'));
    let resource = whole.map(|resource| {
        let named = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: resource.kind,
            plural: resource.name,
        };
        (named, resource.namespaced)
    });
    Ok(resource.collect())
}
