//! The index finds what the specification's words find, read one by one and without any index.

use std::borrow::Cow;
use std::cmp::Ordering;

use http::HeaderName;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::model::{HostPattern, PathMatch, RouteMatch};

/// Conditions beside the path: few values of several parts, so that many matches share some of them.
const CONDITIONS: &[&str] = &[
    "GET",
    "POST",
    "a:1",
    "a:2",
    "a:~[12]",
    "b:1",
    "b:~.*need1e.*",
    "c:1",
    "c:2",
    "d:1",
    "e:1",
    "f:1",
    "g:~1",
    "?p=1",
    "?p=2",
    "?p=~.+",
    "?q=1",
    "?r=1",
    "?s=1",
    "?t=1",
];

const PATHS: &[&str] = &[
    "=/",
    "=/a",
    "=/a/",
    "=/a/b",
    "/",
    "/",
    "/",
    "/a",
    "/a/b",
    "/a/b/c",
    "/ab",
    "~/a.*",
    "~/.*b",
    "~/a/[bc]",
    "~/(a|abc)/b",
    "~(?i)/A/B",
    "~/[a-z]+/[a-z]+",
    "~/(abc|a/b)/c",
    "~/a/b/c+",
    "~/.*/b/c",
    "*b",
    "*c",
];

fn any_match(
    paths: impl Into<Cow<'static, [&'static str]>>,
    conditions: Vec<&'static str>,
) -> impl Strategy<Value = RouteMatch> {
    let most = conditions.len().min(4);
    (select(paths), subsequence(conditions, 0..=most)).prop_map(|(path, beyond)| {
        // One entry for each name, as documents are compiled.
        let name = |text: &str| text.split([':', '=']).next().unwrap_or_default().to_owned();
        let mut kept: Vec<&str> = Vec::new();
        for text in beyond {
            let is_method = |t: &str| t == "GET" || t == "POST";
            let taken = |k: &&str| name(k) == name(text) || (is_method(k) && is_method(text));
            if !kept.iter().any(taken) {
                kept.push(text);
            }
        }
        matching(&format!("{path} {}", kept.join(" ")))
    })
}

fn any_candidate() -> impl Strategy<Value = Candidate<usize>> {
    placed(any_match(PATHS, CONDITIONS.to_vec()))
}

fn placed(wanted: impl Strategy<Value = RouteMatch>) -> impl Strategy<Value = Candidate<usize>> {
    let created = proptest::option::of(0_i64..3);
    (wanted, select(vec!["a/a", "a/b", "b/a"]), created, 0_usize..3).prop_map(
        |(wanted, route, created, rule)| {
            let meta = Meta { created, ..fixture::meta(route) };
            Candidate { wanted: Arc::new(wanted), order: RuleOrder::new(&meta, rule, 0), value: 0 }
        },
    )
}

/// Of few paths and few conditions, so that they stand in each other's way: what an index has to tell apart.
fn candidates(most: usize) -> impl Strategy<Value = Vec<Candidate<usize>>> {
    let alphabet = (subsequence(PATHS, 1..=3), subsequence(CONDITIONS, 2..=CONDITIONS.len()));
    let all =
        alphabet.prop_flat_map(move |(paths, conditions)| vec(placed(any_match(paths, conditions)), 0..most));
    all.prop_map(|mut all| {
        all.iter_mut().enumerate().for_each(|(value, candidate)| candidate.value = value);
        all
    })
}

fn any_request() -> impl Strategy<Value = request::Parts> {
    const PATHS: &[&str] =
        &["/", "/a", "/a/", "/a/b", "/a/b/c", "/a/c", "/ab", "/abc/b", "/a//b", "/A/B", "/x/b/c", "*"];
    const HEADERS: &[&str] =
        &["a: 1", "a: 2", "b: 1", "b: a need1e", "c: 1", "d: 1", "e: 1", "f: 1", "g: 1", "z: 1"];
    const QUERY: &[&str] =
        &["p=1", "p=2", "%70=1", "q=1", "q=2", "r=1", "s=1", "t=1", "t", "u=1", "v=1", "w=1"];
    let headers = subsequence(HEADERS, 0..=HEADERS.len());
    let query = subsequence(QUERY, 0..=QUERY.len()).prop_shuffle();
    (select(vec!["GET", "POST", "PUT"]), select(PATHS), headers, query).prop_map(|(m, path, h, query)| {
        let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
        let uri = if path == "*" { path } else { &uri };
        request(m, uri, &h.iter().filter_map(|h| h.split_once(": ")).collect::<Vec<_>>())
    })
}

