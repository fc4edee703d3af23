use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Meta, ResourceName, SourceMap, SourceRef};

/// A policy as it travels: who it is, what it applies to, and its spec as JSON that only its kind understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub meta: Meta,
    /// `RateLimitPolicy`, …: a key of [`crate::kinds`].
    pub kind: Arc<str>,
    pub targets: Vec<TargetRef>,
    pub mode: Mode,
    /// The spec without `targetRefs` and `mode`.
    pub spec: serde_json::Value,
    pub lines: SourceMap,
}

impl Policy {
    pub fn key(&self) -> PolicyKey {
        PolicyKey { kind: self.kind.clone(), name: self.meta.name.clone() }
    }

    /// What holds in its place if it was never valid, where its kind must not be missing.
    pub fn stand_in(&self) -> Option<Self> {
        let spec = (crate::kinds::find(&self.kind)?.stand_in)()?;
        Some(Self { spec, ..self.clone() })
    }

    /// Whether it is [`Policy::stand_in`] of some policy.
    pub fn stands_in(&self) -> bool {
        crate::kinds::find(&self.kind).is_some_and(|entry| (entry.stand_in)().as_ref() == Some(&self.spec))
    }

    pub fn reference(&self) -> PolicyRef {
        PolicyRef { kind: self.kind.clone(), name: self.meta.name.clone(), source: self.meta.source.clone() }
    }
}

/// Which policy of all kinds: what a route's ExtensionRef names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct PolicyKey {
    /// A key of [`crate::kinds`].
    pub kind: Arc<str>,
    pub name: ResourceName,
}

/// Which policy, and where it was written: what a decision carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PolicyRef {
    pub kind: Arc<str>,
    pub name: ResourceName,
    pub source: SourceRef,
}

/// Whether a policy acts or only tells what it would have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    #[default]
    Enforce,
    Shadow,
}

/// What a policy is attached to (GEP-713), after its namespace has been filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct TargetRef {
    pub kind: TargetKind,
    /// For a Namespace, `namespace` and `name` are both its name.
    pub object: ResourceName,
    /// A listener of a Gateway or ListenerSet, a named rule of a route, or a port name of a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section: Option<Arc<str>>,
}

/// From least to most specific: where two policies of one kind meet, the more specific target wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum TargetKind {
    Namespace,
    Gateway,
    ListenerSet,
    HTTPRoute,
    GRPCRoute,
    TCPRoute,
    TLSRoute,
    Service,
    Backend,
}

impl TargetKind {
    pub const ALL: [Self; 9] = [
        Self::Namespace,
        Self::Gateway,
        Self::ListenerSet,
        Self::HTTPRoute,
        Self::GRPCRoute,
        Self::TCPRoute,
        Self::TLSRoute,
        Self::Service,
        Self::Backend,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::HTTPRoute => "HTTPRoute",
            Self::GRPCRoute => "GRPCRoute",
            Self::TCPRoute => "TCPRoute",
            Self::TLSRoute => "TLSRoute",
            Self::Service => "Service",
            Self::Backend => "Backend",
        }
    }
}

impl fmt::Display for TargetRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TargetKind::Namespace => write!(f, "Namespace {}", self.object.name),
            kind => write!(f, "{} {}", kind.as_str(), self.object),
        }?;
        match &self.section {
            Some(section) => write!(f, "#{section}"),
            None => Ok(()),
        }
    }
}
