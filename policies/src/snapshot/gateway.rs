//! A gateway's sockets: which listener a request belongs to, and which rule of it matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::build::Builder;
use super::rule::Side;
use super::{BindAddress, Gate, Rule};
use crate::attach::Place;
use crate::call::Limit;
use crate::matching::{Candidate, HostMap, MatchTable, RequestView, RuleOrder};
use crate::model::{ListenerName, ResourceName, Route, RouteParent, RouteRule, SourceRef};

/// What is bound to one address: listeners told apart by host name.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) listeners: HostMap<Arc<ListenerRoutes>>,
    /// What judges connections at every listener, whichever of them is meant.
    pub(super) gate: Gate,
}

/// One listener with the rules of the routes that are attached to it.
#[derive(Debug)]
pub(super) struct ListenerRoutes {
    pub(super) name: ListenerName,
    pub(super) source: SourceRef,
    /// The Secrets with its certificates.
    pub(super) certificates: Vec<ResourceName>,
    pub(super) routes: Routes,
    /// What judges connections that are read here, whatever their requests are for.
    pub(super) gate: Gate,
    /// Who says what may go on that no route is for any more.
    pub(super) own: Gate,
    /// For the heads of requests.
    pub(super) head_limit: Option<Limit>,
}

/// What the routes of a listener tell apart.
#[derive(Debug)]
pub(super) enum Routes {
    /// Requests, by the host they ask for.
    Requests(HostMap<MatchTable<Arc<Rule>>>),
    /// Connections, by the server name they ask for.
    ServerNames { rules: HostMap<Arc<Rule>>, ends_tls: bool },
    /// Nothing: there is one rule at most.
    Connections(HostMap<Arc<Rule>>),
}

type Collected = HostMap<Vec<Candidate<Arc<Rule>>>>;

impl Socket {
    /// The request belongs to the most specific listener alone (listener isolation); within it, a host pattern
    /// without a matching rule falls back to the next less specific one.
    pub(super) fn find(&self, host: &str, request: &RequestView<'_>) -> Option<&Arc<Rule>> {
        let listener = self.listeners.find(host, Some)?;
        let Routes::Requests(hosts) = &listener.routes else { return None };
        hosts.find(host, |table| table.find(request))
    }
}

impl Socket {
    /// See [`super::Snapshot::head_limit`].
    pub(super) fn head_limit(&self, server_name: Option<&str>) -> Option<&Limit> {
        if let Some(name) = server_name {
            return self.listeners.candidates(&name.to_ascii_lowercase()).next()?.head_limit.as_ref();
        }
        let all: Option<Vec<_>> =
            self.listeners.iter().map(|(_, listener)| listener.head_limit.as_ref()).collect();
        all?.into_iter().max_by_key(|limit| limit.after)
    }
}

impl ListenerRoutes {
    pub(super) fn is_empty(&self) -> bool {
        match &self.routes {
            Routes::Requests(hosts) => hosts.iter().next().is_none(),
            Routes::ServerNames { rules, .. } | Routes::Connections(rules) => rules.iter().next().is_none(),
        }
    }
}

impl Routes {
    /// Of connections that are carried as a whole.
    pub(super) fn of_connections(&self) -> Option<&HostMap<Arc<Rule>>> {
        match self {
            Self::Requests(_) => None,
            Self::ServerNames { rules, .. } | Self::Connections(rules) => Some(rules),
        }
    }
}

impl Builder<'_> {
    /// Of listeners that share address, port and hostname, one with routes takes the requests, else the first by name.
    /// The control plane never tells of two for good; but when a Gateway is renamed, old and new are both here until
    /// the route has moved, and neither is at fault.
    pub(super) fn sockets(&mut self) -> FxHashMap<BindAddress, Socket> {
        let mut hosts = self.attached_rules();
        let mut streams = self.stream_rules();
        let (mut in_use, mut unused) = (Vec::new(), Vec::new());
        for listener in self.resources.listeners.values() {
            let rules = hosts.remove(&listener.name).unwrap_or_default();
            let whole = streams.remove(&listener.name).unwrap_or_default();
            let routes = Routes::of_streams(listener, whole)
                .unwrap_or_else(|| Routes::Requests(rules.map(MatchTable::new)));
            let (name, source) = (listener.name.clone(), listener.source.clone());
            let certificates = listener.certificates().unwrap_or_default();
            let certificates = certificates.iter().map(|shown| shown.secret.clone()).collect();
            let place = Place { resources: self.resources, rule: None };
            let (effective, _) = self.effective(place, Side::Gateway(&name), (None, &|chain| chain));
            let (gate, head_limit) = (self.gate(&effective, &[]), self.head_limit(&effective));
            let chain = self.filter_chain(place, Side::Gateway(&name), (None, &|chain| chain));
            let own = self.authorizers(&[chain], Some(listener.port)).filters.into();
            let routes = ListenerRoutes { name, source, certificates, routes, gate, own, head_limit };
            if routes.is_empty() { &mut unused } else { &mut in_use }.push((listener, Arc::new(routes)));
        }
        let mut sockets = FxHashMap::<BindAddress, Socket>::default();
        for (listener, routes) in in_use.into_iter().chain(unused) {
            for bind in BindAddress::of(listener) {
                let socket = sockets.entry(bind).or_default();
                socket.listeners.get_or_insert_with(listener.hostname(), || routes.clone());
            }
        }
        for socket in sockets.values_mut() {
            socket.gate = common(socket.listeners.iter().map(|(_, listener)| &listener.gate));
        }
        sockets
    }

    fn attached_rules(&mut self) -> BTreeMap<ListenerName, Collected> {
        let mut attached = BTreeMap::<ListenerName, Collected>::new();
        for route in self.resources.routes.values() {
            for parent in &route.parents {
                let RouteParent::Listener { listener, hostnames } = parent else { continue };
                let rules = self.rules(route, Side::Gateway(listener));
                let hosts = attached.entry(listener.clone()).or_default();
                let candidates = candidates(route, &rules);
                for host in hostnames {
                    hosts.get_or_insert_with(host, Vec::new).extend(candidates.iter().cloned());
                }
            }
        }
        attached
    }
}

/// What is in all of them.
fn common<'a>(mut gates: impl Iterator<Item = &'a Gate>) -> Gate {
    let first = gates.next().cloned().unwrap_or_default();
    gates.fold(first, |left, gate| {
        let stays = |filter: &&Arc<_>| gate.iter().any(|other| Arc::ptr_eq(filter, other));
        left.iter().filter(stays).cloned().collect()
    })
}

/// Every match of every rule of a route, each competing on its own.
pub(super) fn candidates(route: &Route, rules: &[Arc<Rule>]) -> Vec<Candidate<Arc<Rule>>> {
    let written = route.rules.iter().zip(rules).enumerate();
    let of_rule = |(index, (rule, built)): (usize, (&RouteRule, &Arc<Rule>))| {
        let matches = rule.matches.iter().enumerate();
        let candidate = |(position, wanted): (usize, &_)| Candidate {
            wanted: Arc::new(Clone::clone(wanted)),
            order: RuleOrder::new(&route.meta, index, position),
            value: built.clone(),
        };
        matches.map(candidate).collect::<Vec<_>>()
    };
    written.flat_map(of_rule).collect()
}
