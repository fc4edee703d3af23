//! A match of a route that no request meets, for another one always goes before.
//!
//! Matches are taken from the tables in which requests are looked up, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::subject::{Subject, route_key};
use super::{Findings, Lint};
use crate::matching::{Candidate, shadowed};
use crate::model::{HostPattern, ListenerName, ResourceName, RouteKind, RouteParent, SourceRef};
use crate::snapshot::{BindAddress, Rule};

pub(super) const LINT: Lint = Lint {
    name: "unreachable-rule",
    about: "a rule of a route, or one of its matches, that no request ever meets",
    explanation: "\
Of all matches of all routes for a host the most specific one holds; of equally specific ones that of the older route, then
of the first by name, then the earlier rule. A match that asks for exactly what another one before it asks for gets no
request.

    kind: HTTPRoute
    metadata: {name: a}
    spec: {rules: [{matches: [{path: {type: PathPrefix, value: /cart}}], ...}]}
    ---
    kind: HTTPRoute
    metadata: {name: b}
    spec: {rules: [{matches: [{path: {type: PathPrefix, value: /cart}}], ...}]}     # never reached: `a` is

Regular expressions go before prefixes, so one for every path (`.*`) takes the requests of all prefixes of its host. And a
host belongs to the most specific listener of a port alone: a route for it at another listener gets none of its requests.

Delete the rule, or ask for something that the other one does not.",
    look,
};

/// A match of a rule: kind and name of its route, the places of rule and match.
type Which = (RouteKind, ResourceName, usize, usize);

/// Why no request meets a match.
#[derive(Clone, Debug)]
enum Why {
    /// This one goes before.
    Shadowed(Which, SourceRef),
    /// Its requests belong to another listener.
    Listener(HostPattern, ListenerName, SourceRef),
}

#[derive(Default)]
struct Seen {
    alive: BTreeSet<Which>,
    dead: BTreeMap<Which, Why>,
}

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    let mut seen = Seen::default();
    let sockets = sockets(subject);
    for (host, table) in subject.snapshot.host_tables() {
        let taken =
            sockets.get(&table.bind).and_then(|patterns| other_listener(patterns, &host, table.listener));
        let matches: Vec<_> = table.matches.iter().collect();
        match taken.and_then(|other| Some((other, subject.resources().listeners.get(other)?))) {
            Some((other, listener)) => {
                for candidate in matches {
                    let why = Why::Listener(host.clone(), other.clone(), listener.source.clone());
                    seen.dead.entry(which(candidate)).or_insert(why);
                }
            }
            None => seen.table(&matches),
        }
    }
    for table in subject.snapshot.service_tables() {
        seen.table(&table.iter().collect::<Vec<_>>());
    }
    tell(subject, &seen, findings);
}

/// The listeners of each socket, by their hosts.
fn sockets<'a>(subject: &'a Subject<'_>) -> FxHashMap<BindAddress, BTreeMap<HostPattern, &'a ListenerName>> {
    let mut sockets = FxHashMap::<_, BTreeMap<_, _>>::default();
    for (bind, host, listener) in subject.snapshot.listeners() {
        sockets.entry(bind).or_default().insert(host, listener);
    }
    sockets
}

/// The listener to which all requests for `host` belong, if that is not `own`.
fn other_listener<'a>(
    listeners: &BTreeMap<HostPattern, &'a ListenerName>,
    host: &HostPattern,
    own: &ListenerName,
) -> Option<&'a ListenerName> {
    let first = match host {
        HostPattern::Any => listeners.get(host),
        HostPattern::Exact(name) => listeners.get(host).or_else(|| suffixes(listeners, name)),
        // What is more specific takes some of its requests, not all.
        HostPattern::Suffix(name) => listeners.get(host).or_else(|| suffixes(listeners, name)),
    };
    first.copied().filter(|found| *found != own)
}

/// Of the wildcards that cover all of a name, the most specific one.
fn suffixes<'m, 'a>(
    listeners: &'m BTreeMap<HostPattern, &'a ListenerName>,
    name: &Arc<str>,
) -> Option<&'m &'a ListenerName> {
    let dots = name.match_indices('.').filter(|(at, _)| *at > 0);
    let mut wild = dots.map(|(at, _)| HostPattern::Suffix(name[at + 1..].into()));
    wild.find_map(|pattern| listeners.get(&pattern)).or_else(|| listeners.get(&HostPattern::Any))
}

fn which(candidate: &Candidate<Arc<Rule>>) -> Which {
    let kind = if candidate.value.grpc { RouteKind::Grpc } else { RouteKind::Http };
    let (rule, position) = candidate.order.place();
    (kind, candidate.order.route().clone(), rule, position)
}

impl Seen {
    /// The matches of one host, in the order in which they are tried.
    fn table(&mut self, matches: &[&Candidate<Arc<Rule>>]) {
        let wanted: Vec<_> = matches.iter().map(|candidate| &*candidate.wanted).collect();
        for (candidate, by) in matches.iter().zip(shadowed(&wanted)) {
            match by.and_then(|by| Some((matches[by], matches[by].value.source.clone()?))) {
                Some((by, source)) => {
                    self.dead.entry(which(candidate)).or_insert(Why::Shadowed(which(by), source));
                }
                None => drop(self.alive.insert(which(candidate))),
            }
        }
    }
}

fn tell(subject: &Subject<'_>, seen: &Seen, findings: &mut Findings) {
    let dead: BTreeMap<_, _> = seen.dead.iter().filter(|(which, _)| !seen.alive.contains(*which)).collect();
    let mut told = BTreeSet::new();
    for ((kind, name, index, position), why) in &dead {
        let Some(route) = subject.resources().routes.get(&(*kind, name.clone())) else { continue };
        let Some(rule) = route.rules.get(*index) else { continue };
        let is_dead = |at: usize| dead.contains_key(&(*kind, name.clone(), *index, at));
        let whole = (0..rule.matches.len()).all(is_dead);
        if whole && !told.insert((*kind, name.clone(), *index)) {
            continue;
        }
        // Where a consumer's route holds is not known here.
        if route.parents.iter().any(|parent| is_consumer(parent, name)) {
            continue;
        }
        let pointer = match whole {
            true => format!("/rules/{index}"),
            false => format!("/rules/{index}/matches/{position}"),
        };
        let what = if whole { "this rule" } else { "this match" };
        let (message, help) = words(what, why);
        let key = route_key(kind.as_str(), name);
        let (source, related) = match why {
            Why::Shadowed(_, source) => (source, "this one takes its requests"),
            Why::Listener(_, _, source) => (source, "the listener that takes its requests"),
        };
        findings.tell(key, (rule.source.clone(), pointer), message).help(help).related(source, related);
    }
}

fn words(what: &str, why: &Why) -> (String, &'static str) {
    match why {
        Why::Shadowed((kind, name, index, _), source) => (
            format!(
                "{what} is never reached: rule {index} of {} {name} ({source}) goes before",
                kind.as_str()
            ),
            "delete it, or ask for something that the other one does not",
        ),
        Why::Listener(host, listener, source) => {
            let host = if *host == HostPattern::Any { String::from("any host") } else { format!("`{host}`") };
            let message = format!(
                "{what} is never reached: requests for {host} belong to listener {listener} ({source})"
            );
            (message, "attach the route to that listener")
        }
    }
}

fn is_consumer(parent: &RouteParent, route: &ResourceName) -> bool {
    matches!(parent, RouteParent::Service { service, .. } if service.namespace != route.namespace)
}
