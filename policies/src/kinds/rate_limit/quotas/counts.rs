//! Who has made how many requests in a window, by key.
//!
//! A window only ever moves forward: a clock that goes backwards finds the counts that there are, and they hold until the
//! end of the window that they belong to. That of a clock which was ahead by mistake holds too: to begin anew when a clock
//! goes backwards would be a quota for whoever can set it.
//! What was counted in a window that is over is forgotten at once, so memory is bounded by the keys of one window, and
//! those by [`MAX_KEYS`].

mod saved;

use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::calendar::Window;

const SHARDS: usize = 16;

/// About 5 MB.
const MAX_KEYS: usize = 100_000;

/// Of one quota.
#[derive(Debug)]
pub(in crate::kinds::rate_limit) struct Counts {
    shards: [Mutex<Shard>; SHARDS],
    /// Of each shard.
    max_keys: usize,
}

#[derive(Debug, Default)]
struct Shard {
    window: Window,
    counts: FxHashMap<u128, u32>,
    /// Of all keys that there was no room for, together: strict, for each of them.
    beyond: u32,
    /// In this window, a key was counted with others. None that has a count leaves it from now on, or one of those would
    /// find room and begin anew.
    was_full: bool,
}

/// What a request took of a quota; given back when it is dropped, unless it is kept.
#[derive(Debug)]
pub(in crate::kinds::rate_limit) struct Taken {
    /// `None`: kept.
    counts: Option<Arc<Counts>>,
    key: u128,
    cost: u32,
    is_own: bool,
    pub(super) window: Window,
    /// What is left after it.
    pub(super) remaining: u32,
}

impl Counts {
    pub(super) fn new() -> Self {
        Self::with_room_for(MAX_KEYS)
    }

    fn with_room_for(keys: usize) -> Self {
        Self { shards: Default::default(), max_keys: keys / SHARDS }
    }

    /// Takes `cost` of `most`. `next` says which window follows one that may be over, or the same.
    ///
    /// # Errors
    /// Not so much is left in this window.
    pub(super) fn take(
        self: &Arc<Self>,
        key: u128,
        (cost, most): (u32, u32),
        next: impl FnOnce(Window) -> Window,
    ) -> Result<Taken, Window> {
        let mut shard = self.shard(key).lock();
        let next = next(shard.window);
        shard.enter(next);
        let window = shard.window;
        let (count, is_own) = shard.count(key, self.max_keys);
        // A count may be above a number that was lowered.
        let Some(remaining) = most.checked_sub(*count).and_then(|left| left.checked_sub(cost)) else {
            return Err(window);
        };
        *count += cost;
        Ok(Taken { counts: Some(Arc::clone(self)), key, cost, is_own, window, remaining })
    }

    fn shard(&self, key: u128) -> &Mutex<Shard> {
        &self.shards[usize::try_from(key % SHARDS as u128).unwrap_or(0)]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().counts.len()).sum()
    }
}

impl Shard {
    /// A window that is not later than the one there is changes nothing.
    fn enter(&mut self, next: Window) {
        if next.end <= self.window.end {
            return;
        }
        // Where the zone's clock was changed by less than an hour, hours would overlap.
        let start = next.start.max(self.window.end);
        self.window = Window { start, end: next.end };
        self.counts.clear();
        (self.beyond, self.was_full) = (0, false);
    }

    /// The count of a key, and whether it is its own.
    fn count(&mut self, key: u128, max_keys: usize) -> (&mut u32, bool) {
        if self.counts.len() >= max_keys && !self.counts.contains_key(&key) {
            self.was_full = true;
            return (&mut self.beyond, false);
        }
        (self.counts.entry(key).or_default(), true)
    }

    fn give_back(&mut self, taken: &Taken) {
        if self.window != taken.window {
            return;
        }
        if !taken.is_own {
            self.beyond = self.beyond.saturating_sub(taken.cost);
        } else if let Some(count) = self.counts.get_mut(&taken.key) {
            *count = count.saturating_sub(taken.cost);
            if *count == 0 && !self.was_full {
                self.counts.remove(&taken.key);
            }
        }
    }
}

impl Taken {
    /// It stays taken.
    pub(super) fn keep(&mut self) {
        self.counts = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(counts) = self.counts.take() {
            counts.shard(self.key).lock().give_back(self);
        }
    }
}

#[cfg(test)]
mod tests;
