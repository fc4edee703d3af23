use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::conditions::{Conditions, Search};
use super::order::{Candidate, compare};
use super::paths::Elements;
use super::view::{RequestView, grpc_method};
use super::work::Work;
use crate::model::PathMatch;

/// The matches of one host, in order of precedence, and an index of them by path, then by [`Conditions`].
#[derive(Clone, Debug)]
pub struct MatchTable<T> {
    /// By precedence, best first; the index holds positions in here.
    ranked: Vec<Candidate<T>>,
    exact: FxHashMap<Arc<str>, Conditions>,
    regex: Conditions,
    prefix: Elements,
    /// By gRPC method, whatever the service.
    any_service: FxHashMap<Arc<str>, Conditions>,
    everything: Conditions,
}

/// Positions of matches by path, before each list becomes an index.
#[derive(Default)]
struct Sorted {
    exact: FxHashMap<Arc<str>, Vec<u32>>,
    regex: Vec<u32>,
    prefix: FxHashMap<Arc<str>, Vec<u32>>,
    any_service: FxHashMap<Arc<str>, Vec<u32>>,
    everything: Vec<u32>,
}

impl Sorted {
    fn push(&mut self, at: u32, path: &PathMatch) {
        let list = match path {
            PathMatch::Exact(path) => self.exact.entry(path.clone()).or_default(),
            PathMatch::Regex(_) => &mut self.regex,
            PathMatch::Prefix(path) if path.is_empty() => &mut self.everything,
            PathMatch::Prefix(path) => self.prefix.entry(path.clone()).or_default(),
            PathMatch::AnyService(method) => self.any_service.entry(method.clone()).or_default(),
        };
        list.push(at);
    }
}

impl<T> MatchTable<T> {
    pub fn new(mut ranked: Vec<Candidate<T>>) -> Self {
        ranked.sort_by(compare);
        let mut sorted = Sorted::default();
        for (at, candidate) in (0..).zip(&ranked) {
            sorted.push(at, &candidate.wanted.path);
        }
        let index = |list: Vec<u32>| Conditions::new(list, |at| &ranked[at as usize].wanted);
        let by_name = |lists: FxHashMap<Arc<str>, Vec<u32>>| -> FxHashMap<_, _> {
            lists.into_iter().map(|(name, list)| (name, index(list))).collect()
        };
        let mut prefix = Elements::default();
        for (path, list) in sorted.prefix {
            prefix.insert(&path, index(list));
        }
        prefix.link();
        let (exact, any_service) = (by_name(sorted.exact), by_name(sorted.any_service));
        let (regex, everything) = (index(sorted.regex), index(sorted.everything));
        Self { exact, regex, prefix, any_service, everything, ranked }
    }

    /// The best match that holds for the request.
    pub fn find(&self, request: &RequestView<'_>) -> Option<&T> {
        self.find_counted(request).0
    }

    /// As [`Self::find`], and what it took.
    pub fn find_counted(&self, request: &RequestView<'_>) -> (Option<&T>, Work) {
        let mut search = Search::new(request, &self.ranked);
        let found = self.by_path(request.path(), &mut search);
        (found.and_then(|at| self.ranked.get(at as usize)).map(|candidate| &candidate.value), search.work)
    }

    /// From path to path in order of precedence: the first of which any match holds has the best one.
    fn by_path(&self, path: &str, search: &mut Search<'_, '_, T>) -> Option<u32> {
        search.path_holds = true;
        if let Some(found) = self.exact.get(path).and_then(|exact| search.best(exact)) {
            return Some(found);
        }
        search.path_holds = false;
        if let Some(found) = search.best(&self.regex) {
            return Some(found);
        }
        search.path_holds = true;
        let deepest = self.prefix.deepest(path, &mut search.work);
        if let Some(found) = self.prefix.upwards(deepest).find_map(|prefix| search.best(prefix)) {
            return Some(found);
        }
        let method = grpc_method(path).and_then(|name| self.any_service.get(name));
        method.and_then(|method| search.best(method)).or_else(|| search.best(&self.everything))
    }

    /// Every match, best first.
    pub fn iter(&self) -> std::slice::Iter<'_, Candidate<T>> {
        self.ranked.iter()
    }
}
