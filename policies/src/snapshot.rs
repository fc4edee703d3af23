//! Resources -> one immutable [`Snapshot`]: everything a request needs, looked up and merged beforehand.
//!
//! A request loads the snapshot once and keeps it, so it never sees half a push. Counters are not in here: filters
//! and backends hold handles into the [`crate::state::StateStore`], which outlives snapshots.

mod again;
mod authorizers;
mod build;
#[cfg(test)]
mod cohort_tests;
mod contest;
mod describe;
mod destination;
#[cfg(test)]
mod extension_tests;
mod gateway;
#[cfg(test)]
mod head_limit_tests;
mod inbound;
mod mirror;
mod outbound;
mod policies;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod port_tests;
mod rule;
mod selected;
mod stream;
#[cfg(test)]
mod stream_tests;
#[cfg(test)]
mod tests;
mod tls;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, request};
use rustc_hash::FxHashMap;

use crate::balance::{Balancer, EndpointState, Roster};
use crate::call::{CallPlan, Limit, RetryBudget};
use crate::health::check::HealthGuard;
use crate::health::{CapKey, CircuitGuard, GuardReport, Together};
use crate::jwt::KeySource;
use crate::matching::target::decoded;
use crate::matching::{RequestView, authority};
use crate::mesh::MeshTls;
use crate::model::{
    AppProtocol, BackendName, BackendTls, Listener, Placement, PolicyRef, ProxyProtocol, ResourceName,
    ResourceType, Resources, Retry, SourceRef, Timeouts,
};
use crate::overload::Load;
use crate::pick::{BoundCohort, Session, Sessions};
use crate::pipeline::{Filter, Phase, ServiceRef, announced};
use crate::plugin::Plugin;
use crate::reason::Reason;
use crate::state::StateStore;
use crate::time::Timestamp;

pub use contest::{Contender, Contest};
pub use describe::Description;
pub(crate) use describe::describe_match;
pub use destination::Expected;
pub use mirror::MirrorTarget;
pub use stream::{Arrival, Intake};
pub use tls::{Origination, TlsSettings};

/// See the module.
#[derive(Debug)]
pub struct Snapshot {
    sockets: FxHashMap<BindAddress, gateway::Socket>,
    outbound: outbound::Services,
    inbound: Option<Arc<Rule>>,
    /// By the port of the workload that was called, where the application has several.
    inbound_at: BTreeMap<u16, Arc<Rule>>,
    served: Vec<ResourceName>,
    backends: BTreeMap<BackendName, Arc<BackendState>>,
    policies: Vec<policies::InForce>,
    guards: Vec<(BackendName, Arc<CircuitGuard>)>,
    gates: Vec<Arc<dyn Filter>>,
    checks: Vec<Arc<HealthGuard>>,
    originations: Vec<(BackendName, Origination)>,
    services: BTreeSet<Arc<ServiceRef>>,
    key_sources: Vec<Arc<KeySource>>,
    plugins: Vec<Arc<Plugin>>,
}

/// What a proxy knows of itself, not from the control plane.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Services this workload serves: their policies hold on the inbound listener. Empty: as the control plane says.
    pub services: Vec<ResourceName>,
    /// The pod, by which the control plane knows what it serves.
    pub pod: Option<ResourceName>,
    /// Where the application listens beside `app`, by the port of the workload that is called.
    pub apps: BTreeMap<u16, (SocketAddr, Option<AppProtocol>)>,
    /// Where the application listens, and what it speaks; `None` for a pure gateway.
    pub app: Option<(SocketAddr, AppProtocol)>,
    /// The workload's namespace: short names of outbound hosts are looked up here first.
    pub namespace: Arc<str>,
    /// Where it runs, if anybody has said so.
    pub zone: Option<Arc<str>>,
    /// What tells this proxy from all others.
    pub node: Arc<str>,
}

/// A socket of a gateway; several listeners (told apart by host name) may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BindAddress {
    /// `None`: all addresses.
    pub ip: Option<IpAddr>,
    pub port: u16,
}

/// Which side of the proxy a connection came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On a gateway's socket: routed by the listeners there.
    Gateway(BindAddress),
    /// For our own application: its services' policies, then the app.
    Inbound,
    /// The same, at one of several ports that it listens on.
    InboundAt(u16),
    /// From our own application: routed by the Service it names (`Host`), with that Service's routes.
    Outbound,
    /// From our own application, on its way to this address: routed by the Service port whose address it is (GAMMA,
    /// GEP-1294), whatever its `Host` says.
    OutboundTo(SocketAddr),
}

/// What judges connections at one place.
pub type Gate = Arc<[Arc<dyn Filter>]>;