fn naive(candidates: &[Candidate<usize>], head: &request::Parts) -> Option<usize> {
    let matching = candidates.iter().filter(|candidate| holds(&candidate.wanted, head));
    matching.min_by(|a, b| compare(a, b)).map(|candidate| candidate.value)
}

fn holds(wanted: &RouteMatch, head: &request::Parts) -> bool {
    let header = |name: &HeaderName| {
        let fields: Vec<_> = head.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
        (!fields.is_empty()).then(|| fields.join(","))
    };
    let query = |name: &str| {
        let mut pairs = head.uri.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(key, _)| key.replace("%70", "p") == name).map(|(_, value)| value)
    };
    path_holds(&wanted.path, head.uri.path())
        && wanted.method.as_ref().is_none_or(|method| *method == head.method)
        && wanted.headers.iter().all(|h| header(&h.name).is_some_and(|v| h.value.matches(&v)))
        && wanted.query.iter().all(|q| query(&q.name).is_some_and(|v| q.value.matches(v)))
}

fn path_holds(wanted: &PathMatch, path: &str) -> bool {
    let elements = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    match wanted {
        PathMatch::Exact(exact) => **exact == *path,
        PathMatch::Prefix(prefix) if prefix.is_empty() => true,
        PathMatch::Prefix(prefix) => elements(path).starts_with(&elements(prefix)),
        PathMatch::Regex(regex) => regex.is_match(path),
        PathMatch::AnyService(method) => match &elements(path)[..] {
            [root, service, name] => root.is_empty() && !service.is_empty() && *name == **method,
            _ => false,
        },
    }
}

/// Two matches at one place rank the same; either may be found.
fn same(candidates: &[Candidate<usize>], found: Option<usize>, expected: Option<usize>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => compare(&candidates[found], &candidates[expected]).is_eq(),
        (found, expected) => found.is_none() && expected.is_none(),
    }
}

fn any_host() -> impl Strategy<Value = HostPattern> {
    const HOSTS: &[&str] = &["", "*.com", "*.b.com", "*.a.b.com", "a.b.com", "b.com", "x.a.b.com", "*.org"];
    select(HOSTS).prop_map(|text| HostPattern::parse(text).unwrap())
}

/// "Matches more characters": the order of `HTTPRouteSpec.hostnames`, by its own words.
fn specificity(pattern: &HostPattern) -> (bool, usize) {
    (matches!(pattern, HostPattern::Exact(_)), pattern.to_string().len())
}

proptest! {
    #[test]
    fn precedence_is_a_total_order(a in any_candidate(), b in any_candidate(), c in any_candidate()) {
        prop_assert_eq!(compare(&a, &a), Ordering::Equal);
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
            prop_assert!(compare(&a, &c).is_le());
        }
        // Only matches written at the same place can be equal.
        prop_assert!(a.order == b.order || compare(&a, &b).is_ne());
    }

    #[test]
    fn the_index_finds_what_a_naive_search_finds(all in candidates(60), heads in vec(any_request(), 1..8)) {
        let table = MatchTable::new(all.clone());
        for head in &heads {
            let (found, expected) = (table.find(&RequestView::new(head)).copied(), naive(&all, head));
            prop_assert!(same(&all, found, expected), "{head:?}: found {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn the_most_specific_host_with_a_match_has_the_request(
        routes in vec((any_host(), any_candidate()), 0..40),
        host in select(vec!["a.b.com", "b.com", "x.a.b.com", "y.b.com", "y.com", "com", "z.org", "a"]),
        head in any_request(),
    ) {
        let mut hosts = HostMap::<Vec<Candidate<usize>>>::default();
        let mut all = Vec::new();
        for (value, (pattern, candidate)) in routes.into_iter().enumerate() {
            let candidate = Candidate { value, ..candidate };
            hosts.get_or_insert_with(&pattern, Vec::new).push(candidate.clone());
            all.push((pattern, candidate));
        }
        let matching = all.iter().filter(|(p, c)| p.matches(host) && holds(&c.wanted, &head));
        let by_words = matching.min_by(|(p, a), (q, b)| {
            specificity(q).cmp(&specificity(p)).then_with(|| compare(a, b))
        });
        let expected = by_words.map(|(_, candidate)| candidate.value);
        let (hosts, view) = (hosts.map(MatchTable::new), RequestView::new(&head));
        let found = hosts.candidates(host).find_map(|table| table.find(&view)).copied();
        let candidates: Vec<_> = all.into_iter().map(|(_, candidate)| candidate).collect();
        prop_assert!(same(&candidates, found, expected), "found {found:?}, not {expected:?}");
    }
}
