//! What the control plane tells people about every object: was it accepted, what is wrong with it and where, and how
//! many proxies run it.
//!
//! Computed on demand from the world and the nodes' acknowledgements; nothing is stored but since when each condition
//! has been as it is.

mod filter;
mod keeper;
mod manifests;
mod programmed;
mod report;
mod transitions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_policy::document::Diagnostic;
use tidegate_policy::resolve;

pub use filter::{Filter, InvalidFilter};
pub(crate) use keeper::{keep, left_behind};
pub use manifests::manifests;
pub use programmed::MAX_LAGGARDS;
pub use report::{Reporter, report};
pub use transitions::Transitions;

/// Everything at one moment, as `GET /status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Counts the changes of the documents since the control plane started.
    pub generation: u64,
    /// By kind, namespace, name.
    pub objects: Vec<ObjectStatus>,
    /// Everything wrong with the documents, by file and line; also what belongs to no object.
    pub diagnostics: Vec<Diagnostic>,
    /// Connected proxies, by id.
    pub nodes: Vec<NodeStatus>,
    /// Endpoints that fail for several proxies, where a policy shares what they see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Suspected>,
}

/// An endpoint that all proxies are told to leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspected {
    /// `KIND/NAMESPACE/NAME` of the policy that shares.
    pub policy: String,
    pub backend: String,
    pub endpoint: String,
    /// Seconds since it became suspect.
    pub for_seconds: u64,
    /// Proxies that said so when it began, of so many that had called it.
    pub failing: u32,
    pub asked: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// `path:line` of the document that counts.
    pub source: String,
    pub in_force: InForce,
    pub conditions: Vec<Condition>,
    /// What is wrong with this object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Diagnostic>,
    /// Absent if proxies are told nothing because of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programmed: Option<Programmed>,
    /// The same for each listener of a Gateway or ListenerSet that proxies are told of, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub listeners: BTreeMap<String, Programmed>,
}

/// Which version of an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InForce {
    /// What is written now.
    Current,
    /// What is written now is not valid, or cannot be read: the last valid version.
    LastValid,
    /// There never was a valid version of a policy that must not be missing: what stands in for it (an AuthorizationPolicy
    /// denies).
    StandIn,
    /// There never was a valid version.
    Nothing,
}

/// A Kubernetes condition, without its times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    /// `True` or `False`.
    pub status: String,
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For a route: the number of the parentRef that it is about; absent when it is about all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
}

/// How many of the proxies that are told about an object have acknowledged all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programmed {
    pub ready: usize,
    pub of: usize,
    /// Ids of proxies that are behind, at most [`MAX_LAGGARDS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub laggards: Vec<String>,
    /// Why the first proxy that refused it did so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason is an address or port that could not be bound; that proxy runs it otherwise, and tries again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unbound: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    pub id: String,
    pub role: crate::publish::Role,
    pub namespace: String,
    pub services: Vec<String>,
    /// The SPIFFE id that it has proved to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Where it runs, if it says so (`--zone`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Seconds since the Unix epoch.
    pub connected_since: u64,
    /// Resources acknowledged in the version that is in force.
    pub acknowledged: usize,
    /// Resources it is to have.
    pub of: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<String>,
}

impl From<resolve::Condition> for Condition {
    fn from(told: resolve::Condition) -> Self {
        let status = if told.holds { "True" } else { "False" };
        Self {
            kind: told.kind.to_owned(),
            status: status.to_owned(),
            reason: told.reason.to_owned(),
            message: told.message,
            parent: told.parent,
        }
    }
}

impl Condition {
    pub fn holds(&self) -> bool {
        self.status == "True"
    }
}

impl ObjectStatus {
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

impl Programmed {
    /// Adds proxies that are connected elsewhere.
    fn join(&mut self, other: &Self) {
        self.ready += other.ready;
        self.of += other.of;
        let room = MAX_LAGGARDS.saturating_sub(self.laggards.len());
        self.laggards.extend(other.laggards.iter().take(room).cloned());
        if self.reason.is_none() {
            self.reason.clone_from(&other.reason);
            self.unbound = other.unbound;
        }
    }
}

impl Status {
    /// Adds what the proxies of another control plane run of the same objects.
    pub fn join(&mut self, other: &Self) {
        let key =
            |object: &ObjectStatus| (object.kind.clone(), object.namespace.clone(), object.name.clone());
        let others: BTreeMap<_, _> = other.objects.iter().map(|object| (key(object), object)).collect();
        for object in &mut self.objects {
            let Some(other) = others.get(&key(object)) else { continue };
            if let Some(programmed) = &other.programmed {
                object.programmed.get_or_insert_default().join(programmed);
            }
            for (listener, programmed) in &other.listeners {
                object.listeners.entry(listener.clone()).or_default().join(programmed);
            }
        }
    }

    /// The objects that `filter` picks, with what is wrong with them. Without a filter: everything.
    pub fn pick(mut self, filter: &Filter) -> Self {
        if *filter != Filter::default() {
            self.objects.retain(|object| filter.picks(object));
            self.diagnostics = self.objects.iter().flat_map(|object| object.errors.clone()).collect();
        }
        self
    }

    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<&ObjectStatus> {
        self.objects.iter().find(|o| o.kind == kind && o.namespace == namespace && o.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_several_control_planes_are_counted_together() {
        let status = |ready, laggards: &[&str], reason: Option<&str>| {
            let laggards = laggards.iter().map(ToString::to_string).collect();
            let programmed =
                Programmed { ready, of: 12, laggards, reason: reason.map(str::to_owned), unbound: false };
            let object = ObjectStatus {
                kind: String::from("Gateway"),
                namespace: String::from("shop"),
                name: String::from("edge"),
                source: String::new(),
                in_force: InForce::Current,
                conditions: Vec::new(),
                errors: Vec::new(),
                listeners: [(String::from("http"), programmed.clone())].into(),
                programmed: Some(programmed),
            };
            Status { objects: vec![object], ..Status::default() }
        };
        let mut all = status(6, &["a", "b", "c", "d", "e", "f"], None);
        all.join(&status(7, &["g", "h", "i", "j", "k"], Some("g: no")));
        let programmed = all.objects[0].programmed.clone().unwrap();
        assert_eq!((programmed.ready, programmed.of, programmed.laggards.len()), (13, 24, MAX_LAGGARDS));
        assert_eq!(programmed.reason.as_deref(), Some("g: no"));
        assert_eq!(all.objects[0].listeners["http"], programmed);
        let before = all.clone();
        all.join(&Status::default());
        assert_eq!(all, before);
    }
}
