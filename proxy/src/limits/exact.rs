//! One question to the store of exact limits and its answer, as values. Sans-I/O: [`super::store`] carries them.
//!
//! Times are microseconds: the script counts in doubles, and the microseconds since 1970 are exact in them, with room
//! for every bucket that is let in here.

use std::fmt::Write;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// From full to empty: 30 years, so that no time of a bucket leaves the integers that a double holds.
const LONGEST_REFILL_MICROS: u64 = 30 * 365 * 24 * 3600 * 1_000_000;
/// Of the 256 bits of a key's hash: two keys that share a bucket let fewer requests through, never more.
const KEY_BYTES: usize = 16;

/// The last end of a window: what lies beyond is no whole number in a double.
const LAST_END_MICROS: u64 = 1 << 53;

/// One bucket of one limit, and how much of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    key: String,
    /// 0 for a window of the calendar.
    emission: u64,
    /// What the bucket's time is written in; of a window, its end.
    unit: u64,
    burst: u32,
    cost: u32,
}

/// Why a bucket cannot be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotAsk {
    #[error("a rate of nothing")]
    NoRate,
    #[error("more than 1 million requests per second cannot be counted")]
    TooFast,
    #[error("it would take more than 30 years to refill")]
    TooSlow,
    #[error("its window ends too late to be counted")]
    EndsTooLate,
    /// However long it waits.
    #[error("it costs more than the bucket holds")]
    CostAboveBurst,
}

/// What the store says of all buckets that were asked for together: all were spent, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub allowed: bool,
    /// In the order of the question.
    pub levels: Vec<Level>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Whole requests that the bucket would let through at once.
    pub remaining: u32,
    /// Allowed: until there is one more. Refused: until what was wanted is there; zero where it is already.
    pub wait: Duration,
}

/// An answer that no script of ours gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an answer to what was asked")]
pub struct Garbage;

impl Wanted {
    /// `requests` per `per`, and at most `burst` at once, of the bucket under `key` (see [`key`]).
    ///
    /// # Errors
    /// If no store could ever count that.
    pub fn new(
        key: String,
        (requests, per): (u32, Duration),
        burst: u32,
        cost: u32,
    ) -> Result<Self, CannotAsk> {
        if requests == 0 || burst == 0 || per.is_zero() {
            return Err(CannotAsk::NoRate);
        }
        if per < Duration::from_micros(1) * requests {
            return Err(CannotAsk::TooFast);
        }
        // Rounded up: never more than the written rate.
        let emission = per.as_nanos().div_ceil(u128::from(requests) * 1000);
        let emission = u64::try_from(emission).map_err(|_| CannotAsk::TooSlow)?;
        emission
            .checked_mul(u64::from(burst))
            .filter(|full| *full <= LONGEST_REFILL_MICROS)
            .ok_or(CannotAsk::TooSlow)?;
        if cost > burst {
            return Err(CannotAsk::CostAboveBurst);
        }
        Ok(Self { key, emission, unit: emission, burst, cost })
    }

    /// Of a limit whose number changes from question to question: what was spent of the bucket under one stays spent in
    /// proportion under the next, for both are of the same `per`.
    #[must_use]
    pub fn in_proportion(self, per: Duration) -> Self {
        Self { unit: u64::try_from(per.as_micros()).unwrap_or(u64::MAX).max(1), ..self }
    }

