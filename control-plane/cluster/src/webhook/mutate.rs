//! What may change a pod before it is stored.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde_json::Value as Json;

/// RFC 6902.
pub type Patch = Json;

/// Where a pod is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// Why a pod must not be stored as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What it asks for cannot be done: for its author.
    #[error("{0}")]
    Wrong(String),
    /// Nobody can say yet what it would need. The `failurePolicy` says what becomes of it.
    #[error("{0}")]
    NotNow(String),
}

/// Decides what is added to a pod. Pure, and asked again for the pod that it has changed: then there is nothing to do.
pub trait Mutate: Debug + Send + Sync {
    /// `None` to leave the pod as it is.
    ///
    /// # Errors
    /// If what the pod asks for cannot be done.
    fn mutate(&self, pod: &Json, namespace: &Namespace) -> Result<Option<Patch>, Refusal>;
}
