//! What the policies said about one request: the record that makes every refusal traceable to a line of YAML.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use smallvec::SmallVec;

use crate::model::{PolicyRef, SourceRef};
use crate::reason::Reason;

/// One policy rule's word on one request (or on one attempt of it).
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    pub policy: Arc<PolicyRef>,
    pub rule: Arc<RuleRef>,
    pub outcome: Outcome,
    /// What the rule knew, in its own few words: `remaining=3`, `state=half_open`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
}

/// One rule inside a policy: its name and the line it was written on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleRef {
    pub name: Arc<str>,
    pub source: SourceRef,
}

/// What a rule decided. `Would…` comes from `mode: Shadow` and changes nothing on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Allowed,
    Refused(Reason),
    WouldRefuse(Reason),
}

impl Outcome {
    /// The word that metrics, log and span use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused(_) => "refused",
            Self::WouldRefuse(_) => "would_refuse",
        }
    }
}

/// All decisions of one request, in the order they were taken. Two fit without an allocation.
pub type Decisions = SmallVec<[Decision; 2]>;

/// How a call to an endpoint ended, as breakers and balancers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallOutcome {
    pub result: CallResult,
    /// From the moment the attempt was admitted to its response head (or failure).
    pub latency: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallResult {
    /// An HTTP response head with this status.
    Status(u16),
    /// A gRPC response: HTTP 200 and this `grpc-status`.
    Grpc(u8),
    /// No response: connect error, reset, timeout, protocol error.
    Failed(Reason),
}
