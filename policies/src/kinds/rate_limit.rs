//! `RateLimitPolicy`: how often. Checks what was written and joins it to its counters; [`filter`] decides.

mod bind;
mod cell;
mod concurrent;
mod connections;
mod cost;
mod delay;
mod descriptor;
mod exact;
mod fields;
mod filter;
mod idle;
mod mesh;
mod on_limit;
mod overrides;
mod quotas;
mod requests_from;
mod response_cost;
mod scope;
mod service;
mod shown;
mod state;
mod table;
mod told;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check;
use super::key::{self, KeyPart, KeySpec};
use crate::decision::RuleRef;
use crate::document::crd::rules;
use crate::expression::{Expression, Kind};
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::{Mode, PolicyRef, TargetKind};
use crate::objects::GepDuration;
use cell::Rate;
use concurrent::{Concurrent, ConcurrentSpec};
use connections::{ConnectionSpec, Connections};
use cost::{Cost, CostSpec};
pub use descriptor::{Descriptor, DescriptorLimiter, Judged, Judgement};
use exact::{ExactSpec, Written};
use filter::BoundLimit;
pub(super) use filter::holds;
use mesh::MeshSpec;
pub use mesh::{Leases, QuotaLimits, Standing};
use on_limit::{OnLimit, OnLimitSpec};
use overrides::{Override, OverrideSpec};
use quotas::{Quota, QuotaSpec};
use requests_from::RequestsFrom;
use response_cost::{ResponseCost, ResponseCostSpec};
use scope::{Scope, Sharing};
use service::{EntrySpec, ServiceSpec};
use told::Told;

#[derive(Debug)]
pub(super) struct RateLimitPolicy;

/// All limits must let a request through; one that refuses it costs the others nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rules::some_list(&["limits", "concurrent", "quotas", "newConnections"]),
    rules::only_with("exact", "scope", &["Exact"]),
    rules::only_with("mesh", "scope", &["Mesh"]),
    rules::only_with("service", "scope", &["Service"]),
    rules::needed_with("service", "scope", &["Service"]),
]))]
pub(super) struct RateLimitPolicySpec {
    /// Serves these limits, under this name, to whoever asks the control plane by Envoy's rate limit protocol. Their keys
    /// are of type Descriptor then, and the policy has no targetRefs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    domain: Option<String>,
    /// The requests that are counted by any of the limits; see `when` of a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    when: Option<String>,
    /// Who shares the budget. Default: Local.
    #[serde(default, skip_serializing_if = "is_local")]
    scope: Scope,
    /// For scope Mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mesh: Option<MeshSpec>,
    /// For scope Exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact: Option<ExactSpec>,
    /// For scope Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<ServiceSpec>,
    /// At least one of these, of `concurrent`, of `quotas` or of `newConnections`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    limits: Vec<LimitSpec>,
    /// How many requests may be under way at one time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    concurrent: Vec<ConcurrentSpec>,
    /// How many requests may be made per hour, day, week or month of the calendar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    quotas: Vec<QuotaSpec>,
    /// How many connections may be opened per time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    new_connections: Vec<ConnectionSpec>,
    /// What whoever is refused is told. Default: 429 and a line of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_limit: Option<OnLimitSpec>,
    /// The fields that tell clients of their limits. Default: RateLimit; `[]` for none.
    #[serde(default = "told::default_fields")]
    #[schemars(length(max = 2))]
    response_headers: Vec<told::FieldSet>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [rules::at_most_one(&["cost", "responseCost"])]))]
