//! Which matches of a host are never met, for another one that goes before takes all of their requests.
//!
//! A match that asks for less goes later in the order of precedence, so that only one that asks for the same can take all
//! requests of another one, or one with patterns that cover what the other one asks for.

use regex::Regex;
use rustc_hash::FxHashMap;

use crate::model::{PathMatch, RouteMatch, StringMatch};

/// More pairs of patterns over equal names are not compared: without them it is linear.
const MOST_PAIRS: usize = 100_000;

/// What a match asks for, apart from values that patterns may cover.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape<'a> {
    path: (u8, &'a str),
    method: Option<&'a str>,
    headers: Vec<&'a str>,
    query: Vec<&'a str>,
}

/// For each of the matches of one host, in order of precedence, the one before it that takes all of its requests.
pub(crate) fn shadowed(ranked: &[&RouteMatch]) -> Vec<Option<usize>> {
    let mut same = FxHashMap::<(Shape<'_>, Vec<String>), usize>::default();
    let mut patterns = FxHashMap::<Shape<'_>, Vec<usize>>::default();
    let (mut everything, mut pairs) = (None::<usize>, 0);
    let mut found = Vec::with_capacity(ranked.len());
    for (at, wanted) in ranked.iter().enumerate() {
        let (shape, values) = (Shape::of(wanted), values(wanted));
        let all_paths = everything.filter(|_| !matches!(wanted.path, PathMatch::Exact(_)));
        let equal = all_paths.or_else(|| same.get(&(shape.clone(), values.clone())).copied());
        let by = equal.or_else(|| {
            let some = patterns.get(&shape).filter(|some| pairs + some.len() <= MOST_PAIRS)?;
            pairs += some.len();
            some.iter().copied().find(|by| covers(ranked[*by], wanted))
        });
        if by.is_none() {
            if takes_all(wanted) {
                everything = Some(at);
            }
            if has_patterns(wanted) {
                patterns.entry(shape.clone()).or_default().push(at);
            }
            same.insert((shape, values), at);
        }
        found.push(by);
    }
    found
}

/// Whether no request can meet both: they ask for different values of one thing.
pub(crate) fn disjoint(a: &RouteMatch, b: &RouteMatch) -> bool {
    let paths = match (&a.path, &b.path) {
        (PathMatch::Exact(a), PathMatch::Exact(b)) | (PathMatch::AnyService(a), PathMatch::AnyService(b)) => {
            a != b
        }
        (PathMatch::Prefix(a), PathMatch::Prefix(b)) => a.len() == b.len() && a != b,
        _ => false,
    };
    let methods = a.method.is_some() && b.method.is_some() && a.method != b.method;
    let differ = |a: &StringMatch, b: &StringMatch| match (a, b) {
        (StringMatch::Exact(a), StringMatch::Exact(b)) => a != b,
        (StringMatch::Exact(text), StringMatch::Regex(regex))
        | (StringMatch::Regex(regex), StringMatch::Exact(text)) => !regex.is_match(text),
        (StringMatch::Regex(_), StringMatch::Regex(_)) => false,
    };
    paths
        || methods
        || a.headers.iter().any(|a| b.headers.iter().any(|b| a.name == b.name && differ(&a.value, &b.value)))
        || a.query.iter().any(|a| b.query.iter().any(|b| a.name == b.name && differ(&a.value, &b.value)))
}

impl<'a> Shape<'a> {
    fn of(wanted: &'a RouteMatch) -> Self {
        let path = match &wanted.path {
            PathMatch::Exact(path) => (0, &**path),
            PathMatch::Regex(regex) => (1, regex.as_str()),
            PathMatch::Prefix(prefix) => (2, &**prefix),
            PathMatch::AnyService(method) => (3, &**method),
        };
        let mut headers: Vec<_> = wanted.headers.iter().map(|header| header.name.as_str()).collect();
        let mut query: Vec<_> = wanted.query.iter().map(|query| &*query.name).collect();
        headers.sort_unstable();
        query.sort_unstable();
        Self { path, method: wanted.method.as_ref().map(http::Method::as_str), headers, query }
    }
}

/// Of headers and parameters, in the order of their names.
fn values(wanted: &RouteMatch) -> Vec<String> {
    let text = |value: &StringMatch| match value {
        StringMatch::Exact(text) => format!("={text}"),
        StringMatch::Regex(regex) => format!("~{}", regex.as_str()),
    };
    let headers = wanted.headers.iter().map(|header| format!("h{}{}", header.name, text(&header.value)));
    let query = wanted.query.iter().map(|query| format!("q{}{}", query.name, text(&query.value)));
    let mut values: Vec<_> = headers.chain(query).collect();
    values.sort();
    values
}

fn has_patterns(wanted: &RouteMatch) -> bool {
    let is_pattern = |value: &StringMatch| matches!(value, StringMatch::Regex(_));
    wanted.headers.iter().any(|header| is_pattern(&header.value))
        || wanted.query.iter().any(|query| is_pattern(&query.value))
}

/// Whether every value that `narrow` takes is one that `wide` takes; both ask for the same names.
fn covers(wide: &RouteMatch, narrow: &RouteMatch) -> bool {
    let value = |wide: &StringMatch, narrow: &StringMatch| match (wide, narrow) {
        (StringMatch::Regex(_), StringMatch::Exact(text)) => wide.matches(text),
        _ => wide == narrow,
    };
    let headers = wide
        .headers
        .iter()
        .all(|a| narrow.headers.iter().filter(|b| b.name == a.name).all(|b| value(&a.value, &b.value)));
    let query = wide
        .query
        .iter()
        .all(|a| narrow.query.iter().filter(|b| b.name == a.name).all(|b| value(&a.value, &b.value)));
    headers && query
}

/// An expression for every path, and nothing else.
fn takes_all(wanted: &RouteMatch) -> bool {
    let PathMatch::Regex(regex) = &wanted.path else { return false };
    wanted.method.is_none() && wanted.headers.is_empty() && wanted.query.is_empty() && is_any_path(regex)
}

/// `.*` and its kin, as they are compiled. A path has no line breaks: it is visible ASCII.
fn is_any_path(regex: &Regex) -> bool {
    matches!(regex.as_str(), "^(?:.*)$" | "^(?:/.*)$" | "^(?:.+)$" | "^(?:^.*$)$" | "^(?:^/.*$)$")
}