    /// `requests` until `end`, since the Unix epoch. `key` must be another one for another end.
    ///
    /// # Errors
    /// If no store could ever count that.
    pub fn until(key: String, requests: u32, end: Duration, cost: u32) -> Result<Self, CannotAsk> {
        if requests == 0 || end.is_zero() {
            return Err(CannotAsk::NoRate);
        }
        let unit = u64::try_from(end.as_micros()).ok().filter(|end| *end < LAST_END_MICROS);
        let unit = unit.ok_or(CannotAsk::EndsTooLate)?;
        if cost > requests {
            return Err(CannotAsk::CostAboveBurst);
        }
        Ok(Self { key, emission: 0, unit, burst: requests, cost })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// As the script reads them.
    pub(super) fn arguments(&self) -> [u64; 4] {
        [self.emission, u64::from(self.burst), u64::from(self.cost), self.unit]
    }
}

/// Where a bucket is kept. All buckets of one policy are in one slot of a cluster, so that one script may spend them
/// together; every proxy finds the same place for the same values.
pub fn key(policy: &str, limit: &str, values: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for value in values {
        // With its length, so that no two lists of values read the same.
        hash.update(u64::try_from(value.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(value);
    }
    let mut key = format!("tidegate:{{{policy}}}:{limit}:");
    for byte in &hash.finalize()[..KEY_BYTES] {
        // Writing to a string does not fail.
        let _ = write!(key, "{byte:02x}");
    }
    key
}

/// The answer to a question for `asked` buckets: whether they were spent, then remaining and wait of each.
///
/// # Errors
/// If it is none.
pub fn read(answer: &[i64], asked: usize) -> Result<Told, Garbage> {
    let (allowed, levels) = match answer.split_first() {
        Some((1, levels)) => (true, levels),
        Some((0, levels)) => (false, levels),
        _ => return Err(Garbage),
    };
    if asked.checked_mul(2) != Some(levels.len()) {
        return Err(Garbage);
    }
    let level = |pair: &[i64]| {
        let (remaining, wait) = (pair.first()?, pair.get(1)?);
        let wait = u64::try_from(*wait).ok().filter(|wait| *wait <= LONGEST_REFILL_MICROS)?;
        Some(Level { remaining: u32::try_from(*remaining).ok()?, wait: Duration::from_micros(wait) })
    };
    let levels: Vec<_> = levels.chunks(2).map(level).collect::<Option<_>>().ok_or(Garbage)?;
    // A refusal without anything to wait for would be no refusal.
    if !allowed && levels.iter().all(|level| level.wait.is_zero()) {
        return Err(Garbage);
    }
    Ok(Told { allowed, levels })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn wanted(rate: (u32, Duration), burst: u32, cost: u32) -> Result<Wanted, CannotAsk> {
        Wanted::new(String::from("k"), rate, burst, cost)
    }

    #[test]
    fn an_interval_that_does_not_divide_evenly_is_rounded_up() {
        assert_eq!(wanted((3, SECOND), 2, 1).unwrap().arguments(), [333_334, 2, 1, 333_334]);
    }

    #[test]
    fn what_cannot_be_counted_is_refused_with_its_reason() {
        assert_eq!(wanted((0, SECOND), 1, 1), Err(CannotAsk::NoRate));
        assert_eq!(wanted((1, SECOND), 0, 1), Err(CannotAsk::NoRate));
        assert_eq!(wanted((1, Duration::ZERO), 1, 1), Err(CannotAsk::NoRate));
        assert_eq!(wanted((2_000_000, SECOND), 1, 1), Err(CannotAsk::TooFast));
        assert_eq!(wanted((1, SECOND), u32::MAX, 1), Err(CannotAsk::TooSlow));
        assert_eq!(wanted((1, Duration::MAX), 1, 1), Err(CannotAsk::TooSlow));
        assert_eq!(wanted((1, SECOND), 4, 5), Err(CannotAsk::CostAboveBurst));
    }

    #[test]
    fn a_window_is_asked_for_by_its_end() {
        let until = |end, cost| Wanted::until(String::from("k"), 5, Duration::from_secs(end), cost);
        assert_eq!(until(60, 2).unwrap().arguments(), [0, 5, 2, 60_000_000]);
        assert_eq!(until(0, 1), Err(CannotAsk::NoRate));
        assert_eq!(until(60, 6), Err(CannotAsk::CostAboveBurst));
        assert_eq!(until(1 << 40, 1), Err(CannotAsk::EndsTooLate));
    }

    #[test]
    fn the_keys_of_a_policy_share_a_slot_and_differ_by_every_value() {
        let tagged = |key: &str| key.split(['{', '}']).nth(1).map(String::from);
        let (one, other) = (key("shop/p", "a", &[b"ann"]), key("shop/p", "b", &[b"bob"]));
        assert_eq!(tagged(&one), tagged(&other));
        assert_ne!(key("shop/p", "a", &[b"ab", b"c"]), key("shop/p", "a", &[b"a", b"bc"]));
        assert_ne!(key("shop/p", "a", &[b""]), key("shop/p", "a", &[]));
        assert_eq!(one, key("shop/p", "a", &[b"ann"]));
    }

    #[test]
    fn an_answer_has_a_word_and_two_numbers_for_each_bucket() {
        let level = |remaining, micros| Level { remaining, wait: Duration::from_micros(micros) };
        let told = Told { allowed: true, levels: vec![level(3, 10), level(0, 7)] };
        assert_eq!(read(&[1, 3, 10, 0, 7], 2), Ok(told));
        let told = Told { allowed: false, levels: vec![level(0, 10)] };
        assert_eq!(read(&[0, 0, 10], 1), Ok(told));
    }

    #[test]
    fn anything_else_is_garbage() {
        for answer in
            [&[][..], &[1], &[2, 0, 0], &[1, 0], &[1, 0, 0, 0], &[1, -1, 0], &[1, 0, -1], &[0, 1, 0]]
        {
            assert_eq!(read(answer, 1), Err(Garbage), "{answer:?}");
        }
        assert_eq!(read(&[1, 0, i64::MAX], 1), Err(Garbage));
        assert_eq!(read(&[1, i64::MAX, 0], 1), Err(Garbage));
    }

    proptest! {
        #[test]
        fn no_answer_is_read_as_more_levels_than_were_asked_for(
            answer in prop::collection::vec(prop_oneof![any::<i64>(), 0_i64..3], 0..9),
            asked in 0_usize..5,
        ) {
            if let Ok(told) = read(&answer, asked) {
                prop_assert_eq!(told.levels.len(), asked);
                prop_assert!(told.allowed || asked > 0);
            }
        }
    }
}