struct LimitSpec {
    /// For logs, traces, metrics and the RateLimit response fields; unique in the policy.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// At least 1; at most 1 million per second. Needed, unless a service counts and nobody else ever does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    requests: Option<u32>,
    /// The number for each request, in CEL over `request`, `source` and `destination`: a whole number. Where it fails, or is
    /// no number that `requests` could be, `requests` holds. What clients can write themselves they will: ask for what is
    /// set on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    requests_from: Option<String>,
    /// 1ms to 8760h. Needed with `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per: Option<GepDuration>,
    /// Requests that may come at once after a pause. Default: `requests`. With another number of `requestsFrom`, in the same
    /// proportion to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    burst: Option<u32>,
    /// What is counted apart. Default: nothing, one bucket for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    key: Vec<KeySpec>,
    /// For scope Service, in place of `key`: what the service is asked by. Default: an entry for each part of the key, of its
    /// name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    descriptor: Vec<EntrySpec>,
    /// The requests that are counted, in CEL over `request`, `source`, `destination` and `jwt.claims`. Default: all. A
    /// request for which it fails is not counted; ask by `has(…)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    when: Option<String>,
    /// How much a request spends. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost: Option<CostSpec>,
    /// How much a request spends by its answer, in place of `cost`. It passes if anything is left; what its answer says is
    /// taken whether it is there or not, up to one bucketful of debt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response_cost: Option<ResponseCostSpec>,
    /// Keys with a limit of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000))]
    overrides: Vec<OverrideSpec>,
    /// Shadow: this limit only tells whom it would have refused. Default: the mode of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<LimitMode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum LimitMode {
    Enforce,
    Shadow,
}

impl LimitMode {
    /// Whether what is written so holds nobody back.
    fn is_shadow(own: Option<Self>, cx: &CompileContext<'_>) -> bool {
        cx.mode() == Mode::Shadow || own == Some(Self::Shadow)
    }
}

/// A policy that has passed validation.
#[derive(Debug)]
struct RateLimit {
    policy: Arc<PolicyRef>,
    when: Option<Arc<Expression>>,
    /// Ordered by name, see [`RateLimitFilter`].
    limits: Vec<Limit>,
    concurrent: Vec<Concurrent>,
    /// Those first that take longest to begin anew.
    quotas: Vec<Quota>,
    /// Ordered by name.
    connections: Vec<Connections>,
    policy_field: HeaderValue,
    told: Told,
    sharing: Sharing,
    on_limit: OnLimit,
}

#[derive(Debug)]
struct Limit {
    rule: Arc<RuleRef>,
    rate: Rate,
    written: Written,
    from: Option<RequestsFrom>,
    key: Arc<[KeyPart]>,
    when: Option<Arc<Expression>>,
    cost: Cost,
    response_cost: Option<ResponseCost>,
    overrides: Vec<Override>,
    shadow: bool,
    /// `RateLimit-Policy` member.
    member: String,
}

const MOST_LIMITS: usize = 16;
const MOST_KEY_PARTS: usize = 8;
/// A nanosecond clock counts faster rates with an error above one in a thousand.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(1);
const LONGEST_REFILL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl PolicyKind for RateLimitPolicy {
    const KIND: &'static str = "RateLimitPolicy";
    const ABOUT: &'static str = "Limits how many requests pass per time, for all together or by key.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = RateLimitPolicySpec;

    /// With a domain, the control plane serves it.
    fn stands_alone(spec: &Value) -> bool {
        spec.get("domain").is_some()
    }

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let has_none = spec.limits.is_empty()
            && spec.concurrent.is_empty()
            && spec.quotas.is_empty()
            && spec.new_connections.is_empty();
        if spec.limits.len() > MOST_LIMITS || has_none {
            cx.error("/limits", format!("{} limits: write 1 to {MOST_LIMITS}", spec.limits.len()));
        }
        check::unique(cx, "/limits", spec.limits.iter().map(|limit| Some(limit.name.as_str())));
        descriptor::check(&spec, cx);
        requests_from::check(&spec, cx);
        let when = condition(spec.when.as_deref(), "/when", cx);
        let sharing = Sharing::compile(&spec, cx);
        let on_limit = spec.on_limit.as_ref().map(|on_limit| on_limit.compile(&spec, cx)).unwrap_or_default();
        if spec.scope == Scope::Service {
            return service::compile(&spec, sharing, (when, on_limit), cx);
        }
        Some(Compiled::Filter(Arc::new(spec.counted_here(sharing, (when, on_limit), cx)?)))
    }
}

