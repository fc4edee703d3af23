use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use rustc_hash::{FxHashMap, FxHashSet};

use super::super::part::{Part, Wanted, parts};
use super::super::patterns::Patterns;
use super::{Branch, Branches, Conditions, FEW, OwnedPart};
use crate::model::RouteMatch;

/// How well a part tells matches apart.
#[derive(Default)]
struct Use<'a> {
    matches: usize,
    values: FxHashSet<&'a str>,
}

type Uses<'a> = FxHashMap<Part<'a>, Use<'a>>;

/// The matches that go by one part.
#[derive(Default)]
struct Sorted<'a> {
    exact: FxHashMap<&'a str, Vec<u32>>,
    patterns: Vec<(u32, &'a Regex)>,
}

impl Conditions {
    /// `positions` in order; `wanted` tells the match at one of them.
    pub(in super::super) fn new<'a>(positions: Vec<u32>, wanted: impl Fn(u32) -> &'a RouteMatch) -> Self {
        build(positions, &wanted, &mut Vec::new())
    }

    #[cfg(test)]
    pub(in super::super) fn only(position: u32) -> Self {
        Self { few: [position].into(), more: None }
    }

    #[cfg(test)]
    pub(in super::super) fn first(&self) -> u32 {
        self.few[0]
    }
}

/// `used`: parts that the way to here has already told apart. It grows with each step down, so the tree is no deeper
/// than a match has parts.
fn build<'a>(
    positions: Vec<u32>,
    wanted: &impl Fn(u32) -> &'a RouteMatch,
    used: &mut Vec<Part<'a>>,
) -> Conditions {
    if positions.len() <= FEW {
        return Conditions { few: positions.into(), more: None };
    }
    let open = |at: u32| parts(wanted(at)).filter(|(part, _)| !used.contains(part));
    let (mut exact, mut patterns) = (Uses::default(), Uses::default());
    for at in &positions {
        for (part, wanted) in open(*at) {
            match wanted {
                Wanted::Exact(value) => exact.entry(part).or_default().add(value),
                Wanted::Pattern(regex) => patterns.entry(part).or_default().add(regex.as_str()),
            }
        }
    }
    let mut sorted = BTreeMap::<Part<'a>, Sorted<'a>>::new();
    let mut settled = Vec::new();
    for at in positions {
        let is_exact = |(_, wanted): &(_, Wanted<'_>)| matches!(wanted, Wanted::Exact(_));
        let by_exact = open(at).filter(is_exact).max_by_key(|(part, _)| rank(&exact, *part));
        let chosen = by_exact.or_else(|| open(at).max_by_key(|(part, _)| rank(&patterns, *part)));
        match chosen {
            Some((part, Wanted::Exact(value))) => {
                sorted.entry(part).or_default().exact.entry(value).or_default().push(at);
            }
            Some((part, Wanted::Pattern(regex))) => {
                sorted.entry(part).or_default().patterns.push((at, regex));
            }
            // Nothing is left to ask: it holds, and none after it can be reached.
            None if settled.last().is_some_and(|last| !repeats(wanted(*last))) => {}
            None => settled.push(at),
        }
    }
    let mut branches = Vec::with_capacity(sorted.len());
    for (part, sorted) in sorted {
        used.push(part);
        branches.extend(branch(part, sorted, wanted, used));
        used.pop();
    }
    Conditions { few: settled.into(), more: Some(Box::new(Branches::new(branches))) }
}

impl<'a> Use<'a> {
    fn add(&mut self, value: &'a str) {
        self.matches += 1;
        self.values.insert(value);
    }
}

/// The most values first, then the most matches; the part itself makes the choice the same for all.
fn rank<'a>(uses: &Uses<'a>, part: Part<'a>) -> (usize, usize, Part<'a>) {
    uses.get(&part).map_or((0, 0, part), |known| (known.values.len(), known.matches, part))
}

/// Whether a match asks twice for one part: then the way here has told about one of both only. Routes are not compiled
/// to such a match, but one might be sent.
fn repeats(wanted: &RouteMatch) -> bool {
    let mut seen = FxHashSet::default();
    !parts(wanted).all(|(part, _)| seen.insert(part))
}

fn branch<'a>(
    part: Part<'a>,
    sorted: Sorted<'a>,
    wanted: &impl Fn(u32) -> &'a RouteMatch,
    used: &mut Vec<Part<'a>>,
) -> Option<Branch> {
    let exact = sorted.exact.values().map(|positions| positions[0]);
    let best = exact.chain(sorted.patterns.first().map(|(at, _)| *at)).min()?;
    let patterns = Patterns::new(&sorted.patterns);
    let below = |(value, positions): (&str, _)| (Arc::from(value), build(positions, wanted, used));
    Some(Branch {
        part: OwnedPart::of(part)?,
        best,
        exact: sorted.exact.into_iter().map(below).collect(),
        patterns,
    })
}

impl Branches {
    fn new(mut all: Vec<Branch>) -> Self {
        all.sort_by_key(|branch| branch.best);
        let mut branches = Self::default();
        for (at, branch) in (0..).zip(&all).filter(|_| all.len() > FEW) {
            match &branch.part {
                OwnedPart::Header(name) => drop(branches.by_header.insert(name.clone(), at)),
                OwnedPart::Query(name) => drop(branches.by_query.insert(name.clone(), at)),
                OwnedPart::Path | OwnedPart::Method => branches.others.push(at),
            }
        }
        branches.all = all;
        branches
    }
}
