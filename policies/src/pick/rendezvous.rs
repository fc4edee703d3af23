//! Weighted rendezvous hashing: every backend draws a lot for every user, and the best lot wins.
//!
//! A backend's lot is `-ln(u)`, with `u` a hash of user and backend taken as a number between 0 and 1: exponentially
//! distributed. The smallest `lot / weight` wins, which happens for exactly `weight / sum` of all users (D. Thaler and
//! C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998, with the weights of C. Schindelhauer and
//! G. Schomaker, "Weighted Distributed Hash Tables", 2005). Lots do not depend on weights, so which of two backends is
//! before the other depends on the ratio of their two weights alone. That makes the law:
//!
//! - nobody leaves a backend whose weight rose, or stayed, relative to every other's;
//! - nobody moves between two backends whose ratio did not change.
//!
//! Lots are whole numbers and the logarithm is our own: all machines agree to the last bit, and ratios are compared
//! exactly.

/// What a lot of 1 is written as: 2^57, so that the largest lot (36.8) still fits into 64 bits.
const ONE: f64 = (1_u64 << 57) as f64;
const TWO_52: f64 = (1_u64 << 52) as f64;

/// `-ln` of a hash, taken as a number in the middle of one of the 2^52 steps between 0 and 1.
pub(super) fn lot(hash: u64) -> u64 {
    // Exact: 52 bits and a half fit into the 53 of a double.
    let u = ((hash >> 12) as f64 + 0.5) / TWO_52;
    (-ln(u) * ONE) as u64
}

/// The place of the winner among (lot, weight); `None` where no weight is above zero. Of two with the same quotient,
/// which is rarer than a collision of hashes, the first wins: the caller brings an order that knows no weights.
pub(super) fn winner(lots: impl Iterator<Item = (u64, u32)>) -> Option<usize> {
    let entered = lots.enumerate().filter(|(_, (_, weight))| *weight > 0);
    let winner = entered.reduce(|best, next| {
        let ((_, (best_lot, best_weight)), (_, (lot, weight))) = (best, next);
        let beats = u128::from(lot) * u128::from(best_weight) < u128::from(best_lot) * u128::from(weight);
        if beats { next } else { best }
    });
    winner.map(|(at, _)| at)
}

/// The natural logarithm of a positive normal number, by additions, multiplications and divisions only: unlike the
/// platform's, these are the same everywhere (IEEE 754).
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)); the argument is at most 0.172, so that the terms after these are below 1e-18.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..=11).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::hash;
    use proptest::prelude::*;

    fn lots(user: u64, backends: usize) -> Vec<u64> {
        (0..backends as u64).map(|backend| lot(hash::under([backend, 7], user))).collect()
    }

    fn winner_of(lots: &[u64], weights: &[u32]) -> Option<usize> {
        winner(lots.iter().copied().zip(weights.iter().copied()))
    }

    #[test]
    fn the_logarithm_is_the_platforms_to_the_last_bits() {
        let mut rng = fastrand::Rng::with_seed(1);
        let ends = [0.5 / TWO_52, 1.0 - 0.5 / TWO_52, 0.5, 1.0 / std::f64::consts::SQRT_2];
        for x in ends.into_iter().chain((0..100_000).map(|_| (rng.u32(1..) as f64) / 4_294_967_296.0)) {
            let (own, platforms) = (ln(x), x.ln());
            assert!((own - platforms).abs() <= platforms.abs() * 1e-15, "{x}: {own} and {platforms}");
        }
    }

    /// Written down, because other machines and later versions must come to the same.
    #[test]
    fn lots_are_what_they_have_always_been() {
        assert_eq!(
            [lot(0), lot(1 << 63), lot(u64::MAX)],
            [5_294_330_923_404_224_512, 99_893_036_290_645_712, 16]
        );
    }

    #[test]
    fn of_a_million_users_each_backend_gets_its_weights_share_within_a_fifth_of_a_percent() {
        for weights in [&[90, 10][..], &[5, 0, 15, 80]] {
            let mut rng = fastrand::Rng::with_seed(42);
            let mut got = vec![0_u32; weights.len()];
            const USERS: u32 = 1_000_000;
            for _ in 0..USERS {
                let user = hash::of(hash::USER, &[&rng.u64(..).to_le_bytes()]);
                got[winner_of(&lots(user, weights.len()), weights).unwrap()] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (got, weight) in got.iter().zip(weights) {
                let (share, want) =
                    (f64::from(*got) / f64::from(USERS), f64::from(*weight) / f64::from(total));
                assert!((share - want).abs() < 0.002, "{weights:?}: {share} instead of {want}");
                assert!(*weight > 0 || *got == 0);
            }
        }
    }

    #[test]
    fn without_a_weight_there_is_no_winner() {
        assert_eq!(winner_of(&[], &[]), None);
        assert_eq!(winner_of(&[1, 2], &[0, 0]), None);
        assert_eq!(winner_of(&[1, 2], &[0, 1]), Some(1));
    }

    fn weights() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(prop_oneof![Just(0), 1_u32..20, 0_u32..=1_000_000], 1..8)
    }

    proptest! {
        /// THE LAW, for any change of any weights: whoever moves from a to b does so because b rose relative to a.
        #[test]
        fn a_user_moves_only_to_a_backend_that_rose_relative_to_theirs(
            old in weights(), new in weights(), users in any::<[u64; 32]>(),
        ) {
            let backends = old.len().min(new.len());
            for user in users {
                let lots = lots(user, backends);
                let (before, after) = (winner_of(&lots, &old[..backends]), winner_of(&lots, &new[..backends]));
                let (Some(a), Some(b)) = (before, after) else { continue };
                if a != b {
                    let [old_a, old_b, new_a, new_b] = [old[a], old[b], new[a], new[b]].map(u64::from);
                    prop_assert!(new_b * old_a > old_b * new_a, "{a} -> {b} with {old:?} -> {new:?}");
                }
            }
        }

        /// The same said for the one step that a canary takes: 10 % -> 20 % moves those 10 % and nobody back.
        #[test]
        fn raising_one_weight_moves_users_to_it_and_nobody_else(
            old in weights(), at in any::<prop::sample::Index>(), by in 1_u32..100_000, users in any::<[u64; 32]>(),
        ) {
            let raised = at.index(old.len());
            let mut new = old.clone();
            new[raised] += by;
            for user in users {
                let lots = lots(user, old.len());
                let (before, after) = (winner_of(&lots, &old), winner_of(&lots, &new));
                prop_assert!(after == before || after == Some(raised));
                prop_assert!(before != Some(raised) || after == Some(raised));
            }
        }

        #[test]
        fn weights_are_ratios(old in weights(), factor in 2_u32..4_000, users in any::<[u64; 8]>()) {
            let scaled: Vec<u32> = old.iter().map(|weight| weight * factor).collect();
            for user in users {
                let lots = lots(user, old.len());
                prop_assert_eq!(winner_of(&lots, &old), winner_of(&lots, &scaled));
            }
        }
    }
}
