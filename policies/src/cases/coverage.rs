use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::decision::Decision;
use crate::kinds;
use crate::model::{Resources, SourceRef};

/// Which rules there are, and which of them were seen to decide something. What a file of cases writes itself is not asked
/// for: it is there for the sake of its cases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Where each rule is written, by its words.
    there: BTreeMap<String, SourceRef>,
    shown: BTreeSet<String>,
}

impl Coverage {
    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.there.len()
    }

    /// The rules that decided nothing, by their words (`RateLimitPolicy shop/strict everyone`), and where they are written.
    pub fn unseen(&self) -> impl Iterator<Item = (&str, &SourceRef)> {
        let unseen = self.there.iter().filter(|(words, _)| !self.shown.contains(*words));
        unseen.map(|(words, source)| (words.as_str(), source))
    }

    /// Adds what another file has shown.
    pub fn merge(&mut self, other: Self) {
        self.there.extend(other.there);
        self.shown.extend(other.shown);
    }

    pub(super) fn expect(&mut self, resources: &Resources, cases: &Arc<str>) {
        let elsewhere =
            |source: &SourceRef| !matches!(source, SourceRef::File { path, .. } if **path == **cases);
        let routes = resources.routes.values().flat_map(|route| {
            let rules = route.rules.iter().enumerate();
            rules.map(|(i, rule)| {
                let name = rule.name.as_deref().map_or_else(|| i.to_string(), str::to_owned);
                (route_words(&route.meta.name.to_string(), &name), rule.source.clone())
            })
        });
        let policies = resources.policies.values().flat_map(|policy| {
            let rules = kinds::find(&policy.kind).map(|entry| entry.rules(policy)).unwrap_or_default();
            let words = |name: &str| format!("{} {} {name}", policy.kind, policy.meta.name);
            rules.into_iter().map(move |rule| (words(&rule.name), rule.source.clone()))
        });
        self.there.extend(routes.chain(policies).filter(|(_, source)| elsewhere(source)));
    }

    pub(super) fn show(&mut self, shown: &BTreeSet<String>) {
        self.shown.extend(shown.iter().cloned());
    }
}

/// The rule of a route, as it is told where no request took it.
pub(super) fn route_words(route: &str, rule: &str) -> String {
    format!("route {route} rule {rule}")
}

/// The rule that has decided.
pub(super) fn policy_words(Decision { policy, rule, .. }: &Decision) -> String {
    format!("{} {} {}", policy.kind, policy.name, rule.name)
}
