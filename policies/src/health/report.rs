//! What is known of a backend's health, in words: what the admin page shows and `tidegate status backends` reads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::caps::BoundCap;
use super::guard::GuardedEndpoint;
use super::{BreakerScope, BreakerStatus, Cap, CapScope, CircuitGuard};
use crate::model::{BackendName, Mode};
use crate::time::Timestamp;

/// One `CircuitBreakerPolicy` at work on one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuardReport {
    /// `namespace/name`.
    pub policy: String,
    /// `file:line`, or `namespace/name@generation`.
    pub source: String,
    pub mode: Mode,
    pub backend: String,
    /// How many endpoints are ejected, and of how many that take calls.
    pub ejected: u32,
    pub endpoints: u32,
    /// So few are left that all are called.
    pub panic: bool,
    pub caps: Vec<CapReport>,
    pub breakers: Vec<BreakerReport>,
}

/// One cap, and how much of it is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapReport {
    pub cap: Cap,
    pub scope: CapScope,
    /// The endpoint or the route rule whose it is; of keys, how many have taken any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub of: Option<String>,
    pub used: u32,
    pub limit: Option<u32>,
    /// Where the limit is written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
}

/// One breaker, as of the last call that it judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BreakerReport {
    pub rule: String,
    pub source: String,
    pub scope: BreakerScope,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<String>,
    /// `closed`, `open`, `half_open` or `ramping`.
    pub state: String,
    /// In this state since so many seconds.
    pub for_seconds: f64,
    /// Open: until it probes. Ramping: until all calls are let through.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub left_seconds: Option<f64>,
    pub failures: u32,
    pub calls: u32,
    /// Why it is not closed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub evidence: Option<String>,
    /// Why it should not be closed, although too many others are ejected for that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub spared: Option<String>,
    /// Since it tripped.
    pub failed_probes: u32,
}

const ALL: [Cap; 4] = [Cap::Connections, Cap::Pending, Cap::Requests, Cap::Retries];

impl GuardReport {
    pub(crate) fn of(guard: &CircuitGuard, backend: &BackendName, now: Timestamp) -> Self {
        let (ejected, endpoints) = guard.ejected();
        let caps = [Cap::Connections, Cap::Pending, Cap::Requests];
        let shown = ALL.into_iter().filter(|cap| caps.contains(cap) || guard.caps().limit(*cap).is_some());
        let mut caps: Vec<_> = shown.map(|cap| CapReport::of(guard.caps(), cap, None)).collect();
        for endpoint in guard.endpoints() {
            caps.extend(of_endpoint(endpoint));
        }
        caps.extend(of_keys(guard));
        caps.extend(Self::of_rule(guard));
        Self {
            policy: guard.circuit.policy.name.to_string(),
            source: guard.circuit.policy.source.to_string(),
            mode: guard.circuit.mode,
            backend: backend.to_string(),
            ejected,
            endpoints,
            panic: guard.panic().is_some(),
            caps,
            breakers: guard.status().map(|status| BreakerReport::of(&status, now)).collect(),
        }
    }

    /// The caps that are the guard's rule's alone.
    pub(crate) fn of_rule(guard: &CircuitGuard) -> impl Iterator<Item = CapReport> + '_ {
        let limited =
            guard.rule_caps().into_iter().flat_map(|bound| limited(bound).map(move |cap| (bound, cap)));
        limited.map(|(bound, cap)| CapReport::of(bound, cap, Some(&guard.rule)))
    }
}

fn limited(bound: &BoundCap) -> impl Iterator<Item = Cap> + '_ {
    ALL.into_iter().filter(|cap| bound.limit(*cap).is_some())
}

/// Of all keys, the one that has taken most: what tells them apart is not kept.
fn of_keys(guard: &CircuitGuard) -> impl Iterator<Item = CapReport> + '_ {
    let keyed = guard.key_caps().into_iter();
    keyed.flat_map(|keyed| {
        ALL.into_iter().filter_map(|cap| {
            let (fullest, keys) = keyed.fullest(cap);
            let of = format!("the fullest of {keys} keys");
            fullest.limit(cap).map(|_| CapReport::of(&fullest, cap, Some(&of)))
        })
    })
}

fn of_endpoint(endpoint: &GuardedEndpoint) -> impl Iterator<Item = CapReport> + '_ {
    let bound = endpoint.caps.iter().flat_map(|bound| limited(bound).map(move |cap| (bound, cap)));
    bound.map(|(bound, cap)| CapReport::of(bound, cap, Some(endpoint.label())))
}

impl CapReport {
    fn of(bound: &BoundCap, cap: Cap, of: Option<&str>) -> Self {
        let usage = bound.usage(cap);
        let rule = bound.rule().filter(|_| usage.limit.is_some());
        Self {
            cap,
            scope: bound.rule().map_or(CapScope::Backend, |rule| rule.scope),
            of: of.map(str::to_owned),
            used: usage.used,
            limit: usage.limit,
            source: rule.map(|rule| rule.rule.source.to_string()),
        }
    }
}

impl BreakerReport {
    fn of(status: &BreakerStatus, now: Timestamp) -> Self {
        // Tenths: what is more exact is old before it is read.
        let seconds = |time: Duration| (time.as_secs_f64() * 10.0).round() / 10.0;
        Self {
            rule: status.rule.name.to_string(),
            source: status.rule.source.to_string(),
            scope: status.scope,
            endpoint: status.endpoint.as_deref().map(str::to_owned),
            state: status.phase.as_str().to_owned(),
            for_seconds: seconds(now.since(status.since)),
            left_seconds: status.until.map(|until| seconds(until.since(now))),
            failures: status.failures,
            calls: status.calls,
            evidence: status.evidence.map(|evidence| evidence.to_string()),
            spared: status.spared.map(|spared| spared.to_string()),
            failed_probes: status.failed_probes,
        }
    }

    /// Why it is as it is, in one line; nothing of a breaker that has nothing to say.
    pub fn why(&self) -> String {
        let spared = self.spared.as_ref().map(|why| format!("kept in use, though {why}"));
        let probes = match self.failed_probes {
            0 => String::new(),
            1 => String::from("; a probe failed since"),
            many => format!("; {many} probes failed since"),
        };
        self.evidence.as_ref().map(|why| format!("{why}{probes}")).or(spared).unwrap_or_default()
    }
}
