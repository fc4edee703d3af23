//! Where requests meet an object.

use super::{Held, PlaceSaid};
use crate::attach::{Attachments, Chain, Place};
use crate::explain::is_filter;
use crate::model::{
    BackendName, BackendRef, Policy, ResourceName, Resources, Route, RouteParent, RouteRule, TargetRef,
};

/// What is looked at.
pub(super) struct View<'a> {
    pub(super) resources: &'a Resources,
    pub(super) attachments: Attachments<'a>,
}

/// Where an object is written, and where it is met.
type Met = (Vec<String>, Vec<PlaceSaid>);

impl View<'_> {
    /// Where it is served, and every rule that leads to it.
    pub(super) fn service(&self, name: &ResourceName) -> Met {
        let ports = self.resources.backends.values().filter(|backend| backend.name.object == *name);
        let mut sources: Vec<_> = ports.map(|backend| backend.source.to_string()).collect();
        sources.dedup();
        let served = Chain::inbound(name, self.resources);
        let served = served.iter().map(|chain| {
            let place = String::from("where it is served, in its own sidecars");
            self.said((place, None), Vec::new(), &[(chain, Runs::Filters)])
        });
        let mut places: Vec<_> = served.collect();
        for route in self.resources.routes.values() {
            for (rule, backend) in leading(route) {
                if backend.target.as_ref().is_ok_and(|target| target.object == *name) {
                    places.extend(self.on_the_way(route, rule, &[backend]));
                }
            }
        }
        (sources, places)
    }

    /// Each of its rules, from each of its parents.
    pub(super) fn route(&self, name: &ResourceName) -> Met {
        let routes: Vec<_> =
            self.resources.routes.values().filter(|route| route.meta.name == *name).collect();
        let sources = routes.iter().map(|route| route.meta.source.to_string()).collect();
        let rules = routes.iter().flat_map(|route| route.rules.iter().map(move |rule| (*route, rule)));
        let places = rules.flat_map(|(route, rule)| {
            let backends: Vec<_> = rule.backends.iter().collect();
            self.on_the_way(route, rule, &backends)
        });
        (sources, places.collect())
    }

    /// Each of its listeners, with the routes that are attached there.
    pub(super) fn gateway(&self, name: &ResourceName) -> Met {
        let listeners: Vec<_> =
            self.resources.listeners.values().filter(|listener| listener.name.gateway == *name).collect();
        let sources = listeners.iter().map(|listener| listener.source.to_string()).collect();
        let places = listeners.iter().map(|listener| {
            let attached = self.resources.routes.values().filter(|route| {
                let here = |parent: &RouteParent| matches!(parent, RouteParent::Listener { listener: name, .. } if *name == listener.name);
                route.parents.iter().any(here)
            });
            let routes = attached.map(|route| format!("{} {} ({})", route.kind.as_str(), route.meta.name, route.meta.source));
            let place = Place { resources: self.resources, rule: None };
            let chain = place.gateway(&listener.name, None);
            let hostname = match listener.hostname().to_string() {
                any if any.is_empty() => String::new(),
                host => format!(" for {host}"),
            };
            let words = format!("listener {}, port {}{hostname}", listener.name, listener.port);
            self.said((words, Some(listener.source.to_string())), routes.collect(), &[(&chain, Runs::All)])
        });
        (sources, places.collect())
    }

    /// A rule from each parent of its route, for these of its backends.
    fn on_the_way(&self, route: &Route, rule: &RouteRule, backends: &[&BackendRef]) -> Vec<PlaceSaid> {
        let of_rule = (route.kind.target(), &route.meta.name, rule.name.as_ref());
        let place = Place { resources: self.resources, rule: Some(of_rule) };
        let names: Vec<_> = backends.iter().filter_map(|backend| backend.target.as_ref().ok()).collect();
        let past = |chain: Chain| {
            let chain = chain.past(&rule.filters);
            backends.iter().fold(chain, |chain, backend| chain.past(&backend.filters))
        };
        let leads_to: Vec<_> = backends.iter().map(|backend| leads(backend)).collect();
        let name = rule.name.as_deref().unwrap_or("without a name");
        let by = format!("by {} {} {name}", route.kind.as_str(), route.meta.name);
        let met = |parent: &RouteParent| {
            let (at, chains) = self.chains(place, parent, &names);
            let chains: Vec<_> = chains.into_iter().map(|(chain, runs)| (past(chain), runs)).collect();
            let chains: Vec<_> = chains.iter().map(|(chain, runs)| (chain, *runs)).collect();
            self.said((format!("{at}, {by}"), Some(rule.source.to_string())), leads_to.clone(), &chains)
        };
        route.parents.iter().map(met).collect()
    }

    fn chains(
        &self,
        place: Place<'_>,
        parent: &RouteParent,
        backends: &[&BackendName],
    ) -> (String, Vec<(Chain, Runs)>) {
        match parent {
            RouteParent::Listener { listener, .. } => {
                let to = |backend: &&BackendName| (place.gateway(listener, Some(backend)), Runs::All);
                let none = || vec![(place.gateway(listener, None), Runs::All)];
                let chains: Vec<_> = backends.iter().map(to).collect();
                (format!("at {listener}"), if chains.is_empty() { none() } else { chains })
            }
            RouteParent::Service { service, port } => {
                let ports = self.resources.ports_of(service).map(|backend| &backend.name);
                let meant: Vec<_> = ports.filter(|name| port.is_none_or(|port| port == name.port)).collect();
                let mut chains = vec![(place.outbound_filters(), Runs::Filters)];
                for parent in meant {
                    let to = |backend: &&BackendName| {
                        (place.outbound_breakers(parent, Some(backend)), Runs::Calls)
                    };
                    chains.extend(backends.iter().map(to));
                }
                (format!("in the sidecars of who calls Service {service}"), chains)
            }
        }
    }

    fn said(
        &self,
        (place, source): (String, Option<String>),
        leads_to: Vec<String>,
        chains: &[(&Chain, Runs)],
    ) -> PlaceSaid {
        let (mut effective, mut overridden) = (Vec::new(), Vec::new());
        for (chain, runs) in chains {
            let targets: Vec<&TargetRef> = chain.targets().collect();
            let through = |policy: &Policy| {
                let its = policy.targets.iter().filter(|target| targets.contains(target));
                Held::of(policy, its)
            };
            let holds = self.attachments.effective(chain);
            effective.extend(holds.iter().filter(|policy| runs.here(policy)).map(|policy| through(policy)));
            let there = self.resources.policies.values().filter(|policy| {
                let lost = !holds.iter().any(|one| std::ptr::eq(*one, *policy));
                lost && runs.here(policy) && policy.targets.iter().any(|target| targets.contains(&target))
            });
            overridden.extend(there.map(through));
        }
        for list in [&mut effective, &mut overridden] {
            list.sort();
            list.dedup();
        }
        PlaceSaid { place, source, leads_to, effective, overridden }
    }
}

/// Which kinds of policies have a word at a place.
#[derive(Clone, Copy)]
enum Runs {
    All,
    Filters,
    Calls,
}

impl Runs {
    fn here(self, policy: &Policy) -> bool {
        match self {
            Self::All => true,
            Self::Filters => is_filter(policy),
            Self::Calls => !is_filter(policy),
        }
    }
}

fn leading(route: &Route) -> impl Iterator<Item = (&RouteRule, &BackendRef)> {
    route.rules.iter().flat_map(|rule| rule.backends.iter().map(move |backend| (rule, backend)))
}

fn leads(backend: &BackendRef) -> String {
    match &backend.target {
        Ok(name) => format!("{name}, weight {}", backend.weight),
        Err(_) => format!("{}, which cannot be used, weight {}", backend.identity, backend.weight),
    }
}
