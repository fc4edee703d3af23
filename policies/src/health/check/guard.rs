//! The checks of one backend at work: their state found in the store, and what calls, the shell and status ask of it.

use std::sync::Arc;

use super::state::{CheckCounts, CheckState, Usage};
use super::{CheckRule, CheckView, Finding, HealthCheck, Standing, Turn};
use crate::balance::EndpointState;
use crate::decision::RuleRef;
use crate::health::Turns;
use crate::snapshot::{BackendState, Origination};
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;

/// One [`HealthCheck`] at work on one backend.
#[derive(Debug)]
pub struct HealthGuard {
    pub health: Arc<HealthCheck>,
    pub backend: Arc<BackendState>,
    /// How calls are made, and so checks; where listeners show clients different certificates, as the first does.
    pub tls: Option<Origination>,
    /// Checked whether or not it is called: a gateway knows what it leads to, and gateways are few.
    always: bool,
    usage: Arc<Usage>,
    counts: Arc<CheckCounts>,
    turns: Arc<Turns>,
    endpoints: Box<[CheckedEndpoint]>,
}

/// An endpoint with the states of all checks, in their order.
#[derive(Debug)]
struct CheckedEndpoint {
    endpoint: Arc<EndpointState>,
    checks: Box<[Arc<CheckState>]>,
}

/// One check of one endpoint, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckPlace {
    endpoint: usize,
    check: usize,
}

/// The verdict of a check turned: for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    pub rule: Arc<RuleRef>,
    /// The endpoint's label.
    pub endpoint: Arc<str>,
    /// What this check says.
    pub turn: Turn,
    /// What all checks say together.
    pub healthy: bool,
}

/// One check of one endpoint, for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckStatus {
    pub rule: Arc<RuleRef>,
    pub endpoint: Arc<str>,
    pub view: CheckView,
}

impl HealthGuard {
    /// Joins `health` to its state for one backend. What is known of an endpoint is found again as long as the policy, the
    /// name of the check and the backend are the same.
    pub fn bind(
        health: &Arc<HealthCheck>,
        backend: &Arc<BackendState>,
        tls: Option<&Origination>,
        always: bool,
        state: &StateStore,
    ) -> Arc<Self> {
        let owner: Arc<str> =
            format!("{}/{}|{}", health.policy.kind, health.policy.name, backend.name).into();
        let key = |part: String| StateKey::new(owner.clone(), part);
        let state_of = |check: &CheckRule, endpoint: &EndpointState| {
            let part = format!("check|{}|{}", check.rule.name, endpoint.label);
            state.get_or_insert(key(part), || CheckState::new(health.initial))
        };
        let checked = |endpoint: &Arc<EndpointState>| CheckedEndpoint {
            endpoint: endpoint.clone(),
            checks: health.checks.iter().map(|check| state_of(check, endpoint)).collect(),
        };
        let endpoints = backend.endpoints.iter().map(checked).collect();
        Arc::new(Self {
            endpoints,
            usage: state.get_or_insert(key("usage".into()), Usage::default),
            counts: state.get_or_insert(key("counts".into()), CheckCounts::default),
            turns: state.get_or_insert(key("turns".into()), Turns::default),
            health: health.clone(),
            backend: backend.clone(),
            tls: tls.cloned(),
            always,
        })
    }

    /// Whether the backend's endpoint number `index` may be called.
    pub(crate) fn admits(&self, index: usize, endpoint: &Arc<EndpointState>) -> bool {
        let is_it = |checked: &&CheckedEndpoint| Arc::ptr_eq(&checked.endpoint, endpoint);
        let found = self.endpoints.get(index).filter(is_it);
        found.or_else(|| self.endpoints.iter().find(is_it)).is_none_or(CheckedEndpoint::is_healthy)
    }

    /// By the checks alone.
    pub fn standing(&self) -> Standing {
        self.standing_beside(|_, _| false)
    }

    /// The same, where those that breakers have `ejected` are not available either.
    pub(crate) fn standing_beside(&self, ejected: impl Fn(usize, &Arc<EndpointState>) -> bool) -> Standing {
        let mut standing = Standing::default();
        let taking = self.endpoints.iter().enumerate().filter(|(_, checked)| checked.endpoint.weight() > 0);
        for (index, checked) in taking {
            let healthy = checked.is_healthy();
            standing.all += 1;
            standing.healthy += u32::from(healthy);
            standing.available += u32::from(healthy && !ejected(index, &checked.endpoint));
            standing.waiting += u32::from(!healthy && checked.waits());
        }
        standing
    }

