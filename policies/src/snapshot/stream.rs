//! Connections that are routed as a whole: by the socket they came to, and the server name they ask for.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::build::Builder;
use super::gateway::{Routes, Socket};
use super::policies::Behaviour;
use super::rule::{Applied, Filters, Side};
use super::{BindAddress, Rule, Selected, Snapshot, Target};
use crate::attach::Place;
use crate::call::CallPlan;
use crate::health::Together;
use crate::matching::HostMap;
use crate::model::{
    Accepts, InvalidRef, Listener, ListenerName, Policy, PolicyRef, RouteParent, StreamBackend, StreamRoute,
    TlsMode,
};
use crate::reason::Reason;

/// What comes to a socket, and so what has to be read of a connection before it can be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Requests, each with a route of its own.
    Requests,
    /// TLS: the first message of the client says whose connection it is.
    ServerNames,
    /// Connections of one listener: nothing has to be read.
    Connections,
}

/// Whose a connection is.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// An HTTPS listener's: what is inside are requests.
    Requests,
    /// A route's, as a whole.
    Stream {
        selected: Selected,
        /// Whether TLS ends here, and the backend gets what was inside.
        ends_tls: bool,
    },
}

pub(super) type StreamRules = FxHashMap<ListenerName, HostMap<Arc<Rule>>>;

impl Snapshot {
    /// `None` for a socket without listeners: they are gone, and it will be closed.
    pub fn intake(&self, bind: BindAddress) -> Option<Intake> {
        let listeners = || self.sockets.get(&bind).into_iter().flat_map(|socket| socket.listeners.iter());
        let any = |wanted: fn(&Routes) -> bool| listeners().any(|(_, listener)| wanted(&listener.routes));
        if any(|routes| matches!(routes, Routes::ServerNames { .. })) {
            Some(Intake::ServerNames)
        } else if any(|routes| matches!(routes, Routes::Requests(_))) {
            Some(Intake::Requests)
        } else {
            any(|_| true).then_some(Intake::Connections)
        }
    }

    /// Finds the route of a connection and picks one of its targets by weight. `server_name` is what the client asks
    /// for by TLS; nothing, where it does not or is not asked.
    ///
    /// # Errors
    /// [`Reason::NoRoute`] where no listener or none of its routes is for that name, [`Reason::NoBackend`] where all
    /// weights of the route are zero.
    pub fn connection(
        &self,
        bind: BindAddress,
        server_name: Option<&str>,
        rng: &mut fastrand::Rng,
    ) -> Result<Arrival, Reason> {
        let name = server_name.unwrap_or_default().to_ascii_lowercase();
        let socket = self.sockets.get(&bind).ok_or(Reason::NoRoute)?;
        let (rules, ends_tls) = match socket.listener(&name).map(|listener| &listener.routes) {
            None => return Err(Reason::NoRoute),
            Some(Routes::Requests(_)) => return Ok(Arrival::Requests),
            Some(Routes::ServerNames { rules, ends_tls }) => (rules, *ends_tls),
            Some(Routes::Connections(rules)) => (rules, false),
        };
        let rule = rules.candidates(&name).next().ok_or(Reason::NoRoute)?;
        Ok(Arrival::Stream { selected: Selected::by_chance(rule, rng)?, ends_tls })
    }
}

impl Socket {
    /// The most specific listener for a name, which has all that comes for it (listener isolation).
    pub(super) fn listener(&self, name: &str) -> Option<&Arc<super::gateway::ListenerRoutes>> {
        self.listeners.candidates(name).next()
    }
}

impl Routes {
    /// Those of a listener whose connections are routed as a whole; `None` for one of requests.
    pub(super) fn of_streams(listener: &Listener, rules: HostMap<Arc<Rule>>) -> Option<Self> {
        match &listener.accepts {
            Accepts::Http { .. } => None,
            Accepts::Tls { mode, .. } => {
                Some(Self::ServerNames { rules, ends_tls: matches!(mode, TlsMode::Terminate(_)) })
            }
            Accepts::Tcp => Some(Self::Connections(rules)),
        }
    }
}