impl RateLimitPolicySpec {
    /// What is counted by this proxy, or for it.
    fn counted_here(
        &self,
        sharing: Sharing,
        (when, on_limit): (Option<Arc<Expression>>, OnLimit),
        cx: &mut CompileContext<'_>,
    ) -> Option<RateLimit> {
        let (concurrent, quotas) = (self.concurrent(cx), self.quotas(cx));
        let connections = self.connections(cx);
        let compiled =
            self.limits.iter().enumerate().map(|(i, limit)| limit.compile(&format!("/limits/{i}"), cx));
        let mut limits: Vec<Limit> = compiled.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
        limits.sort_by(|a, b| a.rule.name.cmp(&b.rule.name));
        // Nobody is told of a limit that holds nobody back.
        let told = limits.iter().filter(|limit| !limit.shadow);
        let members: Vec<&str> = told.map(|limit| limit.member.as_str()).collect();
        let policy_field = HeaderValue::try_from(members.join(", ")).ok()?;
        Some(RateLimit {
            policy: cx.policy().clone(),
            when,
            limits,
            concurrent: concurrent?,
            quotas: quotas?,
            connections: connections?,
            policy_field,
            told: Told::new(&self.response_headers),
            sharing,
            on_limit,
        })
    }

    fn concurrent(&self, cx: &mut CompileContext<'_>) -> Option<Vec<Concurrent>> {
        let count = self.concurrent.len();
        if count > MOST_LIMITS {
            cx.error("/concurrent", format!("{count} of them: write at most {MOST_LIMITS}"));
        }
        check::unique(cx, "/concurrent", self.concurrent.iter().map(|one| Some(one.name())));
        for (i, one) in self.concurrent.iter().enumerate() {
            if self.limits.iter().any(|limit| limit.name == one.name()) {
                cx.error(format!("/concurrent/{i}/name"), "a limit of this policy has the same name");
            }
        }
        let each = self.concurrent.iter().enumerate();
        let compiled: Vec<_> = each.map(|(i, one)| one.compile(&format!("/concurrent/{i}"), cx)).collect();
        compiled.into_iter().collect()
    }
}

