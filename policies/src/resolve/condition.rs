use serde::Serialize;

/// A statement on an object, in the terms of Kubernetes and the Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, `Conflicted`, `Overridden`; `Ignored` on what is another controller's business,
    /// on which a cluster would see no word of ours.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its status: `True` or `False`.
    #[serde(rename = "status", serialize_with = "status")]
    pub holds: bool,
    /// One word, for programs.
    pub reason: &'static str,
    /// For people: what is wrong, and where it was written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For a route: the number of the parentRef that it is about; `None` when it is about all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<usize>,
}

impl Condition {
    pub(super) fn holds(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: true, reason, message: message.into(), parent: None }
    }

    pub(super) fn fails(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, ..Self::holds(kind, reason, message) }
    }

    pub(super) fn ignored(reason: &'static str, message: impl Into<String>) -> Self {
        Self::holds("Ignored", reason, message)
    }

    /// Accepted without a word.
    pub(super) fn accepted() -> Self {
        Self::holds("Accepted", "Accepted", "")
    }

    pub(super) fn of_parent(self, parent: usize) -> Self {
        Self { parent: Some(parent), ..self }
    }
}

fn status<S: serde::Serializer>(holds: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *holds { "True" } else { "False" })
}
