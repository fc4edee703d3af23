//! `LoadBalancingPolicy`: which endpoint of a backend takes a call.
//!
//! This file checks what was written; [`crate::balance`] chooses.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::balance::{Algorithm, LoadBalancing, Origin};
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;

#[derive(Debug)]
pub(super) struct LoadBalancingPolicy;

/// Without a policy, calls go to the better of two endpoints by what their latency has been: PeakEwma.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LoadBalancingPolicySpec {
    /// Default: PeakEwma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    algorithm: Option<AlgorithmSpec>,
    /// For algorithm LeastRequest: of how many endpoints the one with the least in flight is taken. Default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    choices: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum AlgorithmSpec {
    /// Of two endpoints drawn by weight, the one where a call is expected to end sooner: by a moving average of its
    /// latency that follows peaks at once, times the calls in flight. Failures count as slow.
    PeakEwma,
    /// Of `choices` endpoints drawn by weight, the one with the fewest calls in flight per weight.
    LeastRequest,
    /// In turn, as often as the weights say.
    RoundRobin,
    /// By weight and chance.
    Random,
}

impl PolicyKind for LoadBalancingPolicy {
    const KIND: &'static str = "LoadBalancingPolicy";
    const ABOUT: &'static str =
        "Says which endpoint of a backend takes a call: by latency, load, turn, chance or key.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = LoadBalancingPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        if spec.is_empty() {
            cx.error("", "nothing to do: write at least an `algorithm`");
        }
        let algorithm = spec.algorithm(cx);
        let rule = cx.rule(algorithm.as_str(), "/algorithm");
        let origin = Origin { policy: cx.policy().clone(), mode: cx.mode(), rule };
        let settings = LoadBalancing { origin: Some(origin), algorithm };
        Some(Compiled::LoadBalancing(Arc::new(settings)))
    }
}

impl LoadBalancingPolicySpec {
    fn is_empty(&self) -> bool {
        self.algorithm.is_none()
    }

    fn algorithm(&self, cx: &mut CompileContext<'_>) -> Algorithm {
        let written = self.algorithm.unwrap_or(AlgorithmSpec::PeakEwma);
        if let Some(choices) = self.choices {
            check::within(cx, "/choices", choices, 2..=10);
            if written != AlgorithmSpec::LeastRequest {
                cx.error("/choices", "`choices` goes with algorithm LeastRequest only");
            }
        }
        match written {
            AlgorithmSpec::PeakEwma => Algorithm::PeakEwma,
            AlgorithmSpec::LeastRequest => Algorithm::LeastRequest { choices: self.choices.unwrap_or(2) },
            AlgorithmSpec::RoundRobin => Algorithm::RoundRobin,
            AlgorithmSpec::Random => Algorithm::Random,
        }
    }
}
