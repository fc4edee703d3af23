//! `OverloadPolicy`: no more at one time than a service can take, and who is served first. Checks what was written and joins it
//! to its gate; [`crate::overload`] decides.

mod filter;
mod shares;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::key::{self, KeyPart, KeySpec};
use super::rate_limit::{condition, key_parts};
use crate::decision::RuleRef;
use crate::document::crd::rules;
use crate::expression::Expression;
use crate::kind::{BindFilter, CompileContext, Compiled, PolicyKind};
use crate::model::{Mode, PolicyRef, TargetKind};
use crate::objects::GepDuration;
use crate::overload::{Bounds, CLASSES, Gate, Limit, Queueing, Settings};
use crate::pipeline::Filter;
use crate::state::{StateKey, StateStore};
use filter::OverloadFilter;
use shares::ShareSpec;

#[derive(Debug)]
pub(super) struct OverloadPolicy;

/// What is counted is one gate per policy and proxy: from a request's admission to the end of its answer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rules::at_most_one(&["limit", "adaptive"])]))]
pub(super) struct OverloadPolicySpec {
    /// So many at one time. Default: as many as `adaptive` learns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: Option<u32>,
    /// As many as the service takes without a queue of its own, learnt from how long answers take to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adaptive: Option<AdaptiveSpec>,
    /// By importance, the most important first. A request is of the first that it fits; one that fits none comes last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    classes: Vec<ClassSpec>,
    /// Who is treated alike within a class: whoever has least in service is next. Default: all are one tenant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    tenant: Vec<KeySpec>,
    /// Tenants that are to have more than others, or less than those of whom it is written. As long as all of them wait, each
    /// has its weight's share of what is in service, give or take less than one request; a tenant that asks for less
    /// leaves the rest to the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    shares: Vec<ShareSpec>,
    /// How requests wait for their turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    queue: Option<QueueSpec>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AdaptiveSpec {
    /// Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    min: Option<u32>,
    /// Default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max: Option<u32>,
    /// Where it begins. Default: 20, or what is next to it within the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    initial: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClassSpec {
    /// For logs, traces and metrics; unique in the policy. `others` is the name of those that fit none.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// Its requests, in CEL over `request`, `source` and `destination`. A request for which it fails is not of it; ask by
    /// `has(…)`.
    #[schemars(length(min = 1, max = 2048))]
    when: String,
}

#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct QueueSpec {
    /// How many may wait; 0 for none. Default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10_000))]
    max: Option<u32>,
    /// How long each may wait, 1ms to 1m. Default: 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_wait: Option<GepDuration>,
    /// In a queue that has not been empty for `interval`, how long is too long for those who matter least, 1ms to 1m.
    /// Default: 20ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<GepDuration>,
    /// 1ms to 1m. Default: 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interval: Option<GepDuration>,
}

/// A policy that has passed validation.
#[derive(Debug)]
struct Overload {
    policy: Arc<PolicyRef>,
    shadow: bool,
    settings: Settings,
    classes: Arc<[Class]>,
    tenant: Arc<[KeyPart]>,
    shares: Box<[(Vec<String>, u32)]>,
}

/// Without a condition, those that fit no other.
#[derive(Debug)]
struct Class {
    rule: Arc<RuleRef>,
    when: Option<Arc<Expression>>,
}

const OTHERS: &str = "others";
const MOST: u32 = 1_000_000;
const MOST_QUEUED: u32 = 10_000;

impl PolicyKind for OverloadPolicy {
    const KIND: &'static str = "OverloadPolicy";
    const ABOUT: &'static str = "Lets in what a service can take, the important first and tenants alike.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = OverloadPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let limit = spec.limit(cx);
        let queueing = spec.queue.as_ref().unwrap_or(&QueueSpec::default()).compile(cx);
        let classes = spec.classes(cx);
        let tenant = key_parts(&spec.tenant, KeySpec::compile, "/tenant", cx)?;
        let shares = shares::compile(&spec.shares, &spec.tenant, cx);
        let (policy, shadow) = (cx.policy().clone(), cx.mode() == Mode::Shadow);
        let settings = Settings { limit, queueing };
        let classes = classes?;
        Some(Compiled::Filter(Arc::new(Overload { policy, shadow, settings, classes, tenant, shares })))
    }
}

