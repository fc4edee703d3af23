//! The label sets. All by reference or static: counting a request formats nothing.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use tidegate_policy::model::ResourceName;

use super::series::{Labels, OTHER};

/// A word that is written in this program. Which one it is shows in where it lies, in most cases, and is asked for every
/// request.
#[derive(Clone, Copy, Debug, Eq)]
pub(super) struct Word(pub(super) &'static str);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) direction: Word,
    /// `namespace/name`; empty where no route matched or applies.
    pub(super) route: Option<Arc<str>>,
    pub(super) backend: Option<Arc<str>>,
    /// HTTP status.
    pub(super) code: u16,
    /// `google.rpc.Code` by name; empty for what is not gRPC.
    pub(super) grpc_code: Word,
    /// Response flag; empty for a backend's own answer.
    pub(super) reason: Word,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabels {
    pub(super) direction: Word,
    pub(super) route: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct AttemptLabels {
    pub(super) backend: Arc<str>,
    /// `2xx` … `5xx`, a gRPC code by name, `connected` for an opaque connection, or the response flag of a failure.
    pub(super) result: Word,
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RuleLabels {
    pub(super) kind: Arc<str>,
    pub(super) policy: PolicyName,
    pub(super) rule: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PolicyName(pub(super) ResourceName);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabels {
    pub(super) kind: Arc<str>,
    pub(super) policy: PolicyName,
    pub(super) rule: Arc<str>,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SourceLabels {
    pub(super) kind: Arc<str>,
    pub(super) policy: PolicyName,
    pub(super) rule: Arc<str>,
    /// `file:line`, or `namespace/name@generation`.
    pub(super) source: String,
}

/// A policy, where its kind is clear.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PolicyLabel {
    pub(super) policy: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BreakerLabels {
    pub(super) policy: Arc<str>,
    pub(super) backend: Arc<str>,
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) rule: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct EjectedLabels {
    pub(super) policy: Arc<str>,
    pub(super) backend: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TransitionLabels {
    pub(super) policy: Arc<str>,
    pub(super) backend: Arc<str>,
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) rule: Arc<str>,
    /// `closed`, `open`, `half_open` or `ramping`.
    pub(super) to: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HealthLabels {
    pub(super) policy: Arc<str>,
    pub(super) backend: Arc<str>,
    pub(super) endpoint: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CheckLabels {
    pub(super) policy: Arc<str>,
    pub(super) backend: Arc<str>,
    /// `passed`, or why it failed.
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DirectionLabel {
    pub(super) direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SideLabel {
    pub(super) side: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SignalLabel {
    pub(super) signal: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabel {
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ServiceLabels {
    pub(super) service: Arc<str>,
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StandingLabel {
    pub(super) standing: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VersionLabel {
    pub(super) version: &'static str,
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0) || self.0 == other.0
    }
}

impl Hash for Word {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Words are few, and few of one length have the same end.
        state.write_usize(self.0.len());
        state.write_u8(self.0.as_bytes().last().copied().unwrap_or_default());
    }
}

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

impl TransitionLabels {
    pub(super) fn new(breaker: &BreakerLabels, to: &'static str) -> Self {
        let BreakerLabels { policy, backend, endpoint, rule } = breaker.clone();
        Self { policy, backend, endpoint, rule, to }
    }
}

impl Labels for RequestLabels {
    fn overflow(&self) -> Self {
        let other = || Some(Arc::from(OTHER));
        Self { route: other(), backend: other(), code: self.code / 100 * 100, ..self.clone() }
    }
}

impl Labels for RouteLabels {
    fn overflow(&self) -> Self {
        Self { direction: self.direction, route: Some(OTHER.into()) }
    }
}

/// What was decided about another attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RetryLabels {
    pub(super) backend: Arc<str>,
    /// `made`, or why it was not: `over_budget`, `over_cap`, `exhausted`, `unsafe`, `body_gone`.
    pub(super) decision: &'static str,
}

impl Labels for RetryLabels {
    fn overflow(&self) -> Self {
        Self { backend: OTHER.into(), decision: self.decision }
    }
}

impl Labels for AttemptLabels {
    fn overflow(&self) -> Self {
        Self { backend: OTHER.into(), result: self.result }
    }
}

impl Labels for RuleLabels {
    fn overflow(&self) -> Self {
        let policy = PolicyName(ResourceName::new(OTHER, OTHER));
        Self { kind: self.kind.clone(), policy, rule: OTHER.into() }
    }
}

impl EncodeLabelValue for PolicyName {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.0.to_string().encode(encoder)
    }
}
