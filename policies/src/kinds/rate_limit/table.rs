//! The buckets of one limit, by key: sharded, bounded, and strict while it forgets.
//!
//! - At most `max_keys` buckets are alive. At the cap, buckets that are full again are forgotten first: that loses
//!   nothing, for a new bucket is full too.
//! - Where none can be forgotten, further keys share one overflow bucket. A key that gets its own bucket later starts
//!   with what the overflow bucket has spent, so no key is ever let through more often than its limit says.
//! - A bucket that a request holds is never forgotten under its hands.
//!
//! Buckets are found by a 128-bit hash of the key under a secret seed, not by the key itself: bounded memory whatever
//! clients send. Should two keys ever collide (for 100 000 keys: odds below 10^-28) they share a bucket, which
//! lets fewer requests through, never more.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use super::cell::{Cell, Rate};
use crate::time::Timestamp;

/// Buckets alive per limit, unless written otherwise: about 8 MB when all are taken.
pub(super) const MAX_KEYS: usize = 100_000;

const SHARDS: usize = 16;

/// A full shard is searched for buckets to forget at most this often: what bounds the cost of an attack with
/// ever new keys.
const SWEEP_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Table {
    shards: [RwLock<Shard>; SHARDS],
    keys_per_shard: usize,
    overflow: Arc<Cell>,
}

#[derive(Debug, Default)]
struct Shard {
    cells: FxHashMap<u128, Arc<Cell>>,
    /// The latest time at which buckets were forgotten: all of them were full then, so new ones are full from then on.
    forgot_at: Timestamp,
    next_sweep: Timestamp,
}

impl Table {
    pub(super) fn new(max_keys: usize) -> Self {
        Self {
            shards: Default::default(),
            keys_per_shard: (max_keys / SHARDS).max(1),
            overflow: Arc::new(Cell::default()),
        }
    }

    /// The bucket of a key. Allocates only for a new key.
    pub(super) fn cell(&self, key: u128, now: Timestamp) -> Arc<Cell> {
        let shard = &self.shards[usize::try_from(key % SHARDS as u128).unwrap_or(0)];
        if let Some(cell) = shard.read().cells.get(&key) {
            return Arc::clone(cell);
        }
        let mut shard = shard.write();
        if let Some(cell) = shard.cells.get(&key) {
            return Arc::clone(cell);
        }
        if shard.cells.len() >= self.keys_per_shard {
            shard.sweep(now);
        }
        // While another request holds the overflow bucket, what it spends there could be missed: wait with new buckets.
        if shard.cells.len() >= self.keys_per_shard || is_held(&self.overflow) {
            return Arc::clone(&self.overflow);
        }
        let full_at = shard.forgot_at.max(self.overflow.full_again());
        let cell = Arc::new(Cell::full_at(full_at));
        shard.cells.insert(key, Arc::clone(&cell));
        cell
    }

    /// Carries every bucket over to another rate. Nobody may spend meanwhile.
    pub(super) fn convert(&self, before: Rate, after: Rate, now: Timestamp) {
        self.overflow.convert(before, after, now);
        for shard in &self.shards {
            shard.read().cells.values().for_each(|cell| cell.convert(before, after, now));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().cells.len()).sum()
    }
}

impl Shard {
    /// Forgets the buckets that are full again and in nobody's hands.
    fn sweep(&mut self, now: Timestamp) {
        if now < self.next_sweep {
            return;
        }
        // Times of full buckets only grow, so nothing can be forgotten before the earliest of them.
        let mut earliest = Timestamp::from_nanos(u64::MAX);
        self.cells.retain(|_, cell| {
            let keep = is_held(cell) || cell.full_again() > now;
            if keep {
                earliest = earliest.min(cell.full_again());
            }
            keep
        });
        self.forgot_at = self.forgot_at.max(now);
        self.next_sweep = earliest.max(now + SWEEP_EVERY);
    }
}