impl OverloadPolicySpec {
    fn limit(&self, cx: &mut CompileContext<'_>) -> Limit {
        if let Some(limit) = self.limit {
            check::within(cx, "/limit", limit, 1..=MOST);
            if self.adaptive.is_some() {
                cx.error("/adaptive", "write `limit` or `adaptive`");
            }
            return Limit::Fixed(limit);
        }
        let AdaptiveSpec { min, max, initial } = self.adaptive.unwrap_or_default();
        for (field, value) in [("min", min), ("max", max), ("initial", initial)] {
            if let Some(value) = value {
                check::within(cx, &format!("/adaptive/{field}"), value, 1..=MOST);
            }
        }
        let max_bound = max.unwrap_or(1000);
        let min = min.unwrap_or(5.min(max_bound));
        if min > max_bound {
            cx.error("/adaptive/min", format!("{min} is more than `max`, which is {max_bound}"));
        }
        if initial.is_some_and(|initial| !(min..=max_bound).contains(&initial)) {
            cx.error("/adaptive/initial", format!("must be between `min` and `max`: {min} to {max_bound}"));
        }
        let initial = initial.unwrap_or(20).clamp(min.min(max_bound), max_bound);
        Limit::Learnt(Bounds { min: min.min(max_bound), max: max_bound, initial })
    }

    fn classes(&self, cx: &mut CompileContext<'_>) -> Option<Arc<[Class]>> {
        if self.classes.len() >= CLASSES {
            let message = format!("{} classes: write at most {}", self.classes.len(), CLASSES - 1);
            cx.error("/classes", message);
        }
        check::unique(cx, "/classes", self.classes.iter().map(|class| Some(class.name.as_str())));
        let mut classes = Vec::new();
        for (i, class) in self.classes.iter().enumerate() {
            let at = format!("/classes/{i}");
            check::name(cx, &format!("{at}/name"), &class.name);
            if class.name == OTHERS {
                cx.error(format!("{at}/name"), "that is the name of those that fit no class");
            }
            let when = condition(Some(&class.when), &format!("{at}/when"), cx);
            classes.push(when.map(|when| Class { rule: cx.rule(&class.name, &at), when: Some(when) }));
        }
        classes.push(Some(Class { rule: cx.rule(OTHERS, ""), when: None }));
        classes.into_iter().collect()
    }
}

impl QueueSpec {
    fn compile(&self, cx: &mut CompileContext<'_>) -> Queueing {
        let most = self.max.unwrap_or(100);
        check::within(cx, "/queue/max", most, 0..=MOST_QUEUED);
        let mut duration = |field: &str, written: Option<GepDuration>, default: u64| {
            let bounds = ("1ms", "1m");
            let checked =
                written.map(|value| check::duration_within(cx, &format!("/queue/{field}"), value, bounds));
            checked.unwrap_or(Duration::from_millis(default))
        };
        Queueing {
            most: most as usize,
            max_wait: duration("maxWait", self.max_wait, 100),
            target: duration("target", self.target, 20),
            interval: duration("interval", self.interval, 100),
        }
    }
}

impl BindFilter for Overload {
    /// Other classes, limits and bounds find the same gate: who is in service stays counted.
    fn bind(&self, state: &StateStore) -> Arc<dyn Filter> {
        let owner = format!("{}/{}", self.policy.kind, self.policy.name);
        let gate = state.get_or_insert(StateKey::new(owner, "gate"), || Gate::new(self.settings));
        gate.want(self.settings);
        Arc::new(OverloadFilter {
            policy: Arc::clone(&self.policy),
            shadow: self.shadow,
            classes: Arc::clone(&self.classes),
            tenant: Arc::clone(&self.tenant),
            weights: self
                .shares
                .iter()
                .map(|(values, weight)| (key::hash_written(&self.tenant, values, state.hash_seed()), *weight))
                .collect(),
            gate,
            seed: state.hash_seed(),
        })
    }
}

#[cfg(test)]
mod tests;
