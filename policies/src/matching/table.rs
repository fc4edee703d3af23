use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::order::{Candidate, compare};
use super::view::{RequestView, grpc_method};
use crate::model::PathMatch;

/// The matches of one host, in order of precedence, indexed by path: what a lookup costs depends on the request's
/// path and on the matches that share it, not on how many others there are. Regular expressions are tried in turn.
#[derive(Clone, Debug)]
pub struct MatchTable<T> {
    /// By precedence, best first.
    ranked: Vec<Candidate<T>>,
    exact: FxHashMap<Arc<str>, Vec<u32>>,
    regex: Vec<u32>,
    prefix: FxHashMap<Arc<str>, Vec<u32>>,
    /// By gRPC method, whatever the service.
    any_service: FxHashMap<Arc<str>, Vec<u32>>,
    /// Longer parts of a request's path need not be looked up: a path of slashes only would cost its square.
    longest_prefix: usize,
}

impl<T> MatchTable<T> {
    pub fn new(mut ranked: Vec<Candidate<T>>) -> Self {
        ranked.sort_by(compare);
        let mut exact = FxHashMap::<_, Vec<_>>::default();
        let mut prefix = FxHashMap::<Arc<str>, Vec<_>>::default();
        let mut any_service = FxHashMap::<Arc<str>, Vec<_>>::default();
        let mut regex = Vec::new();
        for (at, candidate) in (0..).zip(&ranked) {
            match &candidate.wanted.path {
                PathMatch::Exact(path) => exact.entry(path.clone()).or_default().push(at),
                PathMatch::Regex(_) => regex.push(at),
                PathMatch::Prefix(path) => prefix.entry(path.clone()).or_default().push(at),
                PathMatch::AnyService(method) => any_service.entry(method.clone()).or_default().push(at),
            }
        }
        let longest_prefix = prefix.keys().map(|path| path.len()).max().unwrap_or(0);
        Self { ranked, exact, regex, prefix, any_service, longest_prefix }
    }

    /// The best match that holds for the request.
    pub fn find(&self, request: &RequestView<'_>) -> Option<&T> {
        let found = self
            .exact
            .get(request.path())
            .and_then(|list| self.first(list, |c| request.satisfies_beyond_path(&c.wanted)))
            .or_else(|| self.first(&self.regex, |c| request.satisfies(&c.wanted)))
            .or_else(|| {
                let short = prefixes(request.path()).filter(|prefix| prefix.len() <= self.longest_prefix);
                let some = short.filter(|prefix| !prefix.is_empty()).filter_map(|p| self.prefix.get(p));
                let method = grpc_method(request.path()).and_then(|name| self.any_service.get(name));
                let mut lists = some.chain(method).chain(self.prefix.get(""));
                lists.find_map(|list| self.first(list, |c| request.satisfies_beyond_path(&c.wanted)))
            });
        found.map(|candidate| &candidate.value)
    }

    /// Every match, best first.
    pub fn iter(&self) -> std::slice::Iter<'_, Candidate<T>> {
        self.ranked.iter()
    }

    fn first(&self, list: &[u32], holds: impl Fn(&Candidate<T>) -> bool) -> Option<&Candidate<T>> {
        list.iter().filter_map(|at| self.ranked.get(*at as usize)).find(|candidate| holds(candidate))
    }
}

/// The element-wise prefixes of a path, longest first, ending with the empty one: `/a/b`, `/a`, ``.
/// The whole path counts as a prefix of itself.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let whole = (!path.is_empty()).then_some(path);
    whole.into_iter().chain(path.rmatch_indices('/').map(|(at, _)| &path[..at])).chain(
        // A path that does not start with a slash (`*`) is still covered by the empty prefix.
        (!path.starts_with('/')).then_some(""),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_go_from_the_whole_path_to_nothing() {
        assert_eq!(prefixes("/a/b").collect::<Vec<_>>(), ["/a/b", "/a", ""]);
        assert_eq!(prefixes("/a/").collect::<Vec<_>>(), ["/a/", "/a", ""]);
        assert_eq!(prefixes("/").collect::<Vec<_>>(), ["/", ""]);
        assert_eq!(prefixes("*").collect::<Vec<_>>(), ["*", ""]);
        assert_eq!(prefixes("").collect::<Vec<_>>(), [""]);
    }
}