/// One rule as requests meet it.
#[derive(Debug)]
pub struct Rule {
    /// `namespace/name` of the route; `None` where a Service has no route and for inbound traffic.
    pub route: Option<Arc<str>>,
    /// Rule name, else its index; with its line.
    pub name: Arc<str>,
    pub source: Option<SourceRef>,
    /// As the rule itself writes them; what holds is said by [`Target::plan`].
    pub timeouts: Timeouts,
    pub retry: Option<Retry>,
    /// A GRPCRoute's: backends are spoken to as HTTP/2.
    pub grpc: bool,
    /// Some match asks for the method CONNECT: what it opens is a tunnel, in which nothing is looked at.
    pub connect: bool,
    /// Picks by user where there is one, instead of by chance.
    pub(crate) cohort: Option<BoundCohort>,
    /// Sends clients back to where they were answered from, before anybody picks.
    pub(crate) sessions: Option<Sessions>,
    pub targets: Box<[Target]>,
    /// Running sums of the targets' weights, for the weighted pick.
    pub(crate) cumulative: Box<[u64]>,
    /// Which policies hold for each of the targets, for descriptions.
    pub(crate) applied: Box<[Box<[Arc<PolicyRef>]>]>,
}

/// One backendRef of a rule with everything that applies on the way to it, merged.
#[derive(Debug)]
pub struct Target {
    /// `Err` for an invalid reference, or where the rule has none: its share of requests fails, after the filters ran
    /// and unless one of them answers.
    pub backend: Result<Arc<BackendState>, Reason>,
    pub weight: u32,
    /// Policies and route filters, ordered by phase. Of what is carried as a whole only those mean something that ask
    /// [plugins](Filter::plugin).
    pub filters: Box<[Arc<dyn Filter>]>,
    /// For connections that go there as a whole; at an inbound listener, for all of them.
    pub gate: Gate,
    pub guard: Option<Arc<CircuitGuard>>,
    /// Says which endpoints are healthy.
    pub health: Option<Arc<HealthGuard>>,
    /// What both say of the endpoints.
    pub together: Together,
    /// `None`: that of the backend.
    pub balancer: Option<Arc<Balancer>>,
    /// Retries and timeouts of calls to it.
    pub plan: CallPlan,
    /// Where copies of the request go.
    pub mirrors: Box<[MirrorTarget]>,
    /// `None`: without TLS.
    pub tls: Option<Origination>,
}

/// A backend as calls meet it. Endpoint state survives pushes.
#[derive(Debug)]
pub struct BackendState {
    pub name: BackendName,
    /// Pre-rendered `name`, for labels.
    pub label: Arc<str>,
    pub protocol: AppProtocol,
    pub connect_timeout: Option<Duration>,
    /// As written, for descriptions; what a call does is said by its [`Target`].
    pub tls: Option<BackendTls>,
    pub proxy_protocol: Option<ProxyProtocol>,
    /// What is asked of connections to it.
    pub mtls: Option<Arc<MeshTls>>,
    pub endpoints: Box<[Arc<EndpointState>]>,
    /// Where these are, in their order.
    pub placements: Box<[Placement]>,
    /// What holds where nobody has written how to balance.
    pub balancer: Arc<Balancer>,
    /// Tells which endpoints are new; held so that it is not forgotten.
    pub(crate) _roster: Arc<Roster>,
    pub retry_budget: Arc<RetryBudget>,
}

/// The outcome of routing: a rule and the picked one of its targets.
#[derive(Clone, Debug)]
pub struct Selected {
    pub rule: Arc<Rule>,
    target: usize,
    /// The hash of what the request has to go by, where its target goes by that.
    pub key: Option<u64>,
    /// Whom it is counted with, where its target has caps on keys.
    pub counted: CapKey,
    /// What the request brought: the endpoint that it is to go back to.
    pub session: Option<Session>,
}

/// A resource that could not be used, and why; its siblings were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    pub resource_type: ResourceType,
    pub name: String,
    pub reason: String,
}

impl BindAddress {
    /// The sockets of a listener.
    pub fn of(listener: &Listener) -> Vec<Self> {
        let port = listener.port;
        if listener.addresses.is_empty() {
            return vec![Self { ip: None, port }];
        }
        listener.addresses.iter().map(|ip| Self { ip: Some(*ip), port }).collect()
    }
}

impl Snapshot {
    /// Builds what can be built; `rejected` names the rest. State is found again in `state`.
    pub fn build(resources: &Resources, local: &Local, state: &StateStore) -> (Self, Vec<Rejected>) {
        build::build(resources, local, state)
    }

    /// The sockets that a gateway proxy must listen on.
    pub fn binds(&self) -> Vec<BindAddress> {
        let mut binds: Vec<_> = self.sockets.keys().copied().collect();
        binds.sort();
        binds
    }

