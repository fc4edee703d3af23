//! The buckets of one limit, by key: sharded, bounded, and strict while it forgets.
//!
//! - At most `max_keys` buckets are alive. At the cap, buckets that are full again are forgotten first: that loses
//!   nothing, for a new bucket is full too.
//! - Where none can be forgotten, further keys share the buckets of a [sketch](cold), which knows no less of a key than
//!   it spent. A key that gets its own bucket later starts with what the sketch says, so no key is ever let
//!   through more often than its limit says.
//! - A request holds a shard's lock for reading while it has a bucket in hand, and that is all it takes for a known key. So
//!   nothing is forgotten, and no rate changes, under its hands.
//!
//! Buckets are found by a 128-bit hash of the key under a secret seed, not by the key itself: bounded memory whatever
//! clients send. Should two keys ever collide (for 100 000 keys: odds below 10^-28) they share a bucket, which
//! lets fewer requests through, never more.

pub(super) mod cold;
mod saved;

use std::time::Duration;

use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use rustc_hash::FxHashMap;

use super::cell::{Cell, Rate, Rates};
use crate::time::Timestamp;
use cold::{Cold, Shared};

/// Buckets alive per limit. With this many, a limit takes at most 8 MB, whatever comes: up to 6.5 for the buckets and 1
/// for the sketch, which is there from the first key that had no room.
pub(super) const MAX_KEYS: usize = 100_000;

const SHARDS: usize = 16;

/// Of a row of each shard's sketch, so 32 768 for a limit.
const COLD_WIDTH: usize = 2048;

/// A full shard is searched for buckets to forget at most this often: what bounds the cost of an attack with
/// ever new keys.
const SWEEP_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Table {
    shards: [Shard; SHARDS],
    keys_per_shard: usize,
}

/// Locks are taken in this order. On a cache line of its own, so that keys of other shards do not wait for it.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    hot: RwLock<Hot>,
    cold: Mutex<Cold>,
}

/// The keys with a bucket of their own.
#[derive(Debug)]
struct Hot {
    rates: Rates,
    cells: FxHashMap<Key, Cell>,
    /// The latest time at which buckets were forgotten: all of them were full then, so new ones are full from then on.
    forgot_at: Timestamp,
    next_sweep: Timestamp,
}

/// In halves: an entry takes 24 bytes, not 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key(u64, u64);

/// The bucket of one key, in the hands of one request.
#[derive(Debug)]
pub(super) enum Held<'a> {
    Own(MappedRwLockReadGuard<'a, Cell>),
    Shared(Shared<'a>),
}

impl Table {
    pub(super) fn new(rate: Rate, max_keys: usize) -> Self {
        Self::sized(rate, max_keys, COLD_WIDTH)
    }

    fn sized(rate: Rate, max_keys: usize, cold_width: usize) -> Self {
        let shards = std::array::from_fn(|_| Shard::new(rate, cold_width));
        Self { shards, keys_per_shard: (max_keys / SHARDS).max(1) }
    }

    pub(super) fn want(&self, rate: Rate) {
        self.shards.iter().for_each(|shard| shard.hot.write().rates.wanted = rate);
    }

    /// The bucket of a key, and its rate, which does not change meanwhile. Allocates only for a new key.
    pub(super) fn bucket(&self, key: u128, now: Timestamp) -> (Rate, Held<'_>) {
        let shard = &self.shards[shard_of(key)];
        let hot = shard.hot.read();
        let rate = hot.rates.current;
        if !hot.rates.settled() {
            drop(hot);
            return shard.admit(key, self.keys_per_shard, now);
        }
        match RwLockReadGuard::try_map(hot, |hot| hot.cells.get(&Key::from(key))) {
            Ok(cell) => (rate, Held::Own(cell)),
            // While nothing can be forgotten, strangers need not wait for each other.
            Err(hot) if hot.cells.len() >= self.keys_per_shard && now < hot.next_sweep => {
                (rate, Held::Shared(Shared::new(key, hot, shard.cold.lock())))
            }
            Err(hot) => {
                drop(hot);
                shard.admit(key, self.keys_per_shard, now)
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.hot.read().cells.len()).sum()
    }
}

impl Shard {
    fn new(rate: Rate, cold_width: usize) -> Self {
        let hot = Hot {
            rates: Rates::new(rate),
            cells: FxHashMap::default(),
            forgot_at: Timestamp::ZERO,
            next_sweep: Timestamp::ZERO,
        };
        Self { hot: RwLock::new(hot), cold: Mutex::new(Cold::new(cold_width)) }
    }

    /// Changes what must be changed before the key's bucket can be told.
    fn admit(&self, key: u128, room: usize, now: Timestamp) -> (Rate, Held<'_>) {
        let mut hot = self.hot.write();
        self.take_over(&mut hot, now);
        let rate = hot.rates.current;
        if hot.cells.len() >= room {
            hot.sweep(now);
        }
        if hot.cells.len() < room && !hot.cells.contains_key(&Key::from(key)) {
            let full_at = hot.forgot_at.max(self.cold.lock().full_again(key));
            hot.cells.insert(Key::from(key), Cell::full_at(full_at));
        }
        let hot = RwLockWriteGuard::downgrade(hot);
        match RwLockReadGuard::try_map(hot, |hot| hot.cells.get(&Key::from(key))) {
            Ok(cell) => (rate, Held::Own(cell)),
            Err(hot) => (rate, Held::Shared(Shared::new(key, hot, self.cold.lock()))),
        }
    }

    /// Carries every bucket over to the wanted rate.
    fn take_over(&self, hot: &mut Hot, now: Timestamp) {
        let Some((before, after)) = hot.rates.take_over() else { return };
        hot.cells.values().for_each(|cell| cell.convert(before, after, now));
        self.cold.lock().convert(before, after, now);
        // They may be full earlier than they were to be.
        hot.next_sweep = now;
    }
}

impl Hot {
    /// Forgets the buckets that are full again. Nobody has one in hand.
    fn sweep(&mut self, now: Timestamp) {
        if now < self.next_sweep {
            return;
        }
        // Times of full buckets only grow, so nothing can be forgotten before the earliest of them.
        let mut earliest = Timestamp::from_nanos(u64::MAX);
        self.cells.retain(|_, cell| {
            let keep = cell.full_again() > now;
            if keep {
                earliest = earliest.min(cell.full_again());
            }
            keep
        });
        self.forgot_at = self.forgot_at.max(now);
        self.next_sweep = earliest.max(now + SWEEP_EVERY);
    }
}

fn shard_of(key: u128) -> usize {
    usize::try_from(key % SHARDS as u128).unwrap_or(0)
}

impl From<u128> for Key {
    fn from(key: u128) -> Self {
        let half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default();
        Self(half(key), half(key >> 64))
    }
}

impl From<Key> for u128 {
    fn from(Key(low, high): Key) -> Self {
        Self::from(high) << 64 | Self::from(low)
    }
}

#[cfg(test)]
mod tests;
