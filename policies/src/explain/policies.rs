//! Which policies hold on the way, through which attachment, what each says, and which are overridden by what.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Question, Side};
use crate::attach::{Chain, Place};
use crate::decision::{Decision, Said};
use crate::kind::Compiled;
use crate::kinds::find;
use crate::model::{BackendName, Mode, Policy, PolicyRef, Resources, Route, RouteRule};
use crate::pipeline::Phase;
use crate::snapshot::{Contest, Rule, Selected};
use crate::state::StateStore;
use crate::story::World;

/// A policy that holds.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicySaid {
    pub kind: String,
    /// `namespace/name`.
    pub policy: String,
    pub source: String,
    pub mode: Mode,
    /// When it has its word: a phase of the filters, `pick` or `call`.
    pub phase: &'static str,
    /// The targets on the way to which it is attached; empty where the route names it itself.
    pub attached: Vec<String>,
    /// What it has said of this request.
    pub said: Vec<Said>,
}

/// A policy that another one takes the place of.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overridden {
    pub kind: String,
    pub policy: String,
    pub source: String,
    pub attached: Vec<String>,
    /// Which do hold, of its kind; empty where it has no effect at this proxy.
    pub by: Vec<String>,
}

/// Those that hold in the order of their words, and those that do not.
pub(super) fn of(
    world: &World,
    question: &Question,
    contest: &Contest<'_>,
    selected: &Selected,
    decisions: &[Decision],
) -> (Vec<PolicySaid>, Vec<Overridden>) {
    let resources = &world.resolved.resources;
    let applied = selected.rule.applied.get(selected.position()).map_or(&[][..], |applied| applied);
    let chains = chains(resources, question, contest, selected);
    let mut attached = BTreeMap::<(&str, String), (&Policy, Vec<String>)>::new();
    for target in chains.iter().flat_map(Chain::targets) {
        for policy in resources.policies.values().filter(|policy| policy.targets.contains(target)) {
            let key = (&*policy.kind, policy.meta.name.to_string());
            let (_, targets) = attached.entry(key).or_insert_with(|| (policy, Vec::new()));
            let words = target.to_string();
            if !targets.contains(&words) {
                targets.push(words);
            }
        }
    }
    let holds = |policy: &Policy| applied.iter().any(|one| **one == policy.reference());
    let mut said: Vec<_> = Vec::new();
    for reference in applied {
        let key = (&*reference.kind, reference.name.to_string());
        let targets = attached.get(&key).map(|(_, targets)| targets.clone()).unwrap_or_default();
        let written = resources.policies.get(&(reference.kind.to_string(), reference.name.clone()));
        if !said.iter().any(|(_, one): &(_, PolicySaid)| one.is(reference)) {
            said.push(PolicySaid::of(reference, written, targets, decisions));
        }
    }
    said.sort_by_key(|(rank, _)| *rank);
    let overridden = attached.values().filter(|(policy, _)| !holds(policy)).map(|(policy, targets)| {
        let by = said.iter().filter(|(_, one)| *one.kind == *policy.kind).map(|(_, one)| one.policy.clone());
        Overridden {
            kind: policy.kind.to_string(),
            policy: policy.meta.name.to_string(),
            source: policy.meta.source.to_string(),
            attached: targets.clone(),
            by: by.collect(),
        }
    });
    let overridden = overridden.collect();
    (said.into_iter().map(|(_, one)| one).collect(), overridden)
}

impl PolicySaid {
    fn of(
        reference: &PolicyRef,
        written: Option<&Policy>,
        attached: Vec<String>,
        decisions: &[Decision],
    ) -> (usize, Self) {
        let (rank, phase) = written.map_or((usize::MAX, "call"), phase);
        let its = decisions.iter().filter(|decision| *decision.policy == *reference);
        let said = Self {
            kind: reference.kind.to_string(),
            policy: reference.name.to_string(),
            source: reference.source.to_string(),
            mode: written.map(|policy| policy.mode).unwrap_or_default(),
            phase,
            attached,
            said: its.map(Said::from).collect(),
        };
        (rank, said)
    }

    fn is(&self, reference: &PolicyRef) -> bool {
        *self.kind == *reference.kind && self.policy == reference.name.to_string()
    }
}

/// Whether a policy has its word as a filter, before anything is called.
pub(crate) fn is_filter(policy: &Policy) -> bool {
    (1..20).contains(&phase(policy).0)
}

/// When a policy has its word, and the place of that in the order.
fn phase(policy: &Policy) -> (usize, &'static str) {
    let compiled = find(&policy.kind).and_then(|entry| entry.compile(policy).ok());
    match compiled {
        Some(Compiled::Cohort(_)) => (0, "pick"),
        Some(Compiled::MeshTls(_)) => (1, "connection"),
        Some(Compiled::Authorization(_)) => of_phase(Phase::Authorize),
        // State of its own: to ask changes nothing.
        Some(Compiled::Filter(filter)) => of_phase(filter.bind(&StateStore::new([0, 0])).phase()),
        _ => (20, "call"),
    }
}

fn of_phase(phase: Phase) -> (usize, &'static str) {
    match phase {
        Phase::Cors => (2, "cors"),
        Phase::Authenticate => (3, "authenticate"),
        Phase::Authorize => (4, "authorize"),
        Phase::RateLimit => (5, "rateLimit"),
        Phase::Overload => (6, "overload"),
        Phase::Fault => (7, "fault"),
        Phase::Plugin => (8, "plugin"),
        Phase::Transform => (9, "transform"),
    }
}

/// Everything that a policy could be attached to on the way.
fn chains(
    resources: &Resources,
    question: &Question,
    contest: &Contest<'_>,
    selected: &Selected,
) -> Vec<Chain> {
    let written = written(resources, &selected.rule);
    let name = written.and_then(|(_, rule)| rule.name.as_ref());
    let rule = written.map(|(route, _)| (route.kind.target(), &route.meta.name, name));
    let place = Place { resources, rule };
    let backend: Option<&BackendName> = selected.target().backend.as_ref().ok().map(|backend| &backend.name);
    match (&question.side, contest.listener, &contest.parent) {
        (Side::Serving(service), ..) => Chain::inbound(service, resources),
        (Side::Gateway, Some((listener, _)), _) => vec![place.gateway(listener, backend)],
        (Side::Caller(_), _, Some(parent)) => {
            vec![place.outbound_filters(), place.outbound_breakers(parent, backend)]
        }
        _ => Vec::new(),
    }
}

/// The rule as it is written.
fn written<'r>(resources: &'r Resources, rule: &Rule) -> Option<(&'r Route, &'r RouteRule)> {
    let label = rule.route.as_deref()?;
    let is_it = |route: &&Route| route.meta.name.to_string() == label;
    let mut routes = resources.routes.values().filter(is_it);
    routes.find_map(|route| {
        let mut rules = route.rules.iter().enumerate();
        let found = rules.find(|(index, one)| match &one.name {
            Some(name) => *name == rule.name,
            None => index.to_string() == *rule.name,
        });
        found.filter(|(_, one)| Some(&one.source) == rule.source.as_ref()).map(|(_, one)| (route, one))
    })
}
