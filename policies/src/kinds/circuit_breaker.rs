use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;

#[derive(Debug)]
pub struct CircuitBreakerPolicy;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CircuitBreakerPolicySpec {}

impl PolicyKind for CircuitBreakerPolicy {
    const KIND: &'static str = "CircuitBreakerPolicy";
    const ABOUT: &'static str = "";
    const TARGETS: &'static [TargetKind] = &[TargetKind::Service];
    type Spec = CircuitBreakerPolicySpec;

    fn compile(_spec: Self::Spec, _cx: &mut CompileContext<'_>) -> Option<Compiled> {
        None
    }
}
