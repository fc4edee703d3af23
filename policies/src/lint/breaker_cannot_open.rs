//! A breaker with a reason to open that never comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::subject::Subject;
use super::{Findings, Lint};
use crate::health::{BreakerRule, BreakerScope, CircuitBreaker};
use crate::model::{Address, PolicyKey};
use crate::snapshot::Target;

pub(super) const LINT: Lint = Lint {
    name: "breaker-cannot-open",
    about: "a reason to open a breaker that never comes about",
    explanation: "\
`slowCallRate` counts calls that take longer than `slowerThan`. Where every call is given up sooner, by the timeout of the
request or of one attempt, none is ever that slow.

    kind: TimeoutPolicy
    spec: {request: 1s}
    ---
    kind: CircuitBreakerPolicy
    spec:
      breakers:
      - {scope: Backend, slowCallRate: {percent: 50, slowerThan: 3s, minimumCalls: 10, window: 10s}}

`successRate` and `latency` compare endpoints with each other, and only where there are `minimumEndpoints` of them
(3, where nothing is written). A backend with fewer has nobody to compare with. This is told only where all endpoints are
written as addresses among the documents.

A breaker with scope Endpoint ejects its endpoint. The last one that is left is kept in use, and so is the only one of a
backend, unless `ejection` says `lastEndpoint: Eject`.

Let `slowerThan` be shorter than the timeouts; compare fewer endpoints, or use `failureRate`.",
    look,
};

/// What is known of the places where a policy's breakers hold.
#[derive(Default)]
struct Places {
    circuit: Option<Arc<CircuitBreaker>>,
    /// The longest that any call may take; `None` once there is one without an end.
    longest: Option<Duration>,
    endless: bool,
    /// Of the backend with the most.
    endpoints: usize,
    /// Some backend's endpoints are found later.
    unknown: bool,
}

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    let mut places = BTreeMap::<PolicyKey, Places>::new();
    for target in subject.rules().into_iter().flat_map(|rule| rule.targets.iter()) {
        let Some(guard) = &target.guard else { continue };
        let policy = &guard.circuit.policy;
        let key = PolicyKey { kind: policy.kind.clone(), name: policy.name.clone() };
        places.entry(key).or_default().add(&guard.circuit, target);
    }
    let all_seen = !subject.has_consumer_routes();
    for place in places.values() {
        let Some(circuit) = &place.circuit else { continue };
        for (index, breaker) in circuit.breakers.iter().enumerate() {
            if all_seen {
                slow(subject, (circuit, index, breaker), place, findings);
            }
            few(subject, (circuit, index, breaker), place, findings);
            spared(subject, (circuit, index, breaker), place, findings);
        }
    }
}

impl Places {
    fn add(&mut self, circuit: &Arc<CircuitBreaker>, target: &Target) {
        self.circuit.get_or_insert_with(|| Arc::clone(circuit));
        let times = &target.plan.times;
        let ends = [&times.per_try, &times.request].into_iter().flatten().map(|limit| limit.after).min();
        match ends {
            Some(after) => self.longest = self.longest.max(Some(after)),
            None => self.endless = true,
        }
        let Ok(backend) = &target.backend else { return };
        self.endpoints = self.endpoints.max(backend.endpoints.len());
        self.unknown |= backend.endpoints.is_empty()
            || backend.endpoints.iter().any(|endpoint| matches!(endpoint.address, Address::Name { .. }));
    }
}

/// Slower than any call can be, and by more than a timeout may come late.
fn slow(
    subject: &Subject<'_>,
    (circuit, index, breaker): (&CircuitBreaker, usize, &BreakerRule),
    place: &Places,
    findings: &mut Findings,
) {
    let (Some(slow), Some(longest)) = (&breaker.params.slow_calls, place.longest) else { return };
    if place.endless || slow.slower_than <= longest + longest / 10 {
        return;
    }
    let Some(policy) = subject.policy(&circuit.policy) else { return };
    let message = format!(
        "`slowCallRate` never trips: no call takes longer than {longest:?}, and only what is slower than {:?} counts",
        slow.slower_than
    );
    findings
        .tell_policy(policy, &format!("/breakers/{index}/slowCallRate/slowerThan"), message)
        .help(format!("let it be shorter than {longest:?}"));
}

/// Nothing may be ejected.
fn spared(
    subject: &Subject<'_>,
    (circuit, index, breaker): (&CircuitBreaker, usize, &BreakerRule),
    place: &Places,
    findings: &mut Findings,
) {
    let all = u32::try_from(place.endpoints).unwrap_or(u32::MAX);
    if breaker.scope != BreakerScope::Endpoint || place.unknown || circuit.ejection.most(all) > 0 {
        return;
    }
    let Some(policy) = subject.policy(&circuit.policy) else { return };
    let message = format!("this breaker never opens: of {all} endpoints none may be ejected");
    findings
        .tell_policy(policy, &format!("/breakers/{index}/scope"), message)
        .help("use scope Backend, or write `ejection: {lastEndpoint: Eject}`");
}

/// Nobody to compare with.
fn few(
    subject: &Subject<'_>,
    (circuit, index, breaker): (&CircuitBreaker, usize, &BreakerRule),
    place: &Places,
    findings: &mut Findings,
) {
    let params = &breaker.params;
    let compared = [
        ("successRate", params.success_rate.map(|rate| rate.among)),
        ("latency", params.latency.map(|latency| latency.among)),
    ];
    for (field, among) in compared {
        let Some(wanted) = among.map(|among| among.minimum_endpoints) else { continue };
        if place.unknown || place.endpoints >= wanted as usize {
            continue;
        }
        let Some(policy) = subject.policy(&circuit.policy) else { return };
        let has = place.endpoints;
        let message = format!(
            "`{field}` never trips: it compares {wanted} endpoints or more, and there are {has} at most"
        );
        findings
            .tell_policy(policy, &format!("/breakers/{index}/{field}"), message)
            .help("write a smaller `minimumEndpoints`, or use `failureRate` or `consecutiveFailures`");
    }
}
