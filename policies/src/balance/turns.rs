//! Weighted turns without a lock: a counter that all threads share, and a rule that says whose turn a number is.
//!
//! The numbers go round the endpoints, and each round leaves out those with less weight than the heaviest as often as they
//! must be: of `heaviest` rounds, an endpoint of weight `w` takes part in exactly `w`, evenly spaced (gRPC's static stride
//! scheduler, in `weighted_round_robin`, does so with weights scaled to 16 bits; these here are as written).

use std::sync::atomic::{AtomicU64, Ordering};

/// Where the turns of one policy on one backend are. Lives in the state store.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU64);

/// Weights in a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    heaviest: u64,
    members: u64,
}

impl Turn {
    /// Proxies that begin at different places do not all call the same endpoint first.
    pub(super) fn beginning_at(number: u64) -> Self {
        // Far from the end of the numbers, at which the round would jump.
        Self(AtomicU64::new(number >> 16))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Round {
    /// Of weights above zero.
    pub(super) fn new(weights: impl ExactSizeIterator<Item = u32>) -> Self {
        let members = weights.len() as u64;
        Self { heaviest: weights.max().unwrap_or(1).into(), members: members.max(1) }
    }

    /// How many numbers at most lie before each has had a turn, for weights that are alike.
    pub(super) fn patience(&self) -> u64 {
        4 * self.members + 64
    }

    /// Whose number it is; `weight` says who takes part.
    pub(super) fn of(&self, number: u64, weight: impl Fn(usize) -> u32) -> Option<usize> {
        let (round, at) = (number / self.members, number % self.members);
        let place = usize::try_from(at).ok()?;
        let weight = u64::from(weight(place));
        // Whoever has the same weight leaves out another round.
        let offset = at.wrapping_mul(self.heaviest) / self.members;
        let standing = (round % self.heaviest * weight + offset) % self.heaviest;
        (standing >= self.heaviest - weight).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turns(weights: &[u32], from: u64, many: usize) -> Vec<usize> {
        let round = Round::new(weights.iter().copied());
        (from..).filter_map(|number| round.of(number, |i| weights[i])).take(many).collect()
    }

    #[test]
    fn a_heavy_endpoint_does_not_have_its_turns_in_a_row() {
        let turns = turns(&[5, 1, 1], 0, 14);
        let (heaviest, light): (Vec<usize>, Vec<usize>) = turns.iter().partition(|turn| **turn == 0);
        assert_eq!((heaviest.len(), light.len()), (10, 4), "{turns:?}");
        assert!(!turns.windows(5).any(|five| five.iter().all(|turn| *turn == 0)), "{turns:?}");
    }

    proptest! {
        #[test]
        fn in_as_many_turns_as_there_is_weight_each_has_as_many_as_its_weight(
            weights in prop::collection::vec(1_u32..12, 1..8),
            rounds in 0_u64..1000,
        ) {
            let heaviest = u64::from(*weights.iter().max().unwrap());
            let total = weights.iter().sum::<u32>() as usize;
            let from = rounds * weights.len() as u64 * heaviest;
            let turns = turns(&weights, from, total);
            for (i, weight) in weights.iter().enumerate() {
                prop_assert_eq!(turns.iter().filter(|turn| **turn == i).count(), *weight as usize);
            }
        }

        #[test]
        fn at_no_time_is_anybody_more_than_two_turns_ahead_or_behind(
            weights in prop::collection::vec(1_u32..12, 1..8),
        ) {
            let total: u32 = weights.iter().sum();
            let turns = turns(&weights, 0, 3 * total as usize);
            for (i, weight) in weights.iter().enumerate() {
                let mut had = 0.0;
                for (n, turn) in turns.iter().enumerate() {
                    had += f64::from(u8::from(*turn == i));
                    let due = (n + 1) as f64 * f64::from(*weight) / f64::from(total);
                    prop_assert!((had - due).abs() <= 2.0, "{had} of {due} after {n}: {turns:?}");
                }
            }
        }
    }
}
