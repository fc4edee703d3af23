//! One rule of a route and everything that holds on the way to its backends.

use std::sync::Arc;

use http::Method;

use super::build::Builder;
use super::policies::Behaviour;
use super::{BackendState, Gate, MirrorTarget, Origination, Rule, Target};
use crate::attach::{Chain, Place};
use crate::balance::Balancer;
use crate::call::{CallPlan, Latency, Limit};
use crate::health::check::HealthGuard;
use crate::health::{CircuitGuard, Together};
use crate::model::{
    BackendName, BackendRef, InvalidRef, ListenerName, Mode, Policy, PolicyRef, Retry, Route, RouteFilter,
    RouteKind, RouteRule, Timeouts, WebScheme,
};
use crate::pick::{Cohort, Seat, Sessions};
use crate::pipeline::{Entry, Filter, InvalidFilter, Phase, route_filter};
use crate::reason::Reason;
use crate::state::StateKey;

/// From where a rule is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side<'a> {
    Gateway(&'a ListenerName),
    /// Through this port of a Service.
    Outbound(&'a BackendName),
}

/// Filters on their way to a target, with their place in the order.
#[derive(Default)]
pub(super) struct Filters(Vec<(Phase, usize, Arc<dyn Filter>)>);

/// What a rule itself has for all its targets.
#[derive(Default)]
struct Own {
    kind: RouteKind,
    /// Kind, route and name; empty where a Service has no route.
    scope: Arc<str>,
    /// The policies among them are looked up with the others.
    written: Vec<RouteFilter>,
    filters: Vec<Arc<dyn Filter>>,
    mirrors: Vec<MirrorTarget>,
    timeouts: Timeouts,
    retry: Option<Retry>,
}

/// A target with the policies that hold for it.
pub(super) type Applied = (Target, Box<[Arc<PolicyRef>]>);

/// Where in its phase a route's own filters run: after every policy.
const ROUTE_ORDER: usize = usize::MAX;

impl Filters {
    pub(super) fn push(&mut self, order: usize, filter: Arc<dyn Filter>) {
        self.0.push((filter.phase(), order, filter));
    }

    /// By phase, then registry, then by their own order, then as written.
    pub(super) fn ordered(mut self) -> Box<[Arc<dyn Filter>]> {
        self.0.sort_by_key(|(phase, order, filter)| (*phase, *order, filter.order()));
        self.0.into_iter().map(|(_, _, filter)| filter).collect()
    }
}

impl<'a> Builder<'a> {
    /// The rules of a route as they are met on one side.
    pub(super) fn rules(&mut self, route: &Route, side: Side<'_>) -> Vec<Arc<Rule>> {
        let label: Arc<str> = route.meta.name.to_string().into();
        let rules = route.rules.iter().enumerate();
        rules.map(|(index, rule)| Arc::new(self.rule(route, (index, rule), &label, side))).collect()
    }

    fn rule(
        &mut self,
        route: &Route,
        (index, rule): (usize, &RouteRule),
        label: &Arc<str>,
        side: Side<'_>,
    ) -> Rule {
        let of_rule = (route.kind.target(), &route.meta.name, rule.name.as_ref());
        let place = Place { resources: self.resources, rule: Some(of_rule) };
        let entry = self.entry(side);
        let name = rule.name.clone().unwrap_or_else(|| index.to_string().into());
        let scope: Arc<str> = format!("{}/{label}/{name}", route.kind.as_str()).into();
        let own = Own {
            kind: route.kind,
            scope: scope.clone(),
            written: rule.filters.clone(),
            filters: self.filters(&rule.filters, entry),
            mirrors: self.mirrors(&rule.filters, route.kind, side),
            timeouts: rule.timeouts,
            retry: rule.retry.clone(),
        };
        let mut targets: Vec<_> =
            rule.backends.iter().map(|backend| self.target(place, side, &own, backend)).collect();
        if rule.backends.iter().all(|backend| backend.weight == 0) {
            targets.push(self.nowhere(place, side, &own));
        }
        let sessions = rule.session.as_ref().map(|session| {
            let leads = |(backend, (target, _)): (&'_ BackendRef, &'_ Applied)| {
                let endpoints = target.backend.as_ref().map_or(&[][..], |backend| &backend.endpoints);
                (backend.identity.to_string(), endpoints.to_vec())
            };
            let leads: Vec<_> = rule.backends.iter().zip(&targets).map(leads).collect();
            Sessions::bind(session, &scope, leads.iter().map(|(name, endpoints)| (&**name, &**endpoints)))
        });
        let cohort = self.cohort(place, side, rule).map(|cohort| {
            let policy = cohort.policy.clone();
            targets
                .iter_mut()
                .for_each(|(_, applied)| *applied = applied.iter().chain([&policy]).cloned().collect());
            cohort.bind(&scope, rule.backends.iter().map(seat))
        });
        let named = Rule {
            route: Some(label.clone()),
            name,
            cohort,
            sessions,
            source: Some(rule.source.clone()),
            timeouts: rule.timeouts,
            retry: rule.retry.clone(),
            grpc: route.kind == RouteKind::Grpc,
            connect: rule.matches.iter().any(|wanted| wanted.method == Some(Method::CONNECT)),
            ..Rule::empty()
        };
        named.leading_to(targets)
    }

    /// The policy that picks among the backends of a rule, for all that reach it on one side.
    fn cohort(&self, place: Place<'_>, side: Side<'_>, rule: &RouteRule) -> Option<Arc<Cohort>> {
        let (effective, _) = self.effective(place, side, (None, &|chain| chain.past(&rule.filters)));
        effective.into_iter().find_map(|policy| match &self.policies.get(policy)?.behaviour {
            Behaviour::Cohort(cohort) => Some(cohort.clone()),
            _ => None,
        })
    }

    /// A rule without backends still has filters: one of them may answer (a redirect). The same where no backend has
    /// a weight.
    fn nowhere(&mut self, place: Place<'_>, side: Side<'_>, own: &Own) -> Applied {
        let none = BackendRef {
            target: Err(InvalidRef::BackendNotFound),
            identity: Arc::default(),
            weight: 1,
            filters: Vec::new(),
        };
        let (target, applied) = self.target(place, side, own, &none);
        (Target { backend: Err(Reason::NoBackend), ..target }, applied)
    }

    /// Where the requests of a side come in. A Service's port stands for the listener's in the mesh.
    fn entry(&self, side: Side<'_>) -> Entry {
        let listener = match side {
            Side::Gateway(name) => self.resources.listeners.get(name),
            Side::Outbound(parent) => return Entry { scheme: WebScheme::Http, port: parent.port },
        };
        let ends_tls = listener.is_some_and(|listener| listener.certificates().is_some());
        let scheme = if ends_tls { WebScheme::Https } else { WebScheme::Http };
        Entry { scheme, port: listener.map_or(80, |listener| listener.port) }
    }

    /// What a call through a Service's port meets when no route says otherwise.
    pub(super) fn direct_rule(&mut self, backend: &crate::model::Backend) -> Rule {
        let place = Place { resources: self.resources, rule: None };
        let target = BackendRef::to(backend.name.clone(), 1);
        let target = self.target(place, Side::Outbound(&backend.name), &Own::default(), &target);
        let named = Rule { name: "default".into(), source: Some(backend.source.clone()), ..Rule::empty() };
        named.leading_to(vec![target])
    }

    fn target(&mut self, place: Place<'_>, side: Side<'_>, own: &Own, backend: &BackendRef) -> Applied {
        let entry = self.entry(side);
        let name = backend.target.as_ref().ok();
        let (filtering, breaking) =
            self.effective(place, side, (name, &|chain| chain.past(&own.written).past(&backend.filters)));
        let mut applied = Vec::new();
        let mut filters = Filters::default();
        for policy in filtering {
            if let Some(bound) = self.policies.get(policy)
                && let Behaviour::Filter(filter) = &bound.behaviour
            {
                let here = if matches!(side, Side::Gateway(_)) { filter.at_gateway() } else { None };
                filters.push(bound.order, here.unwrap_or_else(|| filter.clone()));
                applied.push(bound.reference.clone());
            }
        }
        let chain =
            self.filter_chain(place, side, (name, &|chain| chain.past(&own.written).past(&backend.filters)));
        let authorizers = self.authorizers(&[chain], Some(entry.port));
        applied.extend(authorizers.applied);
        authorizers.filters.iter().for_each(|filter| filters.push(authorizers.order, filter.clone()));
        let of_backend = self.filters(&backend.filters, entry);
        for filter in own.filters.iter().cloned().chain(of_backend) {
            filters.push(ROUTE_ORDER, filter);
        }
        let state = name.and_then(|name| self.backends.get(name)).cloned();
        let (guard, breaker) = self.guard(&breaking, state.as_ref(), &own.scope);
        applied.extend(breaker);
        let tls = name.and_then(|name| self.origination(name, side));
        let (health, checking) = self.health(&breaking, state.as_ref(), (tls.as_ref(), side));
        applied.extend(checking);
        let well = (guard.as_deref(), health.as_deref());
        let (balancer, balancing) = self.balancer(&breaking, well, state.as_deref());
        applied.extend(balancing);
        let plan = self.plan(&breaking, own, state.as_ref(), &mut applied);
        let backend_state = state.ok_or(Reason::InvalidBackend);
        let mut mirrors = own.mirrors.clone();
        mirrors.extend(self.mirrors(&backend.filters, own.kind, side));
        let target = Target {
            backend: backend_state,
            weight: backend.weight,
            filters: filters.ordered(),
            // Here and not where it is served: a sidecar has no way in for what is not HTTP.
            gate: match side {
                Side::Gateway(_) => Gate::default(),
                // Who may call a Service is said where it is served.
                Side::Outbound(_) => self.gate(&breaking, &[]),
            },
            guard,
            health,
            together: Together::default(),
            balancer,
            plan,
            mirrors: mirrors.into(),
            tls,
        };
        (target, applied.into())
    }

    /// What judges connections, of these policies; after those who say whether anybody may come in.
    pub(super) fn gate(&self, policies: &[&Policy], authorizers: &[Arc<dyn Filter>]) -> Gate {
        let judge = |policy: &&Policy| match &self.policies.get(policy)?.behaviour {
            Behaviour::Filter(filter) if filter.judges_connections() => Some(filter.clone()),
            _ => None,
        };
        authorizers.iter().cloned().chain(policies.iter().filter_map(judge)).collect()
    }

    /// How long clients may take to send a head, of these policies: the most specific that is enforced.
    pub(super) fn head_limit(&self, policies: &[&Policy]) -> Option<Limit> {
        let timeout = policies.iter().rev().find_map(|policy| match &self.policies.get(policy)?.behaviour {
            Behaviour::Timeout(rule) => Some(rule),
            _ => None,
        });
        timeout.filter(|rule| rule.mode == Mode::Enforce)?.times.header.clone()
    }

    /// The guard of a backend for the calls of a rule, with the policy that wants it.
    pub(super) fn guard(
        &mut self,
        breaking: &[&Policy],
        backend: Option<&Arc<BackendState>>,
        rule: &str,
    ) -> (Option<Arc<CircuitGuard>>, Option<Arc<PolicyRef>>) {
        let circuit = breaking.iter().rev().find_map(|policy| match &self.policies.get(policy)?.behaviour {
            Behaviour::CircuitBreaker(circuit) => Some(circuit.clone()),
            _ => None,
        });
        match (backend, circuit) {
            (Some(backend), Some(circuit)) => {
                (Some(self.policies.guard(&circuit, (backend, rule))), Some(circuit.policy.clone()))
            }
            _ => (None, None),
        }
    }

    /// The health checks of a backend that is called as said, with the policy that wants them.
    pub(super) fn health(
        &mut self,
        calling: &[&Policy],
        backend: Option<&Arc<BackendState>>,
        (tls, side): (Option<&Origination>, Side<'_>),
    ) -> (Option<Arc<HealthGuard>>, Option<Arc<PolicyRef>>) {
        let health = calling.iter().rev().find_map(|policy| match &self.policies.get(policy)?.behaviour {
            Behaviour::HealthCheck(health) => Some(health.clone()),
            _ => None,
        });
        let (Some(backend), Some(health)) = (backend, health) else { return (None, None) };
        let always = matches!(side, Side::Gateway(_));
        (Some(self.policies.health(&health, backend, (tls, always))), Some(health.policy.clone()))
    }

    /// What balances over a backend whose endpoints are well as these say, with the policy that says how.
    pub(super) fn balancer(
        &mut self,
        calling: &[&Policy],
        well: (Option<&CircuitGuard>, Option<&HealthGuard>),
        backend: Option<&BackendState>,
    ) -> (Option<Arc<Balancer>>, Option<Arc<PolicyRef>>) {
        let settings = calling.iter().rev().find_map(|policy| match &self.policies.get(policy)?.behaviour {
            Behaviour::LoadBalancing(settings) => Some(settings.clone()),
            _ => None,
        });
        let Some(backend) = backend else { return (None, None) };
        let policy = settings.as_ref().and_then(|settings| settings.origin.as_ref());
        let balancer = self.policies.balancer(settings.as_ref(), well, backend, self.local);
        (balancer, policy.map(|origin| origin.policy.clone()))
    }

    /// What holds for calls to a backend; the policies that say so are added to `applied`.
    fn plan(
        &self,
        calling: &[&Policy],
        own: &Own,
        backend: Option<&Arc<BackendState>>,
        applied: &mut Vec<Arc<PolicyRef>>,
    ) -> CallPlan {
        let bound = || calling.iter().rev().filter_map(|policy| self.policies.get(policy));
        let retry = bound().find_map(|bound| match &bound.behaviour {
            Behaviour::Retry(rule) => Some((rule, &bound.reference)),
            _ => None,
        });
        let times = bound().find_map(|bound| match &bound.behaviour {
            Behaviour::Timeout(rule) => Some((rule, &bound.reference)),
            _ => None,
        });
        applied.extend(
            [retry.map(|(_, policy)| policy), times.map(|(_, policy)| policy)].into_iter().flatten().cloned(),
        );
        let written = (own.timeouts, own.retry.as_ref());
        let mut plan = CallPlan::new(written, retry.map(|(rule, _)| rule), times.map(|(rule, _)| rule));
        if let Some(backend) = backend.filter(|_| plan.asks_latency()) {
            let key = StateKey::new(format!("endpoint/{}", backend.name), "latency");
            plan.latency = Some(self.state.get_or_insert(key, Latency::default));
        }
        plan
    }

    /// What a rule or a backendRef does itself. A policy that it names and that is not here must not be skipped.
    fn filters(&self, written: &[RouteFilter], entry: Entry) -> Vec<Arc<dyn Filter>> {
        let lost = RouteFilter::extensions(written).any(|policy| !self.policies.has(policy));
        let lost = lost.then(|| Arc::new(InvalidFilter) as Arc<dyn Filter>);
        lost.into_iter().chain(written.iter().filter_map(|filter| route_filter(filter, entry))).collect()
    }

    /// The policies whose filters hold on the way, and those whose breakers do. `past` adds what the route names.
    pub(super) fn effective(
        &self,
        place: Place<'_>,
        side: Side<'_>,
        (backend, past): (Option<&BackendName>, &dyn Fn(Chain) -> Chain),
    ) -> (Vec<&'a Policy>, Vec<&'a Policy>) {
        let filtering = self.attachments.effective(&self.filter_chain(place, side, (backend, past)));
        match side {
            Side::Gateway(_) => (filtering.clone(), filtering),
            Side::Outbound(parent) => {
                let breaking = past(place.outbound_breakers(parent, backend));
                (filtering, self.attachments.effective(&breaking))
            }
        }
    }

    /// Whose filters hold on the way.
    pub(super) fn filter_chain(
        &self,
        place: Place<'_>,
        side: Side<'_>,
        (backend, past): (Option<&BackendName>, &dyn Fn(Chain) -> Chain),
    ) -> Chain {
        past(match side {
            Side::Gateway(listener) => place.gateway(listener, backend),
            Side::Outbound(_) => place.outbound_filters(),
        })
    }
}

fn seat(backend: &BackendRef) -> Seat<'_> {
    Seat { identity: &backend.identity, weight: backend.weight }
}

impl Rule {
    /// Without name and targets.
    pub(super) fn empty() -> Self {
        Self {
            route: None,
            name: Arc::from(""),
            source: None,
            timeouts: Timeouts::default(),
            retry: None,
            grpc: false,
            connect: false,
            cohort: None,
            sessions: None,
            targets: Box::default(),
            cumulative: Box::default(),
            applied: Box::default(),
        }
    }

    pub(super) fn leading_to(mut self, targets: Vec<Applied>) -> Self {
        let running = |sum: &mut u64, (target, _): &Applied| {
            *sum += u64::from(target.weight);
            Some(*sum)
        };
        self.cumulative = targets.iter().scan(0, running).collect();
        let (targets, applied): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
        self.targets = targets.into();
        self.applied = applied.into();
        self
    }
}
