//! Where counters live: apart from configuration, so that a push forgets nothing.
//!
//! State is looked up once, when a snapshot is built, and then held by the compiled filters; no request takes a
//! lock here. What no snapshot holds any more is dropped by [`StateStore::sweep`].
//!
//! State that is asked for by [`StateStore::get_or_restore`] outlives the process too, if somebody keeps what
//! [`StateStore::save`] says and starts the next process with [`StateStore::restored`]. What was saved waits until a
//! snapshot asks for it.

mod saved;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::time::Timestamp;
pub use saved::{Body, Moment, Moved, Persist, Piece, Saved};
use std::time::Duration;

/// What a piece of state belongs to: an owner (`RateLimitPolicy/shop/per-user`, `endpoint/shop/cart:80`) and the
/// part of it that must be equal for the state to carry over (a limit's name and keys, an endpoint's address).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateKey {
    pub owner: Arc<str>,
    pub part: Arc<str>,
}

impl StateKey {
    pub fn new(owner: impl Into<Arc<str>>, part: impl Into<Arc<str>>) -> Self {
        Self { owner: owner.into(), part: part.into() }
    }
}

/// How long state outlives the last snapshot that used it: a policy that is deleted and applied again within this
/// time goes on where it was.
pub const GRACE: Duration = Duration::from_secs(300);

pub struct StateStore {
    entries: Mutex<Entries>,
    hash_seed: [u64; 2],
    started: Moment,
}

#[derive(Default)]
struct Entries {
    live: FxHashMap<StateKey, Entry>,
    /// Of the process before, until somebody asks for it.
    waiting: FxHashMap<StateKey, Piece>,
}

type Value = Arc<dyn Any + Send + Sync>;

struct Entry {
    value: Value,
    unused_since: Option<Timestamp>,
    save: Option<Save>,
}

/// [`Persist::save`] of the type that a value really has.
type Save = fn(&Value, Timestamp) -> Option<Body>;

impl StateStore {
    /// `hash_seed`: drawn by the shell, once per process, where clients are not to know it; fixed where a run must be
    /// the same twice (a simulation at the cap on keys).
    pub fn new(hash_seed: [u64; 2]) -> Self {
        Self { entries: Mutex::default(), hash_seed, started: Moment::default() }
    }

    /// With the seed of the process that saved, and what it counted. `None`: that cannot be.
    pub fn restored(saved: Saved, now: Moment) -> Option<Self> {
        let hash_seed = saved.hash_seed.try_into().ok()?;
        let waiting = saved.pieces.into_iter().map(|piece| (piece.key(), piece)).collect();
        let entries = Mutex::new(Entries { waiting, ..Entries::default() });
        Some(Self { entries, hash_seed, started: now })
    }

    /// Under which counters hash what clients send, so that no client can aim at another's counter. No verdict
    /// depends on it otherwise.
    pub fn hash_seed(&self) -> [u64; 2] {
        self.hash_seed
    }

    /// The state under `key`, made by `make` if there is none (or if it is of another type).
    pub fn get_or_insert<T: Any + Send + Sync>(&self, key: StateKey, make: impl FnOnce() -> T) -> Arc<T> {
        let mut entries = self.entries.lock();
        entries.live(&key).unwrap_or_else(|| entries.insert(key, make(), None))
    }

    /// The same for state that outlives its process: what is made begins with what was saved.
    pub fn get_or_restore<T: Persist>(&self, key: StateKey, make: impl FnOnce() -> T) -> Arc<T> {
        let mut entries = self.entries.lock();
        if let Some(found) = entries.live(&key) {
            return found;
        }
        let value = make();
        if let Some(piece) = entries.waiting.remove(&key) {
            value.restore(&piece.body, Moved::new(piece.saved_at(), self.started));
        }
        entries.insert(key, value, Some(|value, now| value.downcast_ref::<T>()?.save(now)))
    }

    /// All state that outlives its process, and what still waits of the process before; of both no more than `most`
    /// bytes. Also how many pieces there was no room for.
    pub fn save(&self, now: Moment, most: usize) -> (Saved, usize) {
        let (live, waiting) = {
            let entries = self.entries.lock();
            let live = entries.live.iter();
            let live = live.filter_map(|(key, entry)| Some((key.clone(), entry.value.clone(), entry.save?)));
            (live.collect::<Vec<_>>(), entries.waiting.values().cloned().collect::<Vec<_>>())
        };
        // Without the lock, for a push must not wait for this; and one by one, so that what is left out takes no room.
        let live = live
            .into_iter()
            .filter_map(|(key, value, save)| Some(Piece::new(&key, now, save(&value, now.clock)?)));
        let (mut pieces, mut room, mut left_out) = (Vec::new(), most, 0);
        for piece in live.chain(waiting) {
            match room.checked_sub(piece.size()) {
                Some(rest) => {
                    room = rest;
                    pieces.push(piece);
                }
                None => left_out += 1,
            }
        }
        (Saved { hash_seed: self.hash_seed.to_vec(), pieces }, left_out)
    }