impl Builder<'_> {
    /// By listener and hostname. Of several routes for the same, the older one, then the first by name.
    pub(super) fn stream_rules(&mut self) -> StreamRules {
        let mut found = StreamRules::default();
        let mut routes: Vec<_> = self.resources.streams.values().collect();
        routes.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
        for route in routes {
            let label: Arc<str> = route.meta.name.to_string().into();
            for parent in &route.parents {
                let RouteParent::Listener { listener, hostnames } = parent else { continue };
                let rule = Arc::new(self.stream_rule(route, &label, listener));
                let rules = found.entry(listener.clone()).or_default();
                for hostname in hostnames {
                    rules.get_or_insert_with(hostname, || rule.clone());
                }
            }
        }
        found
    }

    fn stream_rule(&mut self, route: &StreamRoute, label: &Arc<str>, listener: &ListenerName) -> Rule {
        let rule = &route.rule;
        let named = Rule {
            route: Some(label.clone()),
            name: rule.name.clone().unwrap_or_else(|| "0".into()),
            source: Some(rule.source.clone()),
            ..Rule::empty()
        };
        let scope = format!("stream/{label}/{}", named.name);
        let none = [StreamBackend { target: Err(InvalidRef::BackendNotFound), weight: 1 }];
        let backends = if rule.backends.is_empty() { &none[..] } else { &rule.backends };
        let of_rule = (route.kind.target(), &route.meta.name, rule.name.as_ref());
        let place = Place { resources: self.resources, rule: Some(of_rule) };
        let target = |backend| self.stream_target((place, &*scope), listener, backend);
        named.leading_to(backends.iter().map(target).collect())
    }

    /// Of the policies only circuit breakers, health checks, balancing, plugins and what judges connections mean something
    /// here.
    fn stream_target(
        &mut self,
        (place, scope): (Place<'_>, &str),
        listener: &ListenerName,
        backend: &StreamBackend,
    ) -> Applied {
        let name = backend.target.as_ref().ok();
        let (effective, _) = self.effective(place, Side::Gateway(listener), (name, &|chain| chain));
        let state = name.and_then(|name| self.backends.get(name)).cloned();
        let (guard, breaker) = self.guard(&effective, state.as_ref(), scope);
        // What passes through has TLS of its own, or is not ours to wrap.
        let tls = name
            .filter(|_| self.ends_tls(listener))
            .and_then(|name| self.origination(name, Side::Gateway(listener)));
        let called = (tls.as_ref(), Side::Gateway(listener));
        let (health, checking) = self.health(&effective, state.as_ref(), called);
        let well = (guard.as_deref(), health.as_deref());
        let (balancer, balancing) = self.balancer(&effective, well, state.as_deref());
        let judges = effective.iter().filter(|policy| !self.gate(&[policy], &[]).is_empty());
        let judges = judges.map(|policy| Arc::new(policy.reference()));
        let chain = self.filter_chain(place, Side::Gateway(listener), (name, &|chain| chain));
        let authorizers = self.authorizers(&[chain], self.port(listener));
        let (plugins, plugged) = self.plugins(&effective);
        let applied = authorizers
            .applied
            .into_iter()
            .chain(judges)
            .chain(plugged)
            .chain(breaker)
            .chain(checking)
            .chain(balancing)
            .collect();
        let target = Target {
            backend: state.ok_or(Reason::InvalidBackend),
            weight: backend.weight,
            filters: plugins.ordered(),
            gate: self.gate(&effective, &authorizers.filters),
            guard,
            health,
            together: Together::default(),
            balancer,
            mirrors: Box::default(),
            plan: CallPlan::default(),
            tls,
        };
        (target, applied)
    }

    /// Of these policies, those that ask plugins.
    fn plugins(&self, policies: &[&Policy]) -> (Filters, Vec<Arc<PolicyRef>>) {
        let (mut filters, mut applied) = (Filters::default(), Vec::new());
        for bound in policies.iter().filter_map(|policy| self.policies.get(policy)) {
            if let Behaviour::Filter(filter) = &bound.behaviour
                && filter.plugin().is_some()
            {
                filters.push(bound.order, filter.clone());
                applied.push(bound.reference.clone());
            }
        }
        (filters, applied)
    }

    pub(super) fn port(&self, listener: &ListenerName) -> Option<u16> {
        self.resources.listeners.get(listener).map(|listener| listener.port)
    }

    fn ends_tls(&self, listener: &ListenerName) -> bool {
        self.resources.listeners.get(listener).is_some_and(|listener| listener.certificates().is_some())
    }
}