    /// Whether any route is attached to a listener of this socket.
    pub fn has_routes(&self, bind: BindAddress) -> bool {
        let socket = self.sockets.get(&bind);
        socket.is_some_and(|socket| socket.listeners.iter().any(|(_, listener)| !listener.is_empty()))
    }

    /// Whether a request came in by TLS for the name of one listener and asks for a host of another one: it was sent
    /// over the wrong connection (RFC 9110, 15.5.20). A host of no listener is not.
    pub fn is_misdirected(&self, bind: BindAddress, server_name: &str, head: &request::Parts) -> bool {
        let Some(socket) = self.sockets.get(&bind) else { return false };
        let listener = |host: &str| socket.listeners.candidates(host).next();
        let asked = authority(head).ok().and_then(|authority| listener(&authority.host));
        let shown = listener(&server_name.to_ascii_lowercase());
        matches!((asked, shown), (Some(asked), Some(shown)) if !Arc::ptr_eq(asked, shown))
    }

    /// What judges connections of requests before any is read. `server_name`: what the client asked for by TLS, where that
    /// was read already; a socket whose listeners are told apart later has what they have in common.
    pub fn gate(&self, scope: Scope, server_name: Option<&str>) -> Gate {
        let found = match scope {
            Scope::Inbound | Scope::InboundAt(_) => {
                self.inbound(scope).and_then(|rule| Some(&rule.targets.first()?.gate))
            }
            Scope::Gateway(bind) => self.sockets.get(&bind).and_then(|socket| match server_name {
                None => Some(&socket.gate),
                Some(name) => {
                    let listener = socket.listeners.candidates(&name.to_ascii_lowercase()).next();
                    listener.map(|listener| &listener.gate)
                }
            }),
            Scope::Outbound | Scope::OutboundTo(_) => None,
        };
        found.cloned().unwrap_or_default()
    }

    /// How long clients may take to send the head of a request, by HTTP/1. `server_name`: what the client asked for by TLS; a
    /// socket whose listeners are told apart by the head itself has the longest of theirs.
    pub fn head_limit(&self, scope: Scope, server_name: Option<&str>) -> Option<&Limit> {
        match scope {
            Scope::Inbound | Scope::InboundAt(_) => {
                self.inbound(scope)?.targets.first()?.plan.times.header.as_ref()
            }
            Scope::Gateway(bind) => self.sockets.get(&bind)?.head_limit(server_name),
            Scope::Outbound | Scope::OutboundTo(_) => None,
        }
    }

    /// Finds the rule for a request and picks one of its targets by weight and chance, whoever asks: what is there for
    /// one without a client.
    ///
    /// # Errors
    /// As [`Snapshot::find`].
    pub fn route(
        &self,
        scope: Scope,
        head: &request::Parts,
        rng: &mut fastrand::Rng,
    ) -> Result<Selected, Reason> {
        Selected::by_chance(self.find(scope, head)?, rng)
    }

    /// Finds the rule for a request, whose path is normalised ([`crate::matching::target`]).
    ///
    /// # Errors
    /// [`Reason::NoRoute`] where no rule matches, [`Reason::BadRequest`] without a host where one is needed, or where it
    /// depends on how a server reads the path which rule matches.
    pub fn find(&self, scope: Scope, head: &request::Parts) -> Result<&Arc<Rule>, Reason> {
        // A preflight asks about another request: the rule that would take that one answers, if it knows CORS.
        let announced =
            announced(head).map(|method| self.of_method(scope, head, &method)).transpose()?.flatten();
        let rule = match announced.filter(|rule| rule.answers_preflights()) {
            Some(rule) => Some(rule),
            None => self.of_method(scope, head, &head.method)?,
        };
        rule.ok_or(Reason::NoRoute)
    }

    /// The rule for the request if it had this method.
    fn of_method(
        &self,
        scope: Scope,
        head: &request::Parts,
        method: &Method,
    ) -> Result<Option<&Arc<Rule>>, Reason> {
        let rule = self.rule(scope, head, &RequestView::new(head).with_method(method))?;
        if let Some(reading) = decoded(head.uri.path()) {
            let view = RequestView::with_path(head, &reading).with_method(method);
            let other = self.rule(scope, head, &view)?;
            if rule.map(Arc::as_ptr) != other.map(Arc::as_ptr) {
                return Err(Reason::BadRequest);
            }
        }
        Ok(rule)
    }

    fn rule(
        &self,
        scope: Scope,
        head: &request::Parts,
        request: &RequestView<'_>,
    ) -> Result<Option<&Arc<Rule>>, Reason> {
        Ok(match scope {
            Scope::Inbound | Scope::InboundAt(_) => self.inbound(scope),
            Scope::Gateway(bind) => {
                let host = authority(head)?.host;
                self.sockets.get(&bind).and_then(|socket| socket.find(&host, request))
            }
            Scope::Outbound => self.outbound.find(&authority(head)?, request),
            Scope::OutboundTo(address) => self.outbound.find_at(address, request),
        })
    }