    /// Drops what nobody has held for [`GRACE`]. Called after each push.
    pub fn sweep(&self, now: Timestamp) {
        let mut entries = self.entries.lock();
        entries.live.retain(|_, entry| {
            if Arc::strong_count(&entry.value) > 1 {
                entry.unused_since = None;
                return true;
            }
            now.since(*entry.unused_since.get_or_insert(now)) < GRACE
        });
        if now.since(self.started.clock) >= GRACE {
            entries.waiting.clear();
        }
    }

    pub fn len(&self) -> usize {
        self.entries.lock().live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Entries {
    fn live<T: Any + Send + Sync>(&mut self, key: &StateKey) -> Option<Arc<T>> {
        let found = self.live.get_mut(key)?;
        let value = Arc::clone(&found.value).downcast::<T>().ok()?;
        found.unused_since = None;
        Some(value)
    }

    fn insert<T: Any + Send + Sync>(&mut self, key: StateKey, value: T, save: Option<Save>) -> Arc<T> {
        let value = Arc::new(value);
        self.live.insert(key, Entry { value: value.clone(), unused_since: None, save });
        value
    }
}

impl fmt::Debug for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateStore").field("entries", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn key(part: &str) -> StateKey {
        StateKey::new("RateLimitPolicy/shop/limits", part)
    }

    #[test]
    fn the_same_key_finds_the_same_state() {
        let store = StateStore::new([0, 0]);
        store.get_or_insert(key("a"), || AtomicU32::new(0)).store(7, Ordering::Relaxed);
        assert_eq!(store.get_or_insert(key("a"), || AtomicU32::new(0)).load(Ordering::Relaxed), 7);
        assert_eq!(store.get_or_insert(key("b"), || AtomicU32::new(0)).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn state_outlives_its_users_by_the_grace_and_no_longer() {
        let store = StateStore::new([0, 0]);
        let held = store.get_or_insert(key("a"), || 1_u8);
        store.sweep(Timestamp::from_millis(0));
        drop(held);
        store.sweep(Timestamp::from_millis(1));
        assert_eq!(store.len(), 1);
        store.sweep(Timestamp::from_millis(1) + GRACE);
        assert!(store.is_empty());
    }

    #[test]
    fn state_that_is_picked_up_again_starts_a_new_grace() {
        let store = StateStore::new([0, 0]);
        drop(store.get_or_insert(key("a"), || 1_u8));
        store.sweep(Timestamp::ZERO);
        drop(store.get_or_insert(key("a"), || 1_u8));
        store.sweep(Timestamp::ZERO + GRACE);
        assert_eq!(store.len(), 1);
    }

    /// Counts, and forgets nothing.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Persist for Count {
        fn save(&self, _: Timestamp) -> Option<Body> {
            let count = self.0.load(Ordering::Relaxed);
            (count > 0).then(|| Body { bytes: count.to_le_bytes().to_vec(), items: 1 })
        }

        fn restore(&self, body: &[u8], _: Moved) {
            self.0.store(body.try_into().map(u32::from_le_bytes).unwrap_or(0), Ordering::Relaxed);
        }
    }

    fn count(store: &StateStore, part: &str) -> u32 {
        store.get_or_restore(key(part), Count::default).0.load(Ordering::Relaxed)
    }

    fn counted() -> StateStore {
        let store = StateStore::new([5, 6]);
        store.get_or_restore(key("a"), Count::default).0.store(7, Ordering::Relaxed);
        store
    }

    fn again(store: &StateStore) -> StateStore {
        StateStore::restored(store.save(Moment::default(), usize::MAX).0, Moment::default()).unwrap()
    }

    #[test]
    fn what_was_saved_waits_until_it_is_asked_for_and_then_counts_on() {
        let store = again(&counted());
        assert_eq!((store.len(), store.hash_seed()), (0, [5, 6]));
        assert_eq!((count(&store, "a"), count(&store, "b")), (7, 0));
        let state = store.get_or_restore(key("a"), Count::default);
        state.0.store(8, Ordering::Relaxed);
        assert_eq!(count(&again(&store), "a"), 8);
    }

    #[test]
    fn what_still_waits_is_saved_again() {
        assert_eq!(count(&again(&again(&counted())), "a"), 7);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_after_the_grace() {
        let (early, late) = (again(&counted()), again(&counted()));
        early.sweep(Timestamp::ZERO + GRACE / 2);
        late.sweep(Timestamp::ZERO + GRACE);
        assert_eq!((count(&early, "a"), count(&late, "a")), (7, 0));
        assert!(late.save(Moment::default(), usize::MAX).0.pieces.is_empty());
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out_and_told() {
        let store = counted();
        store.get_or_restore(key("b"), Count::default).0.store(9, Ordering::Relaxed);
        let one = key("a").owner.len() + 1 + 4;
        let (saved, left_out) = store.save(Moment::default(), 2 * one - 1);
        assert_eq!((saved.pieces.len(), left_out), (1, 1));
        assert_eq!(store.save(Moment::default(), 2 * one).1, 0);
    }

    #[test]
    fn saving_keeps_nothing_alive() {
        let store = counted();
        let _ = again(&store);
        store.sweep(Timestamp::ZERO);
        store.sweep(Timestamp::ZERO + GRACE);
        assert!(store.is_empty());
    }
}
