use std::mem::{Discriminant, discriminant};

use smallvec::SmallVec;

use crate::decision::Outcome;

/// How many decisions of one rule had each outcome, whatever the reason. Each request is counted a few times, and a rule has
/// one or two outcomes: they are found by the kind, and put in order by the word only where one is new.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(SmallVec<[(Discriminant<Outcome>, &'static str, u64); 2]>);

impl Outcomes {
    pub(super) fn add(&mut self, outcome: Outcome) {
        let kind = discriminant(&outcome);
        if let Some((.., count)) = self.0.iter_mut().find(|(known, ..)| *known == kind) {
            *count += 1;
            return;
        }
        let word = outcome.as_str();
        let at = self.0.partition_point(|(_, known, _)| *known < word);
        self.0.insert(at, (kind, word, 1));
    }

    /// By its [word](Outcome::as_str).
    pub fn get(&self, word: &str) -> u64 {
        self.iter().find(|(known, _)| *known == word).map_or(0, |(_, count)| count)
    }

    /// In the order of their words.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(_, word, count)| (*word, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn outcomes_are_counted_by_kind_and_told_by_word() {
        let mut outcomes = Outcomes::default();
        for reason in [Reason::RateLimited, Reason::CircuitOpen, Reason::RateLimited] {
            outcomes.add(Outcome::Refused(reason));
            outcomes.add(Outcome::WouldRefuse(reason));
        }
        outcomes.add(Outcome::Allowed);
        let all: Vec<_> = outcomes.iter().collect();
        assert_eq!(all, [("allowed", 1), ("refused", 3), ("would_refuse", 3)]);
        assert_eq!((outcomes.get("refused"), outcomes.get("picked")), (3, 0));
    }
}
