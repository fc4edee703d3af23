//! Who is under way, by key. There is an entry for each key that has somebody, and for no other: so memory is bounded by
//! the requests that are under way.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::pipeline::Held;

const SHARDS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Places {
    shards: [Mutex<FxHashMap<u128, u32>>; SHARDS],
}

/// One request's place; given back when it is dropped.
#[derive(Debug)]
pub(in crate::kinds::rate_limit) struct Place {
    places: Arc<Places>,
    key: u128,
}

impl Places {
    /// `None` if `most` are taken.
    pub(super) fn take(self: &Arc<Self>, key: u128, most: u32) -> Option<Place> {
        let mut shard = self.shard(key).lock();
        let taken = shard.entry(key).or_default();
        if *taken >= most {
            return None;
        }
        *taken += 1;
        Some(Place { places: Arc::clone(self), key })
    }

    fn shard(&self, key: u128) -> &Mutex<FxHashMap<u128, u32>> {
        &self.shards[usize::try_from(key % SHARDS as u128).unwrap_or(0)]
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

impl Held for Place {}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.places.shard(self.key).lock().entry(self.key) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    #[test]
    fn a_place_that_is_given_back_can_be_taken_and_nothing_is_kept_of_who_left() {
        let places = Arc::new(Places::default());
        let (a, b) = (places.take(1, 2), places.take(1, 2));
        assert!(a.is_some() && b.is_some() && places.take(1, 2).is_none());
        assert!(places.take(2, 2).is_some());
        drop(a);
        assert!(places.take(1, 2).is_some());
        assert!(places.take(1, 1).is_none(), "a lowered cap holds for who comes");
        drop(b);
        assert_eq!(places.len(), 0);
    }

    #[test]
    fn threads_are_never_more_than_the_cap_at_one_time() {
        let (places, now, most) = (Arc::new(Places::default()), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Some(_place) = places.take(7, 3) else { continue };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(places.len(), 0);
    }
}