/// Whether a request holds this bucket. Under the shard's write lock nobody can newly take it up.
fn is_held(cell: &Arc<Cell>) -> bool {
    let held = Arc::strong_count(cell) > 1;
    // What the last holder spent must be seen before the bucket is judged.
    fence(Ordering::Acquire);
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::num::NonZeroU32;
    use std::thread;

    fn rate(requests: u32, burst: u32) -> Rate {
        let number = |n| NonZeroU32::new(n).unwrap();
        Rate::new(number(requests), Duration::from_secs(1), number(burst)).unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn spend(table: &Table, key: u128, rate: Rate, now: Timestamp) -> bool {
        table.cell(key, now).spend(rate, 1, now).is_ok()
    }

    #[test]
    fn each_key_has_its_own_bucket() {
        let (table, rate) = (Table::new(1000), rate(1, 1));
        assert!(spend(&table, 1, rate, at(0)) && spend(&table, 2, rate, at(0)));
        assert!(!spend(&table, 1, rate, at(0)));
    }

    #[test]
    fn ever_new_keys_stay_under_the_cap_and_share_one_bucket() {
        let (table, rate) = (Table::new(1600), rate(1, 5));
        let admitted = (0..100_000).filter(|key| spend(&table, *key, rate, at(0))).count();
        assert_eq!(table.len(), 1600);
        assert_eq!(admitted, 1600 + 5, "one each, and the overflow bucket's burst");
    }

    #[test]
    fn full_buckets_make_room_and_spent_ones_do_not() {
        let (table, rate) = (Table::new(SHARDS), rate(1, 1));
        assert!((0..16).all(|key| spend(&table, key, rate, at(0))));
        assert!(spend(&table, 16, rate, at(0)), "the overflow bucket");
        assert!(!spend(&table, 32, rate, at(0)), "the overflow bucket is empty");
        assert!(!spend(&table, 0, rate, at(999)), "not forgotten");
        assert!(spend(&table, 16, rate, at(1000)));
        assert_eq!(table.len(), SHARDS);
    }

    #[test]
    fn a_bucket_in_a_requests_hands_is_not_forgotten() {
        let (table, rate) = (Table::new(SHARDS), rate(1, 1));
        let held = table.cell(0, at(0));
        assert!(spend(&table, 16, rate, at(0)), "the overflow bucket");
        assert!(held.spend(rate, 1, at(0)).is_ok());
        drop(held);
        assert!(!spend(&table, 0, rate, at(0)));
    }

    #[test]
    fn a_key_that_leaves_the_overflow_bucket_takes_along_what_it_spent_there() {
        let (table, rate) = (Table::new(SHARDS), rate(1, 2));
        assert!((0..16).all(|key| spend(&table, key, rate, at(0))));
        assert!(spend(&table, 16, rate, at(0)) && spend(&table, 16, rate, at(0)));
        assert!(spend(&table, 16, rate, at(1000)), "one is back after a second");
        assert!(!spend(&table, 16, rate, at(1000)), "and no more");
    }

    #[test]
    fn no_key_leaves_the_overflow_bucket_while_a_request_holds_it() {
        let (table, rate) = (Table::new(SHARDS), rate(1, 1));
        assert!((0..16).all(|key| spend(&table, key, rate, at(0))));
        let held = table.cell(16, at(0));
        assert!(Arc::ptr_eq(&held, &table.cell(16, at(1000))));
        drop(held);
        assert!(!Arc::ptr_eq(&table.overflow, &table.cell(16, at(1000))));
    }

    #[test]
    fn a_forgotten_key_is_not_full_earlier_for_a_thread_with_an_older_clock() {
        let (table, rate) = (Table::new(2 * SHARDS), rate(1, 1));
        assert!(spend(&table, 0, rate, at(0)) && spend(&table, 16, rate, at(0)));
        assert!(spend(&table, 32, rate, at(1000)), "in the place of one that was forgotten");
        assert!(!spend(&table, 0, rate, at(999)));
    }

    #[test]
    fn threads_with_more_keys_than_room_never_exceed_any_keys_limit() {
        const KEYS: u128 = 64;
        let (table, rate) = (Table::new(SHARDS), rate(1, 3));
        let counts: Vec<HashMap<u128, u32>> = thread::scope(|scope| {
            let work = |seed| {
                let (table, mut rng) = (&table, fastrand::Rng::with_seed(seed));
                move || {
                    let mut counts = HashMap::new();
                    for _ in 0..20_000 {
                        let key = rng.u128(..KEYS);
                        *counts.entry(key).or_default() += u32::from(spend(table, key, rate, at(10)));
                    }
                    counts
                }
            };
            let threads: Vec<_> = (0..8).map(|seed| scope.spawn(work(seed))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for key in 0..KEYS {
            let admitted: u32 = counts.iter().filter_map(|c| c.get(&key)).sum();
            assert!(admitted <= 3, "key {key}: {admitted}");
        }
    }

    proptest! {
        #[test]
        fn no_key_gets_more_than_its_limit_however_often_it_is_forgotten(
            steps in prop::collection::vec((0_u64..400, 0_u128..80), 1..400),
        ) {
            let (table, rate) = (Table::new(SHARDS), rate(4, 2));
            let mut now = 0;
            let mut admitted: HashMap<u128, Vec<u64>> = HashMap::new();
            for (step, key) in steps {
                now += step;
                if spend(&table, key, rate, at(now)) {
                    admitted.entry(key).or_default().push(now);
                }
                prop_assert!(table.len() <= SHARDS);
            }
            for times in admitted.values() {
                for (i, from) in times.iter().enumerate() {
                    for (n, to) in times[i..].iter().enumerate() {
                        prop_assert!((n as u64) < 2 + (to - from) * 4 / 1000);
                    }
                }
            }
        }
    }
}
