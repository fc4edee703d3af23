//! `FaultPolicy`: faults on purpose, to see what callers make of them. Checks what was written; [`filter`] injects.

mod abort;
mod active;
mod delay;
mod filter;

use std::num::NonZeroU32;
use std::sync::Arc;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use super::rate_limit::condition;
use crate::decision::RuleRef;
use crate::expression::Expression;
use crate::kind::{BindFilter, CompileContext, Compiled, PolicyKind};
use crate::model::{Mode, PolicyRef, TargetKind};
use crate::pipeline::{Filter, WrittenReply};
use crate::state::{StateKey, StateStore};
use abort::AbortSpec;
use active::Active;
use delay::{Delay, DelaySpec};
use filter::{BoundFault, FaultFilter};

#[derive(Debug)]
pub(super) struct FaultPolicy;

/// Each fault is drawn by itself, in the order in which they are written: delays add up, the slowest throttle counts, and
/// one that ends the request is the last that is drawn.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultPolicySpec {
    #[schemars(length(min = 1, max = 16))]
    faults: Vec<FaultSpec>,
}

/// At least one of `delay`, `abort`, `throttle` and `reset`. A delay comes before the others; a rule's own timeouts begin
/// after it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FaultSpec {
    /// For logs, traces, metrics and requests that ask for it; unique in the policy.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// The requests that may be hit, in CEL over `request`, `source` and `destination`. Default: all. A request for which
    /// it fails is not hit; ask by `has(…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    when: Option<String>,
    /// Of those requests, how many are hit: 0 to 100, such as 0.1. Default: 100.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    #[schemars(range(min = 0.0, max = 100.0))]
    percent: f64,
    /// Only requests that ask for this fault themselves, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<HeaderSpec>,
    /// How long the request waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<DelaySpec>,
    /// What answers in place of the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    abort: Option<AbortSpec>,
    /// How slowly the body of the backend's answer comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    throttle: Option<ThrottleSpec>,
    /// No answer at all: the HTTP/1 connection is closed, the HTTP/2 or HTTP/3 stream reset.
    #[serde(default, skip_serializing_if = "is_false")]
    reset: bool,
    /// How many requests may be under this fault at one time, in each proxy, until their answers are out. Beyond that,
    /// requests pass unharmed. Default: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_active: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HeaderSpec {
    /// Of a header whose value is the name of the fault, or several with commas between.
    #[schemars(length(min = 1, max = 128))]
    name: String,
    /// Whether it may be asked for at a gateway too, where anybody could. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    at_gateways: bool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ThrottleSpec {
    /// 1 to 1 000 000 000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    bytes_per_second: u32,
}

/// A policy that has passed validation.
#[derive(Debug)]
struct Faults {
    policy: Arc<PolicyRef>,
    shadow: bool,
    faults: Vec<Arc<Fault>>,
}

/// One fault, valid.
#[derive(Debug)]
struct Fault {
    rule: Arc<RuleRef>,
    when: Option<Arc<Expression>>,
    /// Of requests, 0 to 1.
    share: f64,
    asked: Option<Asked>,
    delay: Option<Delay>,
    /// Ends the request: an answer, or none at all.
    end: Option<Arc<WrittenReply>>,
    bytes_per_second: Option<NonZeroU32>,
    most: Option<u32>,
}

/// Where a request asks for a fault.
#[derive(Debug)]
struct Asked {
    header: HeaderName,
    at_gateways: bool,
}

const MOST_FAULTS: usize = 16;
const MOST_ACTIVE: u32 = 1_000_000;
const FASTEST: u32 = 1_000_000_000;

impl PolicyKind for FaultPolicy {
    const KIND: &'static str = "FaultPolicy";
    const ABOUT: &'static str = "Delays, aborts, throttles or resets a share of requests on purpose.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = FaultPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let count = spec.faults.len();
        if !(1..=MOST_FAULTS).contains(&count) {
            cx.error("/faults", format!("{count} faults: write 1 to {MOST_FAULTS}"));
        }
        check::unique(cx, "/faults", spec.faults.iter().map(|fault| Some(fault.name.as_str())));
        let each = spec.faults.iter().enumerate();
        let faults: Vec<_> = each.map(|(i, fault)| fault.compile(&format!("/faults/{i}"), cx)).collect();
        let faults = faults.into_iter().map(|fault| fault.map(Arc::new)).collect::<Option<_>>()?;
        let (policy, shadow) = (cx.policy().clone(), cx.mode() == Mode::Shadow);
        Some(Compiled::Filter(Arc::new(Faults { policy, shadow, faults })))
    }
}

