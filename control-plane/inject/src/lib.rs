//! Adds a sidecar to a pod. Pure: the admission webhook and `tidegate inject` call the same functions, so what a person
//! sees in a file is what a cluster does.
//!
//! What is there is never replaced: containers, volumes and annotations are added, and a pod that has a sidecar is
//! left as it is, so that injecting twice is injecting once. What cannot be done is refused with the field that is at fault,
//! or skipped with the reason; nothing is half done.
//!
//! What a pod's author may say is in [`wish`], what the mesh's operator says in [`Settings`].

mod containers;
mod decide;
mod document;
mod patch;
mod pod;
mod probes;
mod settings;
mod wish;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::Value as Json;

pub use decide::{Because, Decision, decide};
pub use document::document;
pub use patch::patch;
pub use pod::pod;
pub use settings::{Ports, Settings};
pub use wish::{INJECTED, INTERCEPTION, REDIRECT};

/// The containers that are added: by these names a pod is known to have a sidecar.
pub const PROXY_CONTAINER: &str = "tidegate-proxy";
pub const INIT_CONTAINER: &str = "tidegate-init";
/// In the place of [`INIT_CONTAINER`], where a CNI plugin does what that one would.
pub const VERIFY_CONTAINER: &str = "tidegate-verify";

/// What became of a pod, or of the document around it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The whole manifest, with the sidecar.
    Injected(Json),
    /// It has one already.
    AlreadyThere,
    /// It is left as it is, and why.
    Skipped(String),
}

/// Why a pod cannot be given the sidecar that was asked for, each reason with its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Refusal(pub Vec<String>);

/// What a webhook answers for a new pod: the patch, or nothing to do. `namespace`: the labels of the pod's namespace.
///
/// # Errors
/// The pod asks itself for what cannot be done.
pub fn review(
    new: &Json,
    namespace: &BTreeMap<String, String>,
    settings: &Settings,
) -> Result<Option<Json>, Refusal> {
    let Decision::Inject(because) = decide(new, namespace)? else { return Ok(None) };
    Ok(match pod(new, because, settings)? {
        Outcome::Injected(with) => Some(patch(new, &with)),
        Outcome::AlreadyThere | Outcome::Skipped(_) => None,
    })
}
