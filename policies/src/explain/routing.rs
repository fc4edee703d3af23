//! Which rule it is, and what puts it before the others.

use std::cmp::Ordering;
use std::sync::Arc;

use http::request;
use serde::Serialize;

use crate::matching::{Precedence, RequestView, decided};
use crate::model::{PathMatch, RouteMatch};
use crate::snapshot::{Contender, Contest, Rule, describe_match};

/// So many of those that do not hold are told of.
const MOST_OTHERS: usize = 5;

/// See the module.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Routing {
    /// `namespace/gateway/name (path:line)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// The port of the Service that an application has named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Absent where there is no rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<MatchSaid>,
    /// Those that hold too, the best first.
    pub next: Vec<Rival>,
    /// Of those that do not hold, the first.
    pub others: Vec<Rival>,
}

/// A match of a rule.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MatchSaid {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `GET /cart/* x-canary=1`; absent where everything matches.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub wanted: Option<String>,
}

/// A match that it is not.
#[derive(Clone, Debug, Serialize)]
pub struct Rival {
    #[serde(flatten)]
    pub said: MatchSaid,
    /// Why not.
    pub why: String,
}

impl Routing {
    pub(super) fn of(contest: &Contest<'_>, chosen: Option<&Arc<Rule>>, head: &request::Parts) -> Self {
        let all = || contest.contenders.iter();
        let winner =
            all().find(|one| one.holds && chosen.is_some_and(|rule| Arc::ptr_eq(rule, &one.candidate.value)));
        let lost = all().filter(|one| one.holds && !winner.is_some_and(|winner| std::ptr::eq(winner, *one)));
        let next = lost.map(|one| {
            let why =
                winner.map_or_else(|| String::from("no rule is chosen"), |winner| why_after(winner, one));
            Rival { said: MatchSaid::of(one), why }
        });
        let view = RequestView::new(head);
        let others = all().filter(|one| !one.holds).take(MOST_OTHERS);
        let others =
            others.map(|one| Rival { said: MatchSaid::of(one), why: why_not(&one.candidate.wanted, &view) });
        Self {
            listener: contest.listener.map(|(name, source)| format!("{name} ({source})")),
            service: contest.parent.as_ref().map(ToString::to_string),
            chosen: winner.map(MatchSaid::of).or_else(|| chosen.map(|rule| MatchSaid::of_rule(rule))),
            next: next.collect(),
            others: others.collect(),
        }
    }
}

impl MatchSaid {
    fn of(contender: &Contender<'_>) -> Self {
        let wanted = Some(describe_match(&contender.candidate.wanted));
        Self { wanted, ..Self::of_rule(&contender.candidate.value) }
    }

    fn of_rule(rule: &Rule) -> Self {
        Self {
            route: rule.route.as_deref().map(str::to_owned),
            rule: rule.name.to_string(),
            source: rule.source.as_ref().map(ToString::to_string),
            wanted: None,
        }
    }
}

/// What puts `winner` before `other`.
fn why_after(winner: &Contender<'_>, other: &Contender<'_>) -> String {
    if winner.host != other.host {
        let host = |one: &Contender<'_>| match one.host.as_ref().map(ToString::to_string).unwrap_or_default()
        {
            any if any.is_empty() => String::from("any host"),
            host => host,
        };
        return format!("{} is more specific than {}", host(winner), host(other));
    }
    let (order, by) = decided(winner.candidate, other.candidate);
    let (ours, theirs) = (&winner.candidate.wanted, &other.candidate.wanted);
    let why = match by {
        Precedence::Path => path(&ours.path, &theirs.path),
        Precedence::Method => String::from("the chosen one asks for a method"),
        Precedence::Headers => more("headers", ours.headers.len(), theirs.headers.len()),
        Precedence::Query => more("query parameters", ours.query.len(), theirs.query.len()),
        Precedence::Age => String::from("the route of the chosen one is older"),
        Precedence::Name => String::from("the route of the chosen one comes first by namespace and name"),
        Precedence::Rule => String::from("the chosen one is written before it in the same route"),
    };
    // The order of a table cannot be another; to say so is better than to explain the contrary.
    if order == Ordering::Greater { format!("against the order of precedence: {why}") } else { why }
}

fn more(what: &str, ours: usize, theirs: usize) -> String {
    format!("the chosen one asks for more {what}: {ours}, not {theirs}")
}

fn path(ours: &PathMatch, theirs: &PathMatch) -> String {
    match (ours, theirs) {
        (PathMatch::Exact(_), _) => String::from("an exact path goes before everything else"),
        (PathMatch::Regex(_), _) => String::from("a regular expression goes before a prefix"),
        (PathMatch::Prefix(_), PathMatch::Prefix(_)) => String::from("the path of the chosen one is longer"),
        (PathMatch::Prefix(_), _) => String::from("a prefix goes before a gRPC method of any service"),
        (PathMatch::AnyService(_), _) => String::from("a gRPC method goes before what matches all"),
    }
}

/// The first part of a match that the request does not have.
fn why_not(wanted: &RouteMatch, view: &RequestView<'_>) -> String {
    let any = || RouteMatch {
        path: PathMatch::Prefix("".into()),
        method: None,
        headers: Vec::new(),
        query: Vec::new(),
    };
    let path = RouteMatch { path: wanted.path.clone(), ..any() };
    let method = RouteMatch { method: wanted.method.clone(), ..any() };
    let headers = wanted.headers.iter().map(|one| RouteMatch { headers: vec![one.clone()], ..any() });
    let query = wanted.query.iter().map(|one| RouteMatch { query: vec![one.clone()], ..any() });
    let mut parts = [path, method].into_iter().chain(headers).chain(query);
    let Some(missing) = parts.find(|part| !view.satisfies(part)) else {
        return String::from("the request does not match");
    };
    let words = describe_match(&missing);
    match (missing.method, missing.headers.len() + missing.query.len()) {
        (Some(method), _) => format!("it asks for {method}"),
        (None, 0) => format!("its path is {words}"),
        (None, _) => format!("it asks for {}", words.trim_start_matches("/* ")),
    }
}
