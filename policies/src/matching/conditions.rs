use std::sync::Arc;

use http::{HeaderName, header};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::order::Candidate;
use super::part::Part;
use super::patterns::Patterns;
use super::view::RequestView;
use super::work::Work;

mod build;

/// So many matches are compared one by one; so many branches are looked up one by one.
const FEW: usize = 4;

/// Matches that share a path, as a tree: at each step, the request's value of one part leads on to the matches that
/// want that value. A way down ends in few matches, and is not taken at all if a better one was found on another.
///
/// Positions are those of the table, so that a smaller one is the better match.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// Compared one by one, best first.
    few: Box<[u32]>,
    more: Option<Box<Branches>>,
}

/// Branches by the part of the request that they look at.
#[derive(Clone, Debug, Default)]
struct Branches {
    /// By their best match.
    all: Vec<Branch>,
    /// Where there are more than a few, it is the request that says which to look at.
    by_header: FxHashMap<HeaderName, u32>,
    by_query: FxHashMap<Arc<str>, u32>,
    /// Those that are neither: at most two.
    others: SmallVec<[u32; 2]>,
}

#[derive(Clone, Debug)]
struct Branch {
    part: OwnedPart,
    /// Of all matches below.
    best: u32,
    exact: FxHashMap<Arc<str>, Conditions>,
    patterns: Patterns,
}

#[derive(Clone, Debug)]
enum OwnedPart {
    Path,
    Method,
    Header(HeaderName),
    Query(Arc<str>),
}

/// One lookup: what has been found until now, and what it took.
#[derive(Debug)]
pub(super) struct Search<'a, 'h, T> {
    request: &'a RequestView<'h>,
    ranked: &'a [Candidate<T>],
    /// What is looked at now is there because its path holds.
    pub(super) path_holds: bool,
    /// Beyond all positions while nothing is found.
    found: u32,
    pub(super) work: Work,
}

impl<'a, 'h, T> Search<'a, 'h, T> {
    pub(super) fn new(request: &'a RequestView<'h>, ranked: &'a [Candidate<T>]) -> Self {
        Self { request, ranked, path_holds: false, found: u32::MAX, work: Work::default() }
    }

    /// The best of these matches that holds.
    pub(super) fn best(&mut self, conditions: &Conditions) -> Option<u32> {
        self.found = u32::MAX;
        self.conditions(conditions);
        Some(self.found).filter(|found| *found != u32::MAX)
    }

    fn conditions(&mut self, conditions: &Conditions) {
        self.list(&conditions.few);
        if let Some(branches) = &conditions.more {
            self.branches(branches);
        }
    }

    fn list(&mut self, positions: &[u32]) {
        for at in positions {
            let Some(candidate) = self.ranked.get(*at as usize).filter(|_| *at < self.found) else { return };
            self.work.candidates += 1;
            let (request, wanted) = (self.request, &candidate.wanted);
            let holds = if self.path_holds {
                request.satisfies_beyond_path(wanted)
            } else {
                request.satisfies(wanted)
            };
            if holds {
                self.found = *at;
                return;
            }
        }
    }

    fn branches(&mut self, branches: &Branches) {
        if branches.all.len() <= FEW {
            for branch in &branches.all {
                if branch.best >= self.found {
                    return;
                }
                self.branch(branch);
            }
            return;
        }
        branches.others.iter().for_each(|at| self.numbered(branches, Some(at)));
        if !branches.by_header.is_empty() {
            let names = self.request.header_names();
            // An HTTP/2 request may have no field of that name and still a host.
            for name in names.filter(|name| *name != header::HOST).chain([&header::HOST]) {
                self.numbered(branches, branches.by_header.get(name));
            }
        }
        if !branches.by_query.is_empty() {
            let request = self.request;
            for name in request.query_names() {
                self.numbered(branches, branches.by_query.get(name));
            }
        }
    }

    fn numbered(&mut self, branches: &Branches, at: Option<&u32>) {
        self.work.steps += 1;
        let branch = at.and_then(|at| branches.all.get(*at as usize));
        if let Some(branch) = branch.filter(|branch| branch.best < self.found) {
            self.branch(branch);
        }
    }

    fn branch(&mut self, branch: &Branch) {
        self.work.steps += 1;
        let value = match &branch.part {
            OwnedPart::Path => Some(self.request.path().into()),
            OwnedPart::Method => Some(self.request.method().as_str().into()),
            OwnedPart::Header(name) => self.request.header(name),
            OwnedPart::Query(name) => self.request.query(name).map(Into::into),
        };
        let Some(value) = value else { return };
        if let Some(below) = branch.exact.get(&*value) {
            self.conditions(below);
        }
        branch.patterns.visit(&value, |positions| self.list(positions));
    }
}

impl OwnedPart {
    fn of(part: Part<'_>) -> Option<Self> {
        Some(match part {
            Part::Path => Self::Path,
            Part::Method => Self::Method,
            Part::Header(name) => Self::Header(name.parse().ok()?),
            Part::Query(name) => Self::Query(name.into()),
        })
    }
}
