use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;

#[derive(Debug)]
pub struct RateLimitPolicy;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RateLimitPolicySpec {}

impl PolicyKind for RateLimitPolicy {
    const KIND: &'static str = "RateLimitPolicy";
    const ABOUT: &'static str = "";
    const TARGETS: &'static [TargetKind] = &[TargetKind::Service];
    type Spec = RateLimitPolicySpec;

    fn compile(_spec: Self::Spec, _cx: &mut CompileContext<'_>) -> Option<Compiled> {
        None
    }
}
