//! What a backend's calls tell about it: caps, and breakers as state machines with `now` as argument.

use std::sync::Arc;

use crate::model::{Mode, PolicyRef};

/// A `CircuitBreakerPolicy`, compiled: which caps and which breakers, without any state.
#[derive(Debug)]
pub struct CircuitBreaker {
    pub policy: Arc<PolicyRef>,
    pub mode: Mode,
}

/// One [`CircuitBreaker`] at work on one backend: its counters and its breakers' states.
#[derive(Debug)]
pub struct CircuitGuard {
    /// `kind/namespace/name|backend`: equal for equal guards across pushes; connection pools are kept apart by it.
    pub id: Arc<str>,
    pub circuit: Arc<CircuitBreaker>,
}