    /// The way to our own application.
    fn inbound(&self, scope: Scope) -> Option<&Arc<Rule>> {
        match scope {
            Scope::InboundAt(port) => self.inbound_at.get(&port),
            _ => self.inbound.as_ref(),
        }
    }

    /// The Services whose policies hold for what comes in.
    pub fn served(&self) -> &[ResourceName] {
        &self.served
    }

    /// Where the application is that is reached there.
    pub fn app(&self, scope: Scope) -> Option<(SocketAddr, AppProtocol)> {
        let target = self.inbound(scope)?.targets.first()?;
        let backend = target.backend.as_ref().ok()?;
        match &backend.endpoints.first()?.address {
            crate::model::Address::Socket(address) => Some((*address, backend.protocol)),
            crate::model::Address::Name { .. } => None,
        }
    }

    /// What asks plugins about the bytes that are carried to the application there.
    pub fn carried_to_app(&self, scope: Scope) -> Vec<Arc<dyn Filter>> {
        let target = self.inbound(scope).and_then(|rule| rule.targets.first());
        let filters = target.map_or(&[][..], |target| &target.filters);
        filters.iter().filter(|filter| filter.plugin().is_some()).cloned().collect()
    }

    /// Every backend, for status and metrics.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<BackendState>> {
        self.backends.values()
    }

    /// Every circuit breaker at work, with the backend that it guards, for status and metrics; where each route rule has
    /// caps of its own, one for each of them, with the same breakers.
    pub fn rule_guards(&self) -> impl Iterator<Item = (&BackendName, &Arc<CircuitGuard>)> {
        self.guards.iter().map(|(backend, guard)| (backend, guard))
    }

    /// Every health check at work, one for each policy and backend.
    pub fn checks(&self) -> &[Arc<HealthGuard>] {
        &self.checks
    }

    /// The same, each breaker once.
    pub fn guards(&self) -> impl Iterator<Item = (&BackendName, &Arc<CircuitGuard>)> {
        let mut last: Option<&Arc<str>> = None;
        self.rule_guards().filter(move |(_, guard)| last.replace(&guard.id).is_none_or(|id| *id != guard.id))
    }

    /// How each backend does under its circuit breaker, and why.
    pub fn health(&self, now: Timestamp) -> Vec<GuardReport> {
        let mut reports = Vec::<GuardReport>::new();
        let mut last: Option<&Arc<str>> = None;
        for (backend, guard) in self.rule_guards() {
            match reports.last_mut().filter(|_| last == Some(&guard.id)) {
                Some(report) => report.caps.extend(GuardReport::of_rule(guard)),
                None => reports.push(GuardReport::of(guard, backend, now)),
            }
            last = Some(&guard.id);
        }
        reports
    }

    /// Every policy that limits what is in service at one time, and how things stand there.
    pub fn gates(&self) -> impl Iterator<Item = (&Arc<PolicyRef>, Load)> {
        self.gates.iter().filter_map(|filter| filter.load())
    }

    /// Every set of TLS settings that calls are made with, each with one of the backends.
    pub fn originations(&self) -> impl Iterator<Item = &(BackendName, Origination)> {
        self.originations.iter()
    }

    /// Every address where an issuer's keys are to be fetched.
    pub fn key_sources(&self) -> &[Arc<KeySource>] {
        &self.key_sources
    }

    /// Every plugin that policies name, each once.
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// Every service that policies have asked.
    pub fn services(&self) -> &BTreeSet<Arc<ServiceRef>> {
        &self.services
    }

    /// What such a service is behind.
    pub fn service(&self, wanted: &ServiceRef) -> Option<&Arc<BackendState>> {
        let name = |port| BackendName { kind: wanted.kind, object: wanted.object.clone(), port };
        match wanted.port {
            Some(port) => self.backends.get(&name(port)),
            None => self.backends.range(name(0)..=name(u16::MAX)).map(|(_, backend)| backend).next(),
        }
    }

    /// What is in force, for people.
    pub fn describe(&self) -> Description<'_> {
        Description::of(self)
    }
}

impl Rule {
    /// Whether a filter of the rule is for preflights.
    fn answers_preflights(&self) -> bool {
        self.targets.iter().flat_map(|target| &target.filters).any(|filter| filter.phase() == Phase::Cors)
    }

    /// A target in proportion to the weights.
    fn draw(&self, rng: &mut fastrand::Rng) -> Result<usize, Reason> {
        let total = self.cumulative.last().copied().filter(|total| *total > 0).ok_or(Reason::NoBackend)?;
        let drawn = rng.u64(..total);
        Ok(self.cumulative.partition_point(|sum| *sum <= drawn))
    }
}
