//! Every rule of a snapshot with its matches, in the order in which they are tried: for whoever judges a configuration as a
//! whole, before any request.

use std::sync::Arc;

use super::gateway::{ListenerRoutes, Routes};
use super::outbound::PortRules;
use super::{BindAddress, Rule, Snapshot, Target};
use crate::matching::MatchTable;
use crate::model::{HostPattern, ListenerName};

/// The matches that compete for the requests to one host of one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostTable<'a> {
    pub(crate) bind: BindAddress,
    pub(crate) listener: &'a ListenerName,
    pub(crate) matches: &'a MatchTable<Arc<Rule>>,
}

impl Snapshot {
    /// The tables of the gateways' listeners, by host.
    pub(crate) fn host_tables(&self) -> impl Iterator<Item = (HostPattern, HostTable<'_>)> {
        self.sockets.iter().flat_map(|(bind, socket)| {
            let listeners = socket.listeners.iter().map(|(_, listener)| listener);
            listeners.flat_map(move |listener| listener.tables(*bind))
        })
    }

    /// The tables of Services that have routes.
    pub(crate) fn service_tables(&self) -> impl Iterator<Item = &MatchTable<Arc<Rule>>> {
        let ports = self.outbound.all.iter().flat_map(|service| service.ports.values());
        ports.filter_map(|rules| match rules {
            PortRules::Routed(table) => Some(table),
            PortRules::Direct { .. } => None,
        })
    }

    /// The rules without a route: straight to a Service.
    pub(crate) fn direct_rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let ports = self.outbound.all.iter().flat_map(|service| service.ports.values());
        ports.filter_map(|rules| match rules {
            PortRules::Direct { rule, .. } => Some(rule),
            PortRules::Routed(_) => None,
        })
    }

    /// Everything that requests are led to; what has several matches or hosts is told more than once.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (&Arc<Rule>, &Target)> {
        let hosts = self.host_tables().map(|(_, table)| table.matches);
        let routed =
            hosts.chain(self.service_tables()).flat_map(|table| table.iter().map(|found| &found.value));
        let rules = routed.chain(self.direct_rules());
        rules.flat_map(|rule| rule.targets.iter().map(move |target| (rule, target)))
    }

    /// The listeners that share a socket, by the hosts that they are for.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (BindAddress, HostPattern, &ListenerName)> {
        self.sockets.iter().flat_map(|(bind, socket)| {
            socket.listeners.iter().map(move |(host, listener)| (*bind, host, &listener.name))
        })
    }
}

impl ListenerRoutes {
    fn tables(&self, bind: BindAddress) -> Vec<(HostPattern, HostTable<'_>)> {
        let Routes::Requests(hosts) = &self.routes else { return Vec::new() };
        hosts
            .iter()
            .map(|(host, matches)| (host, HostTable { bind, listener: &self.name, matches }))
            .collect()
    }
}