impl FaultSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Fault> {
        check::name(cx, &format!("{at}/name"), &self.name);
        if !(0.0..=100.0).contains(&self.percent) {
            cx.error(format!("{at}/percent"), format!("{} is out of range: use 0 to 100", self.percent));
        }
        if let Some(most) = self.max_active {
            check::within(cx, &format!("{at}/maxActive"), most, 1..=MOST_ACTIVE);
        }
        if self.delay.is_none() && self.abort.is_none() && self.throttle.is_none() && !self.reset {
            cx.error(at, "does nothing: write at least one of `delay`, `abort`, `throttle` and `reset`");
        }
        if self.reset && self.abort.is_some() {
            cx.error(format!("{at}/reset"), "write `abort` or `reset`: a request has one end");
        }
        if self.throttle.is_some() && (self.reset || self.abort.is_some()) {
            let message = "there is no answer of the backend to throttle beside `abort` or `reset`";
            cx.error(format!("{at}/throttle"), message);
        }
        // Each is looked at before any is needed, so that all faults are told at once.
        let when = condition(self.when.as_deref(), &format!("{at}/when"), cx);
        let asked = self.header.as_ref().map(|header| header.compile(&format!("{at}/header"), cx));
        let delay = self.delay.as_ref().map(|delay| delay.compile(&format!("{at}/delay"), cx));
        let abort = self.abort.as_ref().map(|abort| abort.compile(&format!("{at}/abort"), cx));
        let reset = self.reset.then(|| WrittenReply { reset: true, ..WrittenReply::default() });
        let pace = self.throttle.as_ref().map(|throttle| throttle.compile(&format!("{at}/throttle"), cx));
        Some(Fault {
            rule: cx.rule(&self.name, at),
            when,
            share: self.percent / 100.0,
            asked: wanted(asked)?,
            delay: wanted(delay)?,
            end: wanted(abort)?.or(reset).map(Arc::new),
            bytes_per_second: wanted(pace)?,
            most: self.max_active,
        })
    }
}

impl HeaderSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Asked> {
        let Ok(header) = HeaderName::try_from(&self.name) else {
            cx.error(format!("{at}/name"), format!("`{}` is not the name of a header", self.name));
            return None;
        };
        Some(Asked { header, at_gateways: self.at_gateways })
    }
}

impl ThrottleSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<NonZeroU32> {
        check::within(cx, &format!("{at}/bytesPerSecond"), self.bytes_per_second, 1..=FASTEST);
        NonZeroU32::new(self.bytes_per_second)
    }
}

/// Nothing where nothing is written; `None` where what is written is wrong.
#[expect(clippy::option_option, reason = "wrong, or not written")]
fn wanted<T>(compiled: Option<Option<T>>) -> Option<Option<T>> {
    match compiled {
        None => Some(None),
        Some(valid) => valid.map(Some),
    }
}

const fn all() -> f64 {
    100.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_all(percent: &f64) -> bool {
    *percent >= 100.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl BindFilter for Faults {
    /// Another cap finds the same count.
    fn bind(&self, state: &StateStore) -> Arc<dyn Filter> {
        let owner: Arc<str> = format!("{}/{}", self.policy.kind, self.policy.name).into();
        let each = self.faults.iter().map(|fault| {
            let key = StateKey::new(Arc::clone(&owner), format!("{}|active", fault.rule.name));
            BoundFault { fault: Arc::clone(fault), active: state.get_or_insert(key, Active::default) }
        });
        Arc::new(FaultFilter {
            policy: Arc::clone(&self.policy),
            shadow: self.shadow,
            faults: each.collect(),
        })
    }
}

#[cfg(test)]
mod tests;
