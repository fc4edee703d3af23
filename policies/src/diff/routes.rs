//! Where requests and connections lead: every match that any of them meets, by the host it is for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::{Fact, Facts};
use super::{Topic, describe};
use crate::matching::{Candidate, RuleOrder, compare, disjoint, shadowed};
use crate::model::{
    BackendName, HostPattern, PathMatch, Resources, Route, RouteKind, RouteMatch, RouteParent, StreamRoute,
};

/// A rule of a route.
type Rule<'a> = (&'a Route, usize);

/// Where matches compete: a host of a listener, or a port of a Service for callers of one namespace.
type Table<'a> = BTreeMap<String, Vec<Candidate<Rule<'a>>>>;

/// Among more matches that are equally specific, their order is not told: it would be a matter of minutes.
const MOST_EQUALS: usize = 500;

pub(super) fn tell(resources: &Resources, facts: &mut Facts) {
    let mut tables = Table::new();
    for route in resources.routes.values() {
        for parent in &route.parents {
            for place in tables_of(resources, route, parent) {
                tables.entry(place).or_default().extend(candidates(route));
            }
        }
    }
    for (place, candidates) in tables {
        table(&place, candidates, facts);
    }
    for route in resources.streams.values() {
        stream(route, facts);
    }
}

fn tables_of(resources: &Resources, route: &Route, parent: &RouteParent) -> Vec<String> {
    match parent {
        RouteParent::Listener { listener, hostnames } => {
            let host = |host: &HostPattern| format!("listener {listener} {}", host_name(host));
            hostnames.iter().map(host).collect()
        }
        RouteParent::Service { service, port } => {
            let consumer = service.namespace != route.meta.name.namespace;
            let callers = match consumer {
                true => format!(" from namespace {}", route.meta.name.namespace),
                false => String::new(),
            };
            let ports = resources.ports_of(service).map(|backend| &backend.name);
            let meant = ports.filter(|name| port.is_none_or(|port| port == name.port));
            meant.map(|name: &BackendName| format!("calls of {name}{callers}")).collect()
        }
    }
}

fn host_name(host: &HostPattern) -> String {
    if *host == HostPattern::Any { String::from("any host") } else { host.to_string() }
}

fn candidates(route: &Route) -> Vec<Candidate<Rule<'_>>> {
    let mut all = Vec::new();
    for (index, rule) in route.rules.iter().enumerate() {
        for (position, wanted) in rule.matches.iter().enumerate() {
            let order = RuleOrder::new(&route.meta, index, position);
            all.push(Candidate { wanted: Arc::new(wanted.clone()), order, value: (route, index) });
        }
    }
    all
}

/// The matches of one place that are ever met.
fn table(place: &str, mut ranked: Vec<Candidate<Rule<'_>>>, facts: &mut Facts) {
    ranked.sort_by(compare);
    let wanted: Vec<&RouteMatch> = ranked.iter().map(|candidate| &*candidate.wanted).collect();
    let dead = shadowed(&wanted);
    let alive: Vec<_> = ranked.iter().zip(&dead).filter(|(_, by)| by.is_none()).map(|(one, _)| one).collect();
    let mut equals = BTreeMap::<_, Vec<&RouteMatch>>::new();
    for candidate in alive {
        let before = equals.entry(rank(&candidate.wanted)).or_default();
        let mut fact = of_rule(candidate.value);
        if before.len() < MOST_EQUALS {
            let first = before.iter().filter(|other| !disjoint(other, &candidate.wanted));
            fact.say("after", first.map(|other| describe::wanted(other)).collect::<Vec<_>>().join("; "));
        }
        before.push(&candidate.wanted);
        facts.add(Topic::Route, format!("{place}: {}", describe::wanted(&candidate.wanted)), fact);
    }
}

/// Those of one rank that may meet are told apart by age and name alone.
fn rank(wanted: &RouteMatch) -> (u8, String, bool, usize, usize) {
    let (kind, path) = match &wanted.path {
        PathMatch::Exact(path) => (0, path.to_string()),
        PathMatch::Regex(_) => (1, String::new()),
        PathMatch::Prefix(path) => (2, path.to_string()),
        PathMatch::AnyService(method) => (3, method.to_string()),
    };
    (kind, path, wanted.method.is_some(), wanted.headers.len(), wanted.query.len())
}

fn of_rule((route, index): Rule<'_>) -> Fact {
    let rule = &route.rules[index];
    let mut fact = Fact::at(&rule.source);
    // Counters, cohorts and sessions go by the name of a rule; without one, by its number.
    let name = rule.name.clone().unwrap_or_else(|| index.to_string().into());
    fact.say("rule", format!("{} {} {name}", route.kind.as_str(), route.meta.name));
    fact.say("backends", describe::backends(&rule.backends));
    fact.say("filters", describe::filters(&rule.filters));
    fact.say("timeouts", describe::timeouts(rule.timeouts));
    if let Some(retry) = &rule.retry {
        fact.say("retry", describe::retry(retry));
    }
    if let Some(session) = &rule.session {
        fact.say("session", describe::session(session));
    }
    if route.kind == RouteKind::Grpc {
        fact.say("protocol", "gRPC");
    }
    fact
}

fn stream(route: &StreamRoute, facts: &mut Facts) {
    for parent in &route.parents {
        let RouteParent::Listener { listener, hostnames } = parent else { continue };
        for host in hostnames {
            let mut fact = Fact::at(&route.rule.source);
            fact.say("rule", format!("{} {}", route.kind.as_str(), route.meta.name));
            let backends = route.rule.backends.iter().map(|backend| {
                let written =
                    backend.target.as_ref().map_or_else(|_| String::from("nowhere"), ToString::to_string);
                describe::share(&backend.target, &written, backend.weight)
            });
            fact.say("backends", backends.collect::<Vec<_>>().join(", "));
            let subject = format!("listener {listener} connections for {}", host_name(host));
            facts.add(Topic::Route, subject, fact);
        }
    }
}
