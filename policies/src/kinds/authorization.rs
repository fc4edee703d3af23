//! `AuthorizationPolicy`: who may do what. Checks what was written; [`authorizer`] judges.
//!
//! The rules are those of Istio's AuthorizationPolicy, with one difference: what is written for a Namespace or a Gateway is not
//! widened by what is written below it. Policies add up ([`Merge::AddUp`]): those of one target judge together, and every
//! target on the way must let pass.

mod authorizer;
mod block;
mod contradiction;
mod operation;
mod rule;
mod source;
mod truth;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::check;
use crate::decision::RuleRef;
use crate::kind::{CompileContext, Compiled, Merge, PolicyKind};
use crate::model::{Mode, PolicyRef, TargetKind};
pub(crate) use authorizer::Authorizer;
use rule::{Action, Rule, RuleSpec};

#[derive(Debug)]
pub(super) struct AuthorizationPolicy;

/// A Deny rule that matches refuses, whatever else is written. Else, where a policy of the same target has an Allow rule or
/// `default: Deny`, one of their Allow rules must match. Policies on other targets are asked too, and all must let pass: a
/// route's policy never opens what its Gateway's or its Namespace's has closed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AuthorizationPolicySpec {
    /// What becomes of what no rule matches. Default: Deny where there is an Allow rule, else Allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<DefaultSpec>,
    /// Their order makes no difference. Without any, `default: Deny` lets nobody pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    rules: Vec<RuleSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum DefaultSpec {
    Allow,
    Deny,
}

/// Of the policies.
pub(crate) const KIND: &str = <AuthorizationPolicy as PolicyKind>::KIND;
const MOST_RULES: usize = 64;
/// Of what is refused because nothing allows it.
const DEFAULT: &str = "default";
/// The one rule of what stands in for a policy that was never valid.
const NEVER_VALID: &str = "never-valid";

/// A policy that has passed validation.
#[derive(Debug)]
pub struct Authorization {
    policy: Arc<PolicyRef>,
    rules: Box<[Rule]>,
    /// An Allow rule must match: what is told where none does.
    closed: Option<Arc<RuleRef>>,
    shadow: bool,
}

impl PolicyKind for AuthorizationPolicy {
    const KIND: &'static str = "AuthorizationPolicy";
    const ABOUT: &'static str =
        "Says who may do what: allows, denies and audits by peer, request, address and token.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    const MERGE: Merge = Merge::AddUp;
    type Spec = AuthorizationPolicySpec;

    /// Whatever was meant, it was not that everybody may.
    fn stand_in() -> Option<Value> {
        Some(json!({"rules": [{"name": NEVER_VALID, "action": "Deny"}]}))
    }

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let count = spec.rules.len();
        if count > MOST_RULES {
            cx.error("/rules", format!("{count} rules: write at most {MOST_RULES}"));
        }
        if count == 0 && spec.default != Some(DefaultSpec::Deny) {
            cx.error("", "it says nothing: write `rules`, or `default: Deny` to let nobody pass");
        }
        check::unique(cx, "/rules", spec.rules.iter().map(|rule| Some(rule.name())));
        for (i, rule) in spec.rules.iter().enumerate() {
            if spec.default == Some(DefaultSpec::Allow) && rule.action() == Action::Allow {
                let message = "with `default: Allow` an Allow rule changes nothing: leave the default out, or write Audit";
                cx.error(format!("/rules/{i}/action"), message);
            }
            if rule.name() == DEFAULT {
                cx.error(format!("/rules/{i}/name"), "`default` is what is told where no rule matches");
            }
        }
        let each = spec.rules.iter().enumerate();
        let compiled: Vec<_> = each.map(|(i, rule)| rule.compile(&format!("/rules/{i}"), cx)).collect();
        let rules: Box<[Rule]> = compiled.into_iter().collect::<Option<_>>()?;
        let closes =
            spec.default == Some(DefaultSpec::Deny) || rules.iter().any(|rule| rule.action == Action::Allow);
        Some(Compiled::Authorization(Arc::new(Authorization {
            policy: cx.policy().clone(),
            closed: closes.then(|| cx.rule(DEFAULT, "/default")),
            rules,
            shadow: cx.mode() == Mode::Shadow,
        })))
    }
}

#[cfg(test)]
mod tests;
