//! `scope: Service`: a rate limit service that is there already counts, asked by Envoy's protocol
//! (`envoy.service.ratelimit.v3`). The filter says what it wants asked, the shell asks, and the filter judges by the answer.
//! What holds without one is written: nobody is refused, everybody is, or each proxy counts by itself.
//!
//! A Shadow policy asks nobody unless it says so: what is asked is counted, and the budget may be others' too.

mod entry;
mod filter;
mod headers;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cost::Cost;
use super::key::KeyPart;
use super::on_limit::OnLimit;
use super::scope::Sharing;
use super::told::Told;
use super::{Limit, LimitMode, LimitSpec, RateLimitPolicySpec, condition};
use crate::decision::RuleRef;
use crate::expression::Expression;
use crate::kind::{BindFilter, CompileContext, Compiled};
use crate::kinds::backend_ref::BackendRefSpec;
use crate::kinds::check;
use crate::model::{Mode, PolicyRef};
use crate::objects::GepDuration;
use crate::pipeline::{Filter, ServiceRef};
use crate::state::StateStore;
use entry::Entry;
pub(super) use entry::{EntrySpec, parts};
use filter::ServiceFilter;

/// How a policy with `scope: Service` asks, and what it does without an answer.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    /// What the service is behind: gRPC without TLS.
    backend_ref: BackendRefSpec,
    /// What the service knows these limits under.
    #[schemars(length(min = 1, max = 253))]
    domain: String,
    /// How long a request waits for the answer, 1ms to 1s. Default: 20ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<GepDuration>,
    /// What becomes of a request without an answer. Default: Local.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_failure: Option<OnFailure>,
    /// For Local: what each proxy lets through of each limit by itself, in percent. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    fallback_percent: Option<u32>,
    /// Whether a Shadow policy asks. What is asked is counted there, as if it held. Default: nobody is asked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    ask_in_shadow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum OnFailure {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
    /// Each proxy lets its part of the limits through; they say `requests` and `per` for that.
    Local,
}

/// The same, valid.
#[derive(Debug)]
struct Service {
    backend: Arc<ServiceRef>,
    domain: Arc<str>,
    timeout: Duration,
    on_failure: OnFailure,
    /// Whether anybody is asked at all.
    asks: bool,
}

/// A policy that has passed validation.
#[derive(Debug)]
struct ServiceLimits {
    policy: Arc<PolicyRef>,
    when: Option<Arc<Expression>>,
    service: Arc<Service>,
    /// Ordered by name.
    limits: Arc<[AskedLimit]>,
    told: Told,
    on_limit: OnLimit,
    shadow: bool,
    /// What counts here while there is no answer, if that is wanted.
    local: Option<Box<dyn BindFilter>>,
}

/// A limit as the service is asked for it.
#[derive(Debug)]
struct AskedLimit {
    rule: Arc<RuleRef>,
    key: Arc<[KeyPart]>,
    entries: Box<[Entry]>,
    when: Option<Arc<Expression>>,
    cost: Cost,
}

const TIMEOUT: Duration = Duration::from_millis(20);
const PERCENT: u32 = 10;

/// The faults of what goes with a service only, where there is none.
pub(super) fn check_absence(spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) {
    if spec.service.is_some() {
        cx.error("/service", "`service` goes with `scope: Service` only");
    }
    for (i, _) in spec.limits.iter().enumerate().filter(|(_, limit)| !limit.descriptor.is_empty()) {
        cx.error(format!("/limits/{i}/descriptor"), "`descriptor` goes with `scope: Service` only");
    }
}

/// Of each limit, what each proxy lets through by itself.
pub(super) fn percent(spec: &RateLimitPolicySpec) -> u32 {
    spec.service.as_ref().and_then(|service| service.fallback_percent).unwrap_or(PERCENT)
}

pub(super) fn compile(
    spec: &RateLimitPolicySpec,
    sharing: Sharing,
    (when, on_limit): (Option<Arc<Expression>>, OnLimit),
    cx: &mut CompileContext<'_>,
) -> Option<Compiled> {
    refuse_what_cannot_be_asked(spec, cx);
    let Some(written) = &spec.service else {
        cx.error("/scope", "`scope: Service` needs a `service` with `backendRef` and `domain`");
        return None;
    };
    let service = written.compile(cx);
    // Each is looked at before any is needed, so that all faults are told at once.
    let each = || spec.limits.iter().enumerate().map(|(i, limit)| (limit, format!("/limits/{i}")));
    let entries: Vec<_> = each().map(|(limit, at)| entry::compile(limit, &at, cx)).collect();
    let (limits, local) = if written.on_failure() == OnFailure::Local {
        let local = spec.counted_here(sharing, (when.clone(), on_limit.clone()), cx)?;
        let of = |(limit, _): (&LimitSpec, _)| {
            local.limits.iter().find(|counted| *counted.rule.name == *limit.name).map(AskedLimit::of)
        };
        (each().map(of).collect::<Vec<_>>(), Some(local))
    } else {
        spec.quotas(cx)?;
        (each().map(|(limit, at)| AskedLimit::compile(limit, &at, cx)).collect(), None)
    };
    let asked = limits
        .into_iter()
        .zip(entries)
        .map(|(limit, entries)| Some(AskedLimit { entries: entries?, ..limit? }));
    let mut limits = asked.collect::<Option<Vec<_>>>()?;
    limits.sort_by(|a, b| a.rule.name.cmp(&b.rule.name));
    Some(Compiled::Filter(Arc::new(ServiceLimits {
        policy: cx.policy().clone(),
        when,
        service: Arc::new(service?),
        limits: limits.into(),
        told: Told::new(&spec.response_headers),
        on_limit,
        shadow: cx.mode() == Mode::Shadow,
        local: local.map(|local| Box::new(local) as Box<dyn BindFilter>),
    })))
}

