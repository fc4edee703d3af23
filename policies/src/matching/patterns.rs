use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

mod required;

use required::required;

/// So many expressions are tried in turn.
const FEW: usize = 8;

/// Many regular expressions over one text. Most can only match where some literal text is: one automaton over all
/// of these finds, in one pass, which expressions are worth trying (the way of RE2's FilteredRE2).
#[derive(Clone, Debug, Default)]
pub(super) struct Patterns {
    literals: Option<AhoCorasick>,
    /// By literal: the positions of the expressions that need it, in order.
    by_literal: Box<[Box<[u32]>]>,
    /// Always to be tried, in order.
    rest: Box<[u32]>,
}

impl Patterns {
    /// Positions in order.
    pub(super) fn new(patterns: &[(u32, &Regex)]) -> Self {
        if patterns.len() <= FEW {
            return Self::unfiltered(patterns);
        }
        let needs: Vec<_> = patterns.iter().map(|(_, regex)| required(regex.as_str())).collect();
        let mut frequency = FxHashMap::<&[u8], usize>::default();
        for literal in needs.iter().flatten().flatten() {
            *frequency.entry(literal).or_default() += 1;
        }
        // The rarest text says most about which expression it is; of equally rare ones the longest.
        let rank = |set: &Vec<Vec<u8>>| {
            let common = set.iter().map(|literal| frequency[&**literal]).max().unwrap_or(0);
            let shortest = set.iter().map(Vec::len).min().unwrap_or(0);
            (common, usize::MAX - shortest)
        };
        let mut rest = Vec::new();
        let mut by_literal = FxHashMap::<&[u8], Vec<u32>>::default();
        for ((at, _), sets) in patterns.iter().zip(&needs) {
            match sets.iter().min_by_key(|set| rank(set)) {
                Some(set) => set.iter().for_each(|literal| by_literal.entry(literal).or_default().push(*at)),
                None => rest.push(*at),
            }
        }
        let (texts, lists): (Vec<_>, Vec<_>) = by_literal.into_iter().unzip();
        // Without regard to case: what is found too much is tried in vain.
        let automaton =
            AhoCorasick::builder().ascii_case_insensitive(true).match_kind(MatchKind::Standard).build(texts);
        match automaton {
            Ok(literals) => Self {
                literals: Some(literals),
                by_literal: lists.into_iter().map(Vec::into_boxed_slice).collect(),
                rest: rest.into(),
            },
            // Too much for the automaton.
            Err(_) => Self::unfiltered(patterns),
        }
    }

    fn unfiltered(patterns: &[(u32, &Regex)]) -> Self {
        let rest = patterns.iter().map(|(at, _)| *at).collect();
        Self { literals: None, by_literal: Box::default(), rest }
    }

    /// Calls `visit` with each list of positions whose expressions may match `text`.
    pub(super) fn visit(&self, text: &str, mut visit: impl FnMut(&[u32])) {
        visit(&self.rest);
        let Some(literals) = &self.literals else { return };
        let mut seen = SmallVec::<[u32; 16]>::new();
        for found in literals.find_overlapping_iter(text) {
            let literal = found.pattern().as_u32();
            // A text may hold one literal thousands of times.
            if let Err(place) = seen.binary_search(&literal) {
                seen.insert(place, literal);
                visit(&self.by_literal[found.pattern()]);
            }
        }
    }
}
