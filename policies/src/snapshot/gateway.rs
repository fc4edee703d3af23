//! A gateway's sockets: which listener a request belongs to, and which rule of it matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::build::Builder;
use super::rule::Side;
use super::{BindAddress, Rejected, Rule};
use crate::matching::{Candidate, HostMap, MatchTable, RequestView, RuleOrder};
use crate::model::{Listener, ListenerName, ResourceType, Route, RouteParent, RouteRule, SourceRef};

/// What is bound to one address: listeners told apart by host name.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) listeners: HostMap<Arc<ListenerRoutes>>,
}

/// One listener with the rules of the routes that are attached to it.
#[derive(Debug)]
pub(super) struct ListenerRoutes {
    pub(super) name: ListenerName,
    pub(super) source: SourceRef,
    pub(super) hosts: HostMap<MatchTable<Arc<Rule>>>,
}

type Collected = HostMap<Vec<Candidate<Arc<Rule>>>>;

impl Socket {
    /// The request belongs to the most specific listener alone (listener isolation); within it, a host pattern
    /// without a matching rule falls back to the next less specific one.
    pub(super) fn find(&self, host: &str, request: &RequestView<'_>) -> Option<&Arc<Rule>> {
        let listener = self.listeners.candidates(host).next()?;
        listener.hosts.candidates(host).find_map(|table| table.find(request))
    }
}

impl Builder<'_> {
    pub(super) fn sockets(&mut self) -> FxHashMap<BindAddress, Socket> {
        let mut hosts = self.attached_rules();
        let mut sockets = FxHashMap::<BindAddress, Socket>::default();
        for listener in self.resources.listeners.values() {
            let hosts = hosts.remove(&listener.name).unwrap_or_default().map(MatchTable::new);
            let (name, source) = (listener.name.clone(), listener.source.clone());
            let routes = Arc::new(ListenerRoutes { name, source, hosts });
            for bind in binds(listener) {
                let socket = sockets.entry(bind).or_default();
                let holder = socket.listeners.get_or_insert_with(&listener.hostname, || routes.clone());
                if !Arc::ptr_eq(holder, &routes) {
                    let reason = format!(
                        "{}: listener {} already has this address, port and hostname",
                        listener.source, holder.name
                    );
                    let name = listener.name.to_string();
                    self.rejected.push(Rejected { resource_type: ResourceType::Listener, name, reason });
                }
            }
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

fn binds(listener: &Listener) -> Vec<BindAddress> {
    let port = listener.port;
    if listener.addresses.is_empty() {
        return vec![BindAddress { ip: None, port }];
    }
    listener.addresses.iter().map(|ip| BindAddress { ip: Some(*ip), port }).collect()
}
