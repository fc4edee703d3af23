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
        // Most maps have no wildcards.
        let within = if self.suffix.is_empty() { "" } else { host };
        let suffixes = within.match_indices('.').filter(|(at, _)| *at > 0);
        let wild = suffixes.filter_map(|(at, _)| self.suffix.get(&within[at + 1..]));
        self.exact.get(host).into_iter().chain(wild).chain(&self.any)
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

    #[test]
    fn a_wildcard_does_not_cover_the_bare_name() {
        assert_eq!(map(&["*.example.com"]).candidates("example.com").count(), 0);
    }
}
