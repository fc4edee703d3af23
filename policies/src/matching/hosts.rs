use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::model::HostPattern;

/// Values by host pattern; a lookup costs one hash per label of the host, however many patterns there are.
#[derive(Clone, Debug)]
pub struct HostMap<T> {
    exact: FxHashMap<Arc<str>, T>,
    /// `example.com` for `*.example.com`.
    suffix: FxHashMap<Arc<str>, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: FxHashMap::default(), suffix: FxHashMap::default(), any: None }
    }
}

impl<T> HostMap<T> {
    pub fn get_or_insert_with(&mut self, pattern: &HostPattern, make: impl FnOnce() -> T) -> &mut T {
        match pattern {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_insert_with(make),
            HostPattern::Suffix(name) => self.suffix.entry(name.clone()).or_insert_with(make),
            HostPattern::Any => self.any.get_or_insert_with(make),
        }
    }

    pub fn contains(&self, pattern: &HostPattern) -> bool {
        match pattern {
            HostPattern::Exact(name) => self.exact.contains_key(name),
            HostPattern::Suffix(name) => self.suffix.contains_key(name),
            HostPattern::Any => self.any.is_some(),
        }
    }

    /// The values whose pattern covers `host` (lower case, no port), most specific first: the exact name, then
    /// wildcards from the longest, then any.
    pub fn candidates<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a T> {
        self.exact.get(host).into_iter().chain(self.wild(host)).chain(&self.any)
    }

    /// What `accept` makes of the first of [`HostMap::candidates`] that it makes anything of. Each request is looked up so, and
    /// an iterator over all of them costs as much as the lookup.
    pub fn find<'a, R>(&'a self, host: &str, mut accept: impl FnMut(&'a T) -> Option<R>) -> Option<R> {
        if let Some(found) = self.exact.get(host).and_then(&mut accept) {
            return Some(found);
        }
        self.wild(host).find_map(&mut accept).or_else(|| self.any.as_ref().and_then(accept))
    }

    fn wild<'a>(&'a self, host: &str) -> impl Iterator<Item = &'a T> {
        // Most maps have no wildcards.
        let dots = (!self.suffix.is_empty()).then(|| host.match_indices('.').filter(|(at, _)| *at > 0));
        dots.into_iter().flatten().filter_map(|(at, _)| self.suffix.get(&host[at + 1..]))
    }

    /// Every pattern with its value, in the order of the patterns.
    pub fn iter(&self) -> impl Iterator<Item = (HostPattern, &T)> {
        let exact = self.exact.iter().map(|(name, value)| (HostPattern::Exact(name.clone()), value));
        let suffix = self.suffix.iter().map(|(name, value)| (HostPattern::Suffix(name.clone()), value));
        let any = self.any.iter().map(|value| (HostPattern::Any, value));
        let mut all: Vec<_> = exact.chain(suffix).chain(any).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all.into_iter()
    }

    /// Turns every value into another one.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> HostMap<U> {
        HostMap {
            exact: self.exact.into_iter().map(|(k, v)| (k, change(v))).collect(),
            suffix: self.suffix.into_iter().map(|(k, v)| (k, change(v))).collect(),
            any: self.any.map(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(patterns: &[&str]) -> HostMap<String> {
        let mut map = HostMap::default();
        for text in patterns {
            map.get_or_insert_with(&HostPattern::parse(text).unwrap(), || (*text).to_owned());
        }
        map
    }

    #[test]
    fn candidates_go_from_the_exact_name_over_the_longest_wildcard_to_any() {
        let map = map(&["", "*.com", "*.example.com", "a.example.com", "*.a.example.com"]);
        let of = |host: &str| map.candidates(host).map(String::as_str).collect::<Vec<_>>().join(" ");
        assert_eq!(of("a.example.com"), "a.example.com *.example.com *.com ");
        assert_eq!(of("x.y.example.com"), "*.example.com *.com ");
        assert_eq!(of("example.com"), "*.com ");
        assert_eq!(of("com"), "");
        assert_eq!(of(".com"), "");
    }

    proptest! {
        #[test]
        fn what_is_found_is_the_first_candidate_that_is_accepted(
            patterns in prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}|", 0..8),
            host in "[ab](\\.[ab]){0,3}",
            least in "[ab]{0,2}",
        ) {
            let map = map(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
            let accept = |pattern: &String| (*pattern >= least).then(|| pattern.clone());
            prop_assert_eq!(map.find(&host, accept), map.candidates(&host).find_map(accept));
        }
    }

    #[test]
    fn a_wildcard_does_not_cover_the_bare_name() {
        assert_eq!(map(&["*.example.com"]).candidates("example.com").count(), 0);
    }
}