impl LimitSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Limit> {
        check::name(cx, &format!("{at}/name"), &self.name);
        let per = self.needed("per", self.per, at, cx);
        let per =
            per.map(|per| (per, check::duration_within(cx, &format!("{at}/per"), per, ("1ms", "8760h"))));
        let requests = self.needed("requests", self.requests, at, cx);
        let requests =
            requests.and_then(|requests| check::at_least_one(requests, &format!("{at}/requests"), cx));
        let burst = match self.burst {
            Some(burst) => check::at_least_one(burst, &format!("{at}/burst"), cx),
            None => requests,
        };
        // Each is looked at before any is needed, so that all faults are told at once.
        let key = self.parts(at, cx);
        let when = condition(self.when.as_deref(), &format!("{at}/when"), cx);
        let overrides = self.overrides(at, cx);
        // What is wrong in them whatever the limit holds is told even if that is not known.
        let holds = burst.filter(|_| self.requests_from.is_none()).unwrap_or(NonZeroU32::MAX);
        let cost = self.cost.as_ref().map(|cost| cost.compile(&format!("{at}/cost"), holds, cx));
        let response_cost = self.response_cost(at, cx);
        let written = requests.zip(burst).zip(per);
        let written = written.map(|((requests, burst), (_, per))| Written { requests, per, burst });
        let from = self.requests_from(at, written, cx);
        let (Written { requests, burst, .. }, (as_written, per)) = (written?, per?);
        let rate = written_rate(at, "requests", (requests, (as_written, per), burst), cx)?;
        let from = from?;
        let unit = from.as_ref().and_then(|from| from.unit());
        Some(Limit {
            rule: cx.rule(&self.name, at),
            rate: unit.unwrap_or(rate),
            written: Written { requests, per, burst },
            from,
            key: key?,
            when,
            cost: cost.unwrap_or(Some(Cost::One))?,
            response_cost: response_cost?,
            overrides,
            shadow: LimitMode::is_shadow(self.mode, cx),
            member: fields::policy_member(&self.name, requests, per),
        })
    }

    /// What only a limit that nobody but a service counts may leave out.
    fn needed<T>(&self, field: &str, written: Option<T>, at: &str, cx: &mut CompileContext<'_>) -> Option<T> {
        if written.is_none() {
            cx.error(format!("{at}/{field}"), format!("`{field}` is missing: the limit is counted here"));
        }
        written
    }

    /// What is counted apart.
    fn parts(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Arc<[KeyPart]>> {
        match self.descriptor.is_empty() {
            true => key_parts(&self.key, KeySpec::compile, &format!("{at}/key"), cx),
            false => service::parts(&self.descriptor, at, cx),
        }
    }

    fn overrides(&self, at: &str, cx: &mut CompileContext<'_>) -> Vec<Override> {
        let count = self.overrides.len();
        if count > overrides::MOST {
            cx.error(
                format!("{at}/overrides"),
                format!("{count} overrides: write at most {}", overrides::MOST),
            );
        }
        let each = self.overrides.iter().enumerate();
        each.filter_map(|(i, own)| own.compile(&format!("{at}/overrides/{i}"), self, cx)).collect()
    }

    /// `None` if it is wrong.
    #[expect(clippy::option_option, reason = "wrong, or not written")]
    fn response_cost(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Option<ResponseCost>> {
        let Some(spec) = &self.response_cost else { return Some(None) };
        if self.cost.is_some() {
            cx.error(format!("{at}/responseCost"), "write `cost` or `responseCost`");
        }
        spec.compile(&format!("{at}/responseCost"), cx).map(Some)
    }
}

/// What is counted apart; `at` is the pointer of the list.
pub(super) fn key_parts(
    key: &[KeySpec],
    compile: fn(&KeySpec, &str, &mut CompileContext<'_>) -> Option<KeyPart>,
    at: &str,
    cx: &mut CompileContext<'_>,
) -> Option<Arc<[KeyPart]>> {
    if key.len() > MOST_KEY_PARTS {
        cx.error(at, format!("{} parts: write at most {MOST_KEY_PARTS}", key.len()));
    }
    let parts = key.iter().enumerate().map(|(i, part)| compile(part, &format!("{at}/{i}"), cx));
    let parts: Vec<KeyPart> = parts.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
    for (i, part) in parts.iter().enumerate() {
        if parts[..i].contains(part) {
            cx.error(format!("{at}/{i}"), "the same part is written twice");
        }
    }
    Some(parts.into())
}

fn is_local(scope: &Scope) -> bool {
    *scope == Scope::Local
}

/// Which requests a rule is for.
pub(super) fn condition(
    text: Option<&str>,
    at: &str,
    cx: &mut CompileContext<'_>,
) -> Option<Arc<Expression>> {
    check::expression(cx, at, text?, Kind::Bool)
}

fn written_rate(
    at: &str,
    what: &str,
    (requests, (written, per), burst): (NonZeroU32, (GepDuration, Duration), NonZeroU32),
    cx: &mut CompileContext<'_>,
) -> Option<Rate> {
    if per < SHORTEST_INTERVAL * requests.get() {
        let message = format!("{requests} per {written}: more than 1 million per second cannot be counted");
        cx.error(format!("{at}/{what}"), message);
        return None;
    }
    let rate = Rate::new(requests, per, burst).filter(|rate| rate.refill() <= LONGEST_REFILL);
    if rate.is_none() {
        let field = if burst == requests { what } else { "burst" };
        cx.error(format!("{at}/{field}"), format!("{burst} would take more than 10 years to refill"));
    }
    rate
}

#[cfg(test)]
mod tests;
