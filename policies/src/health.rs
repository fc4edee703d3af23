//! What a backend's calls tell about it: caps, and breakers as state machines with `now` as argument.

mod breaker;
mod caps;
pub mod check;
mod guard;
mod window;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decision::RuleRef;
use crate::model::{Mode, PolicyRef};

pub use breaker::{
    Admission, Breaker, BreakerParams, BreakerPhase, BreakerView, FailureRate, Permit, PhaseChange,
    TransitionCounts,
};
pub use caps::{Cap, CapCounters, CapLimits, CapPermit, CapUsage};
pub(crate) use guard::BoundBreaker;
pub use guard::{BreakerStatus, CircuitGuard, Transition};
pub use window::{Counts, Window};

/// A `CircuitBreakerPolicy`, compiled: which caps and which breakers, without any state.
#[derive(Debug)]
pub struct CircuitBreaker {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
    /// On the whole backend.
    pub caps: Option<CapRule>,
    pub breakers: Box<[BreakerRule]>,
}

/// The caps of one scope, as one rule.
#[derive(Clone, Debug)]
pub struct CapRule {
    pub rule: Arc<RuleRef>,
    pub limits: CapLimits,
}

#[derive(Clone, Debug)]
pub struct BreakerRule {
    pub rule: Arc<RuleRef>,
    pub scope: BreakerScope,
    pub params: BreakerParams,
}

/// What one breaker watches and holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BreakerScope {
    /// All calls to the backend.
    Backend,
    /// Each endpoint by itself: calls go to the others while it is open.
    Endpoint,
}