    /// How often an endpoint was judged anew.
    pub(in crate::health) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// The check that keeps the first unhealthy endpoint from being called.
    pub(crate) fn failing(&self) -> Option<&Arc<RuleRef>> {
        let failing = |checked: &CheckedEndpoint| {
            let mut checks = self.health.checks.iter().zip(&checked.checks);
            checks.find(|(_, state)| !state.is_healthy()).map(|(check, _)| &check.rule)
        };
        self.endpoints.iter().find_map(failing)
    }

    /// A call was asked for.
    pub(crate) fn note_call(&self, now: Timestamp) {
        if !self.always {
            self.usage.note(now);
        }
    }

    /// Whether checks are to be made now. Those that are no longer made leave nothing behind: what was known of the
    /// endpoints grows stale.
    pub fn is_watched(&self, now: Timestamp) -> bool {
        if self.always {
            return true;
        }
        let awake = self.usage.is_recent(self.health.idle_after, now);
        if self.usage.falls_asleep(awake) {
            let states = self.endpoints.iter().flat_map(|checked| &checked.checks);
            if states.fold(false, |any, state| any | state.forget(self.health.initial)) {
                self.turns.note();
            }
        }
        awake
    }

    /// Every check of every endpoint.
    pub fn places(&self) -> impl Iterator<Item = CheckPlace> + use<> {
        let (endpoints, checks) = (self.endpoints.len(), self.health.checks.len());
        (0..endpoints).flat_map(move |endpoint| (0..checks).map(move |check| CheckPlace { endpoint, check }))
    }

    /// What is asked there, and whom.
    pub fn at(&self, place: CheckPlace) -> (&CheckRule, &Arc<EndpointState>) {
        (&self.health.checks[place.check], &self.endpoints[place.endpoint].endpoint)
    }

    /// When the check is due next.
    pub fn due(&self, place: CheckPlace, now: Timestamp, rng: &mut fastrand::Rng) -> Timestamp {
        self.state(place).due(&self.at(place).0.timing, now, rng)
    }

    /// Begins the check, if it is due.
    pub fn begin(&self, place: CheckPlace, now: Timestamp, rng: &mut fastrand::Rng) -> bool {
        self.state(place).begin(&self.at(place).0.timing, now, rng)
    }

    /// What the check found.
    pub fn report(
        &self,
        place: CheckPlace,
        finding: Finding,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Option<HealthChange> {
        self.counts.count(finding);
        let (check, endpoint) = self.at(place);
        let (turn, changed) = self.state(place).report(&check.timing, finding, now, rng);
        if changed {
            self.turns.note();
        }
        let turn = turn?;
        let (rule, endpoint) = (check.rule.clone(), endpoint.label.clone());
        let healthy = self.endpoints[place.endpoint].is_healthy();
        Some(HealthChange { rule, endpoint, turn, healthy })
    }

    /// Whether each endpoint is healthy, by its label.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Arc<str>, bool)> {
        self.endpoints.iter().map(|checked| (&checked.endpoint.label, checked.is_healthy()))
    }

    pub fn status(&self) -> impl Iterator<Item = CheckStatus> + '_ {
        self.places().map(|place| {
            let (check, endpoint) = self.at(place);
            let (rule, endpoint) = (check.rule.clone(), endpoint.label.clone());
            CheckStatus { rule, endpoint, view: self.state(place).view() }
        })
    }

    /// How checks have ended, by word, since the backend was first checked.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.told()
    }

    fn state(&self, place: CheckPlace) -> &CheckState {
        &self.endpoints[place.endpoint].checks[place.check]
    }
}

impl CheckedEndpoint {
    fn is_healthy(&self) -> bool {
        self.checks.iter().all(|state| state.is_healthy())
    }

    /// Whether it is unhealthy only because it has not been checked.
    fn waits(&self) -> bool {
        self.checks.iter().all(|state| state.is_healthy() || !state.is_judged())
    }
}

#[cfg(test)]
mod tests;
