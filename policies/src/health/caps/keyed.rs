//! Caps on what requests have in common: each key has counters of its own.
//!
//! Memory is bounded by [`MAX_KEYS`], whatever clients send. Keys without anybody under way are forgotten when their room is
//! needed. If all of them have somebody, a new key is counted together with others, under the same limits: so fewer of
//! its requests may be let through than are written, never more.

use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::{BoundCap, Cap, CapCounters};
use crate::balance::Asker;
use crate::health::CapRule;
use crate::model::Peer;

/// Counted apart for one policy and backend, in each proxy. They take at most 2 MB.
pub const MAX_KEYS: usize = 10_000;

const SHARDS: usize = 16;
/// Of each shard, for keys that have no counters of their own.
const SLOTS: usize = 16;

/// Which counters of a cap on keys are a request's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CapKey {
    /// None: it is not counted.
    #[default]
    Uncounted,
    /// Those of this hash. Should two keys ever have the same, they share the counters.
    Of(u64),
    /// It does not have what it must have.
    Missing,
}

/// What tells the requests apart that a cap counts apart.
pub trait CountedBy: Debug + Send + Sync {
    /// Under a seed that clients do not know.
    fn of(&self, asker: Asker<'_>, seed: [u64; 2]) -> CapKey;

    /// The same for a connection that is carried as a whole.
    fn of_connection(&self, peer: &Peer, seed: [u64; 2]) -> CapKey;

    /// For people, and for the place of the counters: equal for equal keys.
    fn describe(&self) -> String;
}

/// A cap on each key, with all counters.
#[derive(Debug)]
pub(crate) struct KeyedCap {
    rule: CapRule,
    by: Arc<dyn CountedBy>,
    seed: [u64; 2],
    counters: Arc<KeyedCounters>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct KeyedCounters {
    shards: [Mutex<Shard>; SHARDS],
    room: usize,
}

#[derive(Debug, Default)]
struct Shard {
    own: FxHashMap<u64, Arc<CapCounters>>,
    /// None before they are needed.
    shared: Vec<Arc<CapCounters>>,
    /// So many more keys are turned away before somebody to forget is looked for again: what bounds the cost of ever new
    /// keys.
    patience: usize,
}

impl KeyedCap {
    pub(in crate::health) fn new(
        rule: CapRule,
        by: Arc<dyn CountedBy>,
        seed: [u64; 2],
        counters: Arc<KeyedCounters>,
    ) -> Self {
        Self { rule, by, seed, counters }
    }

    pub(crate) fn key(&self, asker: Asker<'_>) -> CapKey {
        self.by.of(asker, self.seed)
    }

    pub(crate) fn key_of_connection(&self, peer: &Peer) -> CapKey {
        self.by.of_connection(peer, self.seed)
    }

    /// The cap on one key.
    pub(crate) fn of(&self, key: u64) -> BoundCap {
        BoundCap::new(Some(self.rule.clone()), self.counters.of(key))
    }

    /// The cap on whom it does not count but refuses.
    pub(crate) fn of_nobody(&self) -> BoundCap {
        BoundCap::new(Some(self.rule.clone()), Arc::default())
    }

    /// The cap on the key that has taken most, and how many keys have taken any.
    pub(crate) fn fullest(&self, cap: Cap) -> (BoundCap, usize) {
        let (counters, keys) = self.counters.fullest(cap);
        (BoundCap::new(Some(self.rule.clone()), counters), keys)
    }
}

impl Default for KeyedCounters {
    fn default() -> Self {
        Self::sized(MAX_KEYS)
    }
}

impl KeyedCounters {
    fn sized(keys: usize) -> Self {
        Self { shards: Default::default(), room: keys / SHARDS }
    }

    fn of(&self, key: u64) -> Arc<CapCounters> {
        let shard = usize::try_from(key % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().of(key, self.room)
    }

    fn fullest(&self, cap: Cap) -> (Arc<CapCounters>, usize) {
        let (mut fullest, mut keys) = (Arc::<CapCounters>::default(), 0);
        for shard in &self.shards {
            let shard = shard.lock();
            for counters in shard.own.values().chain(&shard.shared).filter(|one| one.used(cap) > 0) {
                keys += 1;
                if counters.used(cap) > fullest.used(cap) {
                    fullest = Arc::clone(counters);
                }
            }
        }
        (fullest, keys)
    }
}

impl Shard {
    fn of(&mut self, key: u64, room: usize) -> Arc<CapCounters> {
        if let Some(own) = self.own.get(&key) {
            return Arc::clone(own);
        }
        let slot = usize::try_from(key / SHARDS as u64 % SLOTS as u64).unwrap_or(0);
        // Some of these may be this key's, and would be forgotten with counters of its own.
        if let Some(shared) = self.shared.get(slot).filter(|shared| is_held(shared)) {
            return Arc::clone(shared);
        }
        if self.own.len() >= room {
            self.forget(room);
        }
        if self.own.len() < room {
            return Arc::clone(self.own.entry(key).or_default());
        }
        self.shared.resize_with(SLOTS, Arc::default);
        Arc::clone(&self.shared[slot])
    }

    /// Whom nobody holds is at zero.
    fn forget(&mut self, room: usize) {
        match self.patience.checked_sub(1) {
            Some(less) => self.patience = less,
            None => {
                self.own.retain(|_, counters| is_held(counters));
                self.patience = self.own.len().min(room);
            }
        }
    }
}

/// Every place that is taken holds its counters; new holders come by the shard's lock only.
fn is_held(counters: &Arc<CapCounters>) -> bool {
    Arc::strong_count(counters) > 1
}

#[cfg(test)]
mod tests;
