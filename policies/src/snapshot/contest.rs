//! Which matches compete for a request, in their order: for people who ask why it is this one. Requests are routed without.

use std::net::SocketAddr;
use std::sync::Arc;

use http::request;

use super::gateway::{ListenerRoutes, Routes};
use super::outbound::{PortRules, Service};
use super::{Rule, Scope, Snapshot};
use crate::matching::{Candidate, MatchTable, RequestView, authority};
use crate::model::{BackendName, HostPattern, ListenerName, SourceRef};

/// See the module.
#[derive(Debug, Default)]
pub struct Contest<'a> {
    /// At a gateway: the listener to which the request belongs.
    pub listener: Option<(&'a ListenerName, &'a SourceRef)>,
    /// From an application: the port of the Service that it has named.
    pub parent: Option<BackendName>,
    /// The best first.
    pub contenders: Vec<Contender<'a>>,
}

/// A match, and whether it holds.
#[derive(Debug)]
pub struct Contender<'a> {
    /// Of its route, at a listener: a more specific host goes before everything else.
    pub host: Option<HostPattern>,
    pub candidate: &'a Candidate<Arc<Rule>>,
    pub holds: bool,
}

impl Snapshot {
    /// All matches that might be meant by the request's host, whether they hold or not.
    pub fn contest(&self, scope: Scope, head: &request::Parts) -> Contest<'_> {
        let Ok(asked) = authority(head) else { return Contest::default() };
        let view = RequestView::new(head);
        match scope {
            Scope::Inbound | Scope::InboundAt(_) => Contest::default(),
            Scope::Gateway(bind) => {
                let socket = self.sockets.get(&bind);
                let listener = socket.and_then(|socket| socket.listeners.candidates(&asked.host).next());
                listener.map(|listener| at_listener(listener, &asked.host, &view)).unwrap_or_default()
            }
            Scope::Outbound => {
                self.outbound.named(&asked).map(|found| of_service(found, &view)).unwrap_or_default()
            }
            Scope::OutboundTo(address) => self.at(address, &view),
        }
    }

    fn at<'a>(&'a self, address: SocketAddr, view: &RequestView<'_>) -> Contest<'a> {
        let found = self.outbound.at(address);
        found.map(|found| of_service(found, view)).unwrap_or_default()
    }
}

fn at_listener<'a>(listener: &'a ListenerRoutes, host: &str, view: &RequestView<'_>) -> Contest<'a> {
    let mut contest = Contest { listener: Some((&listener.name, &listener.source)), ..Contest::default() };
    let Routes::Requests(hosts) = &listener.routes else { return contest };
    for table in hosts.candidates(host) {
        let pattern = hosts.iter().find(|(_, other)| std::ptr::eq(*other, table)).map(|(pattern, _)| pattern);
        contest.contenders.extend(contenders(table, pattern.as_ref(), view));
    }
    contest
}

fn of_service<'a>((service, port): (&'a Service, u16), view: &RequestView<'_>) -> Contest<'a> {
    let parent = BackendName { kind: service.kind, object: service.name.clone(), port };
    let contenders = match service.ports.get(&port) {
        Some(PortRules::Routed(table)) => contenders(table, None, view).collect(),
        _ => Vec::new(),
    };
    Contest { listener: None, parent: Some(parent), contenders }
}

fn contenders<'a>(
    table: &'a MatchTable<Arc<Rule>>,
    host: Option<&HostPattern>,
    view: &RequestView<'_>,
) -> impl Iterator<Item = Contender<'a>> {
    table.iter().map(move |candidate| Contender {
        host: host.cloned(),
        candidate,
        holds: view.satisfies(&candidate.wanted),
    })
}
