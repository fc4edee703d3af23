//! `CircuitBreakerPolicy`: how much a backend is asked at once, and when it or one of its endpoints is left alone.
//!
//! These files check what was written; [`crate::health`] does the counting and [`crate::call`] the refusing.

mod breaker;
mod cap_key;
mod caps;
mod detectors;
mod ejection;
mod failures;
mod shared;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::health::{BreakerRule, BreakerScope, CircuitBreaker, EjectionLimits, Failures, SharedRule};
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;
use breaker::BreakerSpec;
use caps::CapsSpec;
use ejection::EjectionSpec;
use shared::SharedSpec;

pub use shared::SharedRules;

#[derive(Debug)]
pub(super) struct CircuitBreakerPolicy;

/// At least one of `caps`, `breakers` and `shared`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CircuitBreakerPolicySpec {
    /// How much may be open or in flight at once; at most one entry per scope.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    caps: Vec<CapsSpec>,
    /// What stops calls when too many of them fail, or take too long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    breakers: Vec<BreakerSpec>,
    /// How many endpoints the breakers with scope Endpoint may hold back at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ejection: Option<EjectionSpec>,
    /// What other proxies know counts too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<SharedSpec>,
}

const MOST: u32 = 1_000_000;

impl PolicyKind for CircuitBreakerPolicy {
    const KIND: &'static str = "CircuitBreakerPolicy";
    const ABOUT: &'static str = "Caps what a backend is asked at once, and stops calling what keeps failing.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = CircuitBreakerPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        if spec.caps.is_empty() && spec.breakers.is_empty() && spec.shared.is_none() {
            cx.error("", "nothing to do: write `caps`, `breakers` or `shared`");
        }
        check::unique(cx, "/breakers", spec.breakers.iter().map(|breaker| breaker.name.as_deref()));
        let caps = caps::compile(&spec.caps, cx);
        let breakers = spec.breakers.iter().enumerate();
        let breakers: Box<[Arc<BreakerRule>]> =
            breakers.map(|(i, breaker)| breaker.compile(i, cx).into()).collect();
        let ejects = spec.breakers.iter().any(|breaker| breaker.scope == BreakerScope::Endpoint);
        if spec.ejection.is_some() && !ejects && spec.shared.is_none() {
            cx.error("/ejection", "ejects nothing: write a breaker with scope Endpoint");
        }
        let ejection = spec.ejection.map_or_else(EjectionLimits::default, |limits| limits.compile(cx));
        let shared = spec.shared.map(|shared| {
            let of_endpoint = breakers.iter().find(|breaker| breaker.scope == BreakerScope::Endpoint);
            let failures = of_endpoint.map_or_else(Failures::default, |breaker| breaker.failures.clone());
            SharedRule { rule: cx.rule("shared", "/shared"), rules: shared.compile(cx), failures }
        });
        let (policy, mode) = (cx.policy().clone(), cx.mode());
        let circuit = CircuitBreaker { policy, mode, caps, breakers, ejection, shared };
        Some(Compiled::CircuitBreaker(circuit.into()))
    }
}

#[cfg(test)]
mod tests;
