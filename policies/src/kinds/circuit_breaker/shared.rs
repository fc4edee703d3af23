//! `shared`: what is known of an endpoint by other proxies too.

use std::collections::HashMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_outliers::Rules;

use super::{CircuitBreakerPolicy, CircuitBreakerPolicySpec, check};
use crate::kind::{CompileContext, PolicyKind};
use crate::model::{Mode, Policy};
use crate::objects::GepDuration;

/// Proxies tell the control plane which endpoints fail for them. What fails for a quorum is suspect for all: no calls go
/// there but one from each proxy now and then, and a proxy for which that one went well no longer heeds the others. A proxy
/// that starts is told at once. Without a control plane, each proxy goes by what it sees itself.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SharedSpec {
    /// Proxies that must have seen it fail. Default: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 1000))]
    quorum: Option<u32>,
    /// Failures in a row that are needed, of all proxies together; each proxy's count for its part of the quorum at most.
    /// Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    failures: Option<u32>,
    /// Of a hundred proxies that have called it since it began to fail, so many must say that it fails. Default: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    percent: Option<u32>,
    /// How long those for whom it goes well are given to say so; less than a tenth of a second leaves
    /// them no time. Default: 100ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settle: Option<GepDuration>,
    /// After so long without a word of failure the endpoint is no longer suspect. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<GepDuration>,
}

const MOST_FAILURES: u32 = 1_000_000;

impl SharedSpec {
    pub(super) fn compile(&self, cx: &mut CompileContext<'_>) -> Rules {
        let quorum = self.quorum.unwrap_or(3);
        check::within(cx, "/shared/quorum", quorum, 2..=1000);
        let failures = self.failures.unwrap_or(5);
        check::within(cx, "/shared/failures", failures, 1..=MOST_FAILURES);
        let percent = self.percent.unwrap_or(60);
        check::within(cx, "/shared/percent", percent, 1..=100);
        let mut duration = |field: &str, written: Option<GepDuration>, default, range| match written {
            Some(written) => check::duration_within(cx, &format!("/shared/{field}"), written, range),
            None => default,
        };
        let settle = duration("settle", self.settle, Duration::from_millis(100), ("0s", "10s"));
        let hold = duration("hold", self.hold, Duration::from_secs(30), ("1s", "1h"));
        // What does not fit has just been refused.
        let percent = u8::try_from(percent).unwrap_or(100);
        Rules { quorum, failures, percent, settle, hold }
    }
}

/// The policies that share what proxies see, for the control plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedRules(HashMap<String, Rules>);

impl SharedRules {
    /// What has faults is left out, and so is what is only tried: it has nothing to say to anybody.
    pub fn new<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let ours = policies.into_iter().filter(|policy| &*policy.kind == CircuitBreakerPolicy::KIND);
        let rules = ours.filter(|policy| policy.mode == Mode::Enforce).filter_map(|policy| {
            let spec = <CircuitBreakerPolicySpec as Deserialize>::deserialize(&policy.spec).ok()?;
            let rules = spec.shared?.compile(&mut CompileContext::new(policy));
            Some((format!("{}/{}", policy.kind, policy.meta.name), rules))
        });
        Self(rules.collect())
    }

    /// The rules of a guard by its id, `KIND/NAMESPACE/NAME|BACKEND`.
    pub fn of_guard(&self, id: &str) -> Option<Rules> {
        let (policy, _backend) = id.split_once('|')?;
        self.0.get(policy).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
