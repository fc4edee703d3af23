use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderValue, Method, Uri};
use rustc_hash::FxHashMap;

use super::answers::Answers;
use super::plan::Plan;
use super::request::Request;
use super::simulator::Simulator;
use super::tally::{By, Tally, Verdict};
use crate::Reason;
use crate::time::Timestamp;

/// The same traffic through two sets of policies, and whose verdict differs.
#[derive(Debug)]
pub struct Comparison<'p> {
    before: Simulator<'p>,
    after: Simulator<'p>,
    spare: Request,
    number: u64,
    open: FxHashMap<u64, Open>,
    changes: Vec<Change>,
    changed: u64,
    others: u64,
}

/// A request that has not ended on both sides.
#[derive(Debug)]
struct Open {
    asked: Example,
    /// That of the side that was first.
    first: Option<(bool, Verdict)>,
}

/// What became of many requests in the same way.
#[derive(Clone, Debug)]
pub struct Change {
    pub from: Ended,
    pub to: Ended,
    /// The rule that refuses now; else the one that did before.
    pub by: Option<By>,
    pub count: u64,
    pub examples: Vec<Example>,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: u16,
    pub reason: Option<Reason>,
    pub backend: Option<Arc<str>>,
}

/// A request, as people would name it.
#[derive(Clone, Debug)]
pub struct Example {
    pub at: Timestamp,
    pub method: Method,
    pub host: Option<HeaderValue>,
    pub uri: Uri,
    pub client: IpAddr,
}

/// Changes of more kinds than these are only counted.
const CHANGES: usize = 256;
const EXAMPLES: usize = 3;

impl<'p> Comparison<'p> {
    pub fn new((before, after): (&'p Plan, &'p Plan), answers: impl Fn() -> Answers, seed: u64) -> Self {
        Self {
            before: Simulator::new(before, answers(), seed).telling(),
            after: Simulator::new(after, answers(), seed).telling(),
            spare: Request::default(),
            number: 0,
            open: FxHashMap::default(),
            changes: Vec::new(),
            changed: 0,
            others: 0,
        }
    }

    /// As [`Simulator::push`], to both.
    pub fn push(&mut self, request: &mut Request) {
        let asked = Example {
            at: request.at,
            method: request.head.method.clone(),
            host: request.head.headers.get(HOST).cloned(),
            uri: request.head.uri.clone(),
            client: request.peer.address.ip(),
        };
        self.open.insert(self.number, Open { asked, first: None });
        self.number += 1;
        request.copy_to(&mut self.spare);
        self.before.push(&mut self.spare);
        self.after.push(request);
        self.settle();
    }

    /// Ends all that is under way.
    pub fn finish(&mut self) {
        self.before.finish();
        self.after.finish();
        self.settle();
    }

    pub fn before(&self) -> &Tally {
        self.before.tally()
    }

    pub fn after(&self) -> &Tally {
        self.after.tally()
    }

    /// The most frequent first.
    pub fn changes(&self) -> Vec<&Change> {
        let mut all: Vec<_> = self.changes.iter().collect();
        all.sort_by_key(|change| std::cmp::Reverse(change.count));
        all
    }

    /// How many verdicts differ.
    pub fn changed(&self) -> u64 {
        self.changed
    }

    /// How many of these are of further kinds.
    pub fn others(&self) -> u64 {
        self.others
    }

    fn settle(&mut self) {
        for (is_after, side) in [(false, &mut self.before), (true, &mut self.after)] {
            for (number, verdict) in side.verdicts() {
                let Some(open) = self.open.get_mut(&number) else { continue };
                let Some((_, first)) = open.first.take() else {
                    open.first = Some((is_after, verdict));
                    continue;
                };
                let (before, after) = if is_after { (first, verdict) } else { (verdict, first) };
                if let Some(open) = self.open.remove(&number)
                    && Ended::of(&before) != Ended::of(&after)
                {
                    self.changed += 1;
                    count(&mut self.changes, &mut self.others, (before, after), open.asked);
                }
            }
        }
    }
}

fn count(changes: &mut Vec<Change>, others: &mut u64, (before, after): (Verdict, Verdict), asked: Example) {
    let (from, to) = (Ended::of(&before), Ended::of(&after));
    let by = if after.reason.is_some() { after.by.or(before.by) } else { before.by.or(after.by) };
    let same = |change: &Change| change.from == from && change.to == to && change.by == by;
    match changes.iter().position(same) {
        Some(known) => {
            let change = &mut changes[known];
            change.count += 1;
            if change.examples.len() < EXAMPLES {
                change.examples.push(asked);
            }
        }
        None if changes.len() < CHANGES => {
            changes.push(Change { from, to, by, count: 1, examples: vec![asked] });
        }
        None => *others += 1,
    }
}

impl Ended {
    fn of(verdict: &Verdict) -> Self {
        Self { status: verdict.status, reason: verdict.reason, backend: verdict.backend.clone() }
    }
}
