//! What a backend's calls tell about it: caps, and breakers as state machines with `now` as argument.

mod breaker;
mod caps;
pub mod check;
mod ejection;
pub(crate) mod failures;
mod guard;
mod outliers;
mod peers;
mod report;
mod shared;
mod together;
mod told;
mod window;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::RuleRef;
use crate::model::{Mode, PolicyRef};

pub use breaker::{
    Admission, Among, Breaker, BreakerParams, BreakerPhase, BreakerView, Evidence, PeerLatency, Permit,
    PhaseChange, Rate, Recorded, Report, SlowCalls, SuccessRate, TransitionCounts, Trip,
};
pub(crate) use caps::{BoundCap, CapPermit, KeyedCap};
pub use caps::{Cap, CapKey, CapLimits, CapUsage, CountedBy, MAX_KEYS};
pub use ejection::EjectionLimits;
pub(crate) use ejection::Unhealthy;
pub use failures::Failures;
pub(crate) use guard::{BoundBreaker, GuardedEndpoint, Reading};
pub use guard::{BreakerStatus, CircuitGuard, Transition};
pub use outliers::{Outliers, Word};
pub use report::{BreakerReport, CapReport, GuardReport};
pub use shared::{SharedEndpoint, Suspect};
pub use together::Together;
pub(crate) use together::Turns;
pub use window::{Counts, Span, Window};

/// A `CircuitBreakerPolicy`, compiled: which caps and which breakers, without any state.
#[derive(Debug)]
pub struct CircuitBreaker {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
    /// At most one for each scope.
    pub caps: Box<[CapRule]>,
    pub breakers: Box<[Arc<BreakerRule>]>,
    pub ejection: EjectionLimits,
    /// What other proxies know counts too.
    pub shared: Option<SharedRule>,
}

/// When others are believed.
#[derive(Clone, Debug)]
pub struct SharedRule {
    pub rule: Arc<RuleRef>,
    pub rules: tidegate_outliers::Rules,
    /// What proxies tell each other of: as the first breaker of endpoints says.
    pub failures: Failures,
}

/// The caps of one scope, as one rule.
#[derive(Clone, Debug)]
pub struct CapRule {
    pub rule: Arc<RuleRef>,
    pub scope: CapScope,
    pub limits: CapLimits,
    /// With scope Key.
    pub key: Option<Arc<dyn CountedBy>>,
}

#[derive(Clone, Debug)]
pub struct BreakerRule {
    pub rule: Arc<RuleRef>,
    pub scope: BreakerScope,
    pub params: BreakerParams,
    pub failures: Failures,
    /// Opens for as long as a response asks for, but no longer than this; `None`: not at all.
    pub honor_retry_after: Option<Duration>,
}

/// What a cap counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CapScope {
    /// All calls to the backend.
    Backend,
    /// Each endpoint by itself: calls go to the others while it is full.
    Endpoint,
    /// The calls of each route rule to the backend.
    Rule,
    /// The calls to the backend that have the same `key`.
    Key,
}

/// What one breaker watches and holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BreakerScope {
    /// All calls to the backend.
    Backend,
    /// Each endpoint by itself: calls go to the others while it is open.
    Endpoint,
}

impl CircuitBreaker {
    /// The caps of a scope.
    pub fn cap(&self, scope: CapScope) -> Option<&CapRule> {
        self.caps.iter().find(|cap| cap.scope == scope)
    }

    /// Whether calls of different rules are counted apart.
    pub fn caps_rules(&self) -> bool {
        self.cap(CapScope::Rule).is_some()
    }

    /// What is shared with other proxies; one that is only tried has nothing to say to them.
    pub fn sharing(&self) -> Option<&SharedRule> {
        self.shared.as_ref().filter(|_| self.mode == Mode::Enforce)
    }
}
