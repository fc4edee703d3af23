use regex::Regex;

use crate::model::{PathMatch, RouteMatch, StringMatch};

/// A part of a request that matches may ask for, beside a path that the index has already followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Part<'a> {
    /// Of regular expressions only.
    Path,
    Method,
    /// A header's name, in lower case.
    Header(&'a str),
    Query(&'a str),
}

/// What a match wants of one part.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    Exact(&'a str),
    Pattern(&'a Regex),
}

impl<'a> Wanted<'a> {
    fn of(value: &'a StringMatch) -> Self {
        match value {
            StringMatch::Exact(value) => Self::Exact(value),
            StringMatch::Regex(regex) => Self::Pattern(regex),
        }
    }
}

/// Everything that `wanted` asks for and the tree of paths does not tell.
pub(super) fn parts(wanted: &RouteMatch) -> impl Iterator<Item = (Part<'_>, Wanted<'_>)> {
    let path = match &wanted.path {
        PathMatch::Regex(regex) => Some((Part::Path, Wanted::Pattern(regex))),
        PathMatch::Exact(_) | PathMatch::Prefix(_) | PathMatch::AnyService(_) => None,
    };
    let method = wanted.method.iter().map(|method| (Part::Method, Wanted::Exact(method.as_str())));
    let headers = wanted.headers.iter().map(|h| (Part::Header(h.name.as_str()), Wanted::of(&h.value)));
    let query = wanted.query.iter().map(|q| (Part::Query(&q.name), Wanted::of(&q.value)));
    path.into_iter().chain(method).chain(headers).chain(query)
}
