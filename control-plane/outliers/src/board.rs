//! All endpoints that somebody has something to say about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::votes::Votes;
use crate::{Rules, Statement, Suspicion};

/// Takes statements at any time, and says who is suspect when it is asked to judge, several times a second.
#[derive(Debug)]
pub struct Board {
    most: Most,
    number: u64,
    backends: BTreeMap<Arc<str>, Backend>,
}

/// What a board keeps at most; what comes beyond is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    pub backends: usize,
    /// Endpoints of one backend.
    pub endpoints: usize,
    /// Proxies that speak of one endpoint.
    pub reporters: usize,
}

#[derive(Debug)]
struct Backend {
    rules: Rules,
    endpoints: BTreeMap<Arc<str>, Votes>,
}

impl Board {
    /// `number` must be greater than that of every suspicion of a board before: the time will do.
    pub fn new(most: Most, number: u64) -> Self {
        Self { most, number, backends: BTreeMap::new() }
    }

    /// The rules have changed: `rules` says what holds for a backend now. Where there are none, all is forgotten.
    pub fn rewrite(&mut self, rules: impl Fn(&str) -> Option<Rules>) {
        self.backends.retain(|name, backend| match rules(name) {
            Some(rules) => {
                backend.rules = rules;
                true
            }
            None => false,
        });
    }

    /// What `reporter` says of an endpoint, where `rules` hold. Says whether it was heard.
    pub fn take(
        &mut self,
        reporter: u64,
        about: (&str, &str),
        said: Statement,
        rules: Rules,
        now: Duration,
    ) -> bool {
        let (backend, endpoint) = about;
        let known = self.backends.get_mut(backend);
        if let Some(votes) = known.and_then(|known| known.endpoints.get_mut(endpoint)) {
            return votes.take(reporter, said, self.most.reporters, now);
        }
        // That all is well is worth a memory only where somebody says that it is not.
        let has_room = self.backends.contains_key(backend) || self.backends.len() < self.most.backends;
        if said.failing.is_none() || !has_room {
            return false;
        }
        let new = || Backend { rules, endpoints: BTreeMap::new() };
        let known = self.backends.entry(backend.into()).or_insert_with(new);
        if known.endpoints.len() >= self.most.endpoints {
            return false;
        }
        let votes = known.endpoints.entry(endpoint.into()).or_default();
        votes.take(reporter, said, self.most.reporters, now)
    }

    /// Looks at everything anew; returns the backends whose suspects are not what they were.
    pub fn judge(&mut self, now: Duration) -> BTreeSet<Arc<str>> {
        let mut changed = BTreeSet::new();
        for (name, backend) in &mut self.backends {
            for votes in backend.endpoints.values_mut() {
                if votes.judge(&backend.rules, &mut self.number, now) {
                    changed.insert(name.clone());
                }
            }
            backend.endpoints.retain(|_, votes| !votes.is_empty());
        }
        self.backends.retain(|_, backend| !backend.endpoints.is_empty());
        changed
    }

    /// The endpoints of which everybody is to say what they know, by backend.
    pub fn asked(&self) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
        let of = |backend: &Backend| {
            let asked = backend.endpoints.iter().filter(|(_, votes)| votes.is_asked());
            asked.map(|(endpoint, _)| endpoint.clone()).collect::<BTreeSet<_>>()
        };
        let all = self.backends.iter().map(|(name, backend)| (name.clone(), of(backend)));
        all.filter(|(_, endpoints)| !endpoints.is_empty()).collect()
    }

    /// The backends that anything is known of.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<str>> {
        self.backends.keys()
    }

    /// The number of the last suspicion.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether nobody has a word of failure.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// The suspects of a backend.
    pub fn suspects(&self, backend: &str) -> impl Iterator<Item = (&Arc<str>, Suspicion)> {
        let endpoints = self.backends.get(backend).into_iter().flat_map(|backend| &backend.endpoints);
        endpoints.filter_map(|(endpoint, votes)| Some((endpoint, votes.suspicion?)))
    }
}

#[cfg(test)]
mod tests;