/// The service is asked once, before the request; its own limits say how much and for whom.
fn refuse_what_cannot_be_asked(spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) {
    if !spec.concurrent.is_empty() {
        cx.error("/concurrent", "with `scope: Service`, write `concurrent` into a policy of its own");
    }
    for (i, limit) in spec.limits.iter().enumerate() {
        if limit.mode == Some(LimitMode::Shadow) {
            let message = "with `scope: Service`, write limits in Shadow into a policy of their own";
            cx.error(format!("/limits/{i}/mode"), message);
        }
        if limit.response_cost.is_some() {
            let message =
                "`responseCost` goes with `scope: Local` and `scope: Mesh`: the service is asked once";
            cx.error(format!("/limits/{i}/responseCost"), message);
        }
        if !limit.overrides.is_empty() {
            let message = "the service knows what a key has of its own: leave it out";
            cx.error(format!("/limits/{i}/overrides"), message);
        }
    }
}

impl ServiceSpec {
    fn on_failure(&self) -> OnFailure {
        self.on_failure.unwrap_or(OnFailure::Local)
    }

    fn compile(&self, cx: &mut CompileContext<'_>) -> Option<Service> {
        if self.domain.is_empty() {
            cx.error("/service/domain", "a domain has a name");
        }
        if self.fallback_percent.is_some() && self.on_failure() != OnFailure::Local {
            cx.error("/service/fallbackPercent", "it goes with `onFailure: Local` only");
        }
        check::within(cx, "/service/fallbackPercent", self.fallback_percent.unwrap_or(PERCENT), 1..=100);
        if self.ask_in_shadow && cx.mode() != Mode::Shadow {
            cx.error("/service/askInShadow", "it goes with `mode: Shadow` only: who enforces asks anyway");
        }
        let timeout = self
            .timeout
            .map(|timeout| check::duration_within(cx, "/service/timeout", timeout, ("1ms", "1s")));
        Some(Service {
            backend: Arc::new(self.backend_ref.compile("/service/backendRef", cx)?),
            domain: self.domain.as_str().into(),
            timeout: timeout.unwrap_or(TIMEOUT),
            on_failure: self.on_failure(),
            asks: cx.mode() != Mode::Shadow || self.ask_in_shadow,
        })
    }
}

impl AskedLimit {
    /// As it is counted here too. Its entries are still to come, as below.
    fn of(Limit { rule, key, when, cost, .. }: &Limit) -> Self {
        let (rule, key) = (Arc::clone(rule), Arc::clone(key));
        Self { rule, key, entries: Box::default(), when: when.clone(), cost: cost.clone() }
    }

    /// As it is asked for only.
    fn compile(limit: &LimitSpec, at: &str, cx: &mut CompileContext<'_>) -> Option<Self> {
        check::name(cx, &format!("{at}/name"), &limit.name);
        let fields = [
            ("requests", limit.requests.is_some()),
            ("per", limit.per.is_some()),
            ("burst", limit.burst.is_some()),
        ];
        for (field, _) in fields.into_iter().filter(|(_, written)| *written) {
            let message = "the service knows; written here it goes with `onFailure: Local` only";
            cx.error(format!("{at}/{field}"), message);
        }
        if limit.cost.as_ref().is_some_and(|cost| !cost.is_bounded()) {
            cx.error(format!("{at}/cost"), "what a request may ask for has no bound here: write `atMost`");
        }
        let key = limit.parts(at, cx);
        let when = condition(limit.when.as_deref(), &format!("{at}/when"), cx);
        let cost = limit.cost.as_ref().map(|cost| cost.compile(&format!("{at}/cost"), NonZeroU32::MAX, cx));
        let rule = cx.rule(&limit.name, at);
        Some(Self { rule, key: key?, entries: Box::default(), when, cost: cost.unwrap_or(Some(Cost::One))? })
    }
}

impl BindFilter for ServiceLimits {
    fn bind(&self, state: &StateStore) -> Arc<dyn Filter> {
        Arc::new(ServiceFilter {
            policy: Arc::clone(&self.policy),
            when: self.when.clone(),
            service: Arc::clone(&self.service),
            limits: Arc::clone(&self.limits),
            told: self.told,
            on_limit: self.on_limit.clone(),
            shadow: self.shadow,
            local: self.local.as_ref().map(|local| local.bind(state)),
        })
    }

    fn services(&self) -> Vec<(&Arc<ServiceRef>, String)> {
        vec![(&self.service.backend, String::from("/service/backendRef"))]
    }
}
