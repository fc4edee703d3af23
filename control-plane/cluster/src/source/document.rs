//! An object of the API -> the document that the fold reads, and what its status was seen to be.

use std::sync::Arc;

use kube::core::DynamicObject;
use serde_json::{Map, Value as Json, json};
use tidegate_control_plane::source::{FileContent, FileText};
use tidegate_policy::objects::MESH_PORTS;

use super::references::{Reference, references};
use crate::kinds::{Served, has_status};

/// Written by tools for themselves: large, or new at every turn.
const NOISE: [&str; 3] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "deployment.kubernetes.io/revision",
];
/// A label of what the controller makes for a Gateway, with the Gateway's name.
pub const GATEWAY_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// `(namespace, name)`; the namespace of what belongs to none is empty.
pub type Scope = (String, String);

/// One object, as far as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub content: FileContent,
    pub references: Vec<Reference>,
    /// Only of kinds that we write a status to, or read one of.
    pub observed: Option<Arc<Observed>>,
}

/// What a writer must know of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub uid: String,
    pub resource_version: String,
    /// Of a Service that was made for a Gateway, with its `clusterIPs`.
    pub status: Json,
    /// The Gateway that a Service was made for.
    pub gateway: Option<String>,
}

impl Document {
    pub fn new(served: &Served, object: DynamicObject) -> (Scope, Self) {
        let scope = scope(&object);
        let DynamicObject { metadata, mut data, .. } = object;
        let mut status = data.as_object_mut().and_then(|data| data.remove("status")).unwrap_or_default();
        let labels = metadata.labels.as_ref().filter(|_| served.kind == "Service");
        let gateway = labels.and_then(|labels| labels.get(GATEWAY_LABEL)).cloned();
        if gateway.is_some() {
            status["clusterIPs"] = data["spec"]["clusterIPs"].clone();
        }
        let observed = (gateway.is_some() || has_status(&served.resource)).then(|| {
            Arc::new(Observed {
                uid: metadata.uid.clone().unwrap_or_default(),
                resource_version: metadata.resource_version.clone().unwrap_or_default(),
                status,
                gateway,
            })
        });
        let mut whole = data.as_object_mut().map(std::mem::take).unwrap_or_default();
        if served.kind == "Secret" {
            // What kind of secret it is, and what it holds; nothing else.
            whole.retain(|field, _| matches!(field.as_str(), "data" | "type"));
        }
        if served.kind == "Pod" {
            // Whose it is, and nothing that changes while it runs.
            let account = whole.get("spec").and_then(|spec| spec.get("serviceAccountName")).cloned();
            whole = Map::from_iter([(String::from("spec"), json!({ "serviceAccountName": account }))]);
        }
        whole.insert(String::from("apiVersion"), json!(served.resource.api_version));
        whole.insert(String::from("kind"), json!(served.kind));
        let mut kept = serde_json::to_value(&metadata).ok().map(lighten).unwrap_or_default();
        if let ("Pod", Some(annotations)) = (served.kind, kept["annotations"].as_object_mut()) {
            annotations.retain(|name, _| name == MESH_PORTS);
        }
        whole.insert(String::from("metadata"), kept);
        let whole = Json::Object(whole);
        let references = references(served.kind, &scope.0, &whole);
        let text = FileText::object(whole.to_string());
        let content = FileContent { path: path(served.kind, &scope).into(), body: Ok(text) };
        (scope, Self { content, references, observed })
    }
}

pub(super) fn scope(object: &DynamicObject) -> Scope {
    let metadata = &object.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

/// As people are told which object it is.
pub(super) fn path(kind: &str, (namespace, name): &Scope) -> String {
    match namespace.as_str() {
        "" => format!("{kind}/{name}"),
        namespace => format!("{kind}/{namespace}/{name}"),
    }
}

/// Leaves out what changes without a meaning to the mesh: an object whose status was written is the same document.
fn lighten(mut metadata: Json) -> Json {
    let Some(fields) = metadata.as_object_mut() else { return metadata };
    for noise in [
        "managedFields",
        "resourceVersion",
        "selfLink",
        "ownerReferences",
        "finalizers",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        fields.remove(noise);
    }
    if let Some(annotations) = fields.get_mut("annotations").and_then(Json::as_object_mut) {
        annotations.retain(|name, _| !NOISE.contains(&name.as_str()));
    }
    if fields.get("annotations").and_then(Json::as_object).is_some_and(Map::is_empty) {
        fields.remove("annotations");
    }
    metadata
}
