use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use crate::model::{Meta, PathMatch, ResourceName, RouteMatch};

/// Where a match was written, which decides between matches that are otherwise equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOrder {
    /// Seconds since the Unix epoch; unknown is youngest.
    created: i64,
    route: ResourceName,
    rule: usize,
    position: usize,
}

/// One match of one rule, competing with all others of its host on its own.
#[derive(Clone, Debug)]
pub struct Candidate<T> {
    pub wanted: Arc<RouteMatch>,
    pub order: RuleOrder,
    pub value: T,
}

impl RuleOrder {
    /// `rule` and `position` count rules in the route and matches in the rule.
    pub fn new(route: &Meta, rule: usize, position: usize) -> Self {
        let (created, name) = route.precedence();
        Self { created, route: name.clone(), rule, position }
    }

    /// The rule's place in its route and the match's place in the rule.
    pub(crate) fn place(&self) -> (usize, usize) {
        (self.rule, self.position)
    }

    pub(crate) fn route(&self) -> &ResourceName {
        &self.route
    }
}

/// What puts one match before another, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precedence {
    Path,
    Method,
    Headers,
    Query,
    /// Of the routes.
    Age,
    /// Of the routes: namespace, then name.
    Name,
    /// The place of the rule in its route, and of the match in its rule.
    Rule,
}

/// The Gateway API's precedence (`HTTPRouteRule.matches`): exact path, regular expression, longest prefix; then a
/// method; then more headers; then more query parameters; then the older route; then namespace/name; then the
/// earlier rule. `Less` goes first.
///
/// The place of regular expressions is left to implementations. They come before prefixes, because a rule for
/// `PathPrefix /` is in most routes and would make every expression of the host unreachable. Length says nothing
/// about how much an expression covers, so among themselves the rest of the list decides.
pub fn compare<T>(a: &Candidate<T>, b: &Candidate<T>) -> Ordering {
    decided(a, b).0
}

/// As [`compare`], and by what it is decided.
pub fn decided<T>(a: &Candidate<T>, b: &Candidate<T>) -> (Ordering, Precedence) {
    let (ours, theirs) = (&a.wanted, &b.wanted);
    let steps = [
        (path_rank(&ours.path).cmp(&path_rank(&theirs.path)), Precedence::Path),
        (theirs.method.is_some().cmp(&ours.method.is_some()), Precedence::Method),
        (theirs.headers.len().cmp(&ours.headers.len()), Precedence::Headers),
        (theirs.query.len().cmp(&ours.query.len()), Precedence::Query),
        (a.order.created.cmp(&b.order.created), Precedence::Age),
        (a.order.route.cmp(&b.order.route), Precedence::Name),
    ];
    let last = ((a.order.rule, a.order.position).cmp(&(b.order.rule, b.order.position)), Precedence::Rule);
    steps.into_iter().find(|(order, _)| order.is_ne()).unwrap_or(last)
}

/// A gRPC service is a prefix of the path, and service comes before method: a method of any service goes after every
/// service, and before what matches all.
fn path_rank(path: &PathMatch) -> (u8, Reverse<usize>) {
    match path {
        PathMatch::Exact(_) => (0, Reverse(0)),
        PathMatch::Regex(_) => (1, Reverse(0)),
        PathMatch::Prefix(prefix) if !prefix.is_empty() => (2, Reverse(prefix.len())),
        PathMatch::AnyService(method) => (3, Reverse(method.len())),
        PathMatch::Prefix(_) => (4, Reverse(0)),
    }
}
