//! Where counters live: apart from configuration, so that a push forgets nothing.
//!
//! State is looked up once, when a snapshot is built, and then held by the compiled filters; no request takes a
//! lock here. What no snapshot holds any more is dropped by [`StateStore::sweep`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::time::Timestamp;
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
    entries: Mutex<FxHashMap<StateKey, Entry>>,
    hash_seed: [u64; 2],
}

struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    unused_since: Option<Timestamp>,
}

impl StateStore {
    /// `hash_seed`: drawn by the shell, once per process, where clients are not to know it; fixed where a run must be
    /// the same twice (a simulation at the cap on keys).
    pub fn new(hash_seed: [u64; 2]) -> Self {
        Self { entries: Mutex::default(), hash_seed }
    }

    /// Under which counters hash what clients send, so that no client can aim at another's counter. No verdict
    /// depends on it otherwise.
    pub fn hash_seed(&self) -> [u64; 2] {
        self.hash_seed
    }

    /// The state under `key`, made by `make` if there is none (or if it is of another type).
    pub fn get_or_insert<T: Any + Send + Sync>(&self, key: StateKey, make: impl FnOnce() -> T) -> Arc<T> {
        let mut entries = self.entries.lock();
        if let Some(found) = entries.get_mut(&key)
            && let Ok(value) = Arc::clone(&found.value).downcast::<T>()
        {
            found.unused_since = None;
            return value;
        }
        let value = Arc::new(make());
        entries.insert(key, Entry { value: value.clone(), unused_since: None });
        value
    }

    /// Drops what nobody has held for [`GRACE`]. Called after each push.
    pub fn sweep(&self, now: Timestamp) {
        self.entries.lock().retain(|_, entry| {
            if Arc::strong_count(&entry.value) > 1 {
                entry.unused_since = None;
                return true;
            }
            now.since(*entry.unused_since.get_or_insert(now)) < GRACE
        });
    }

    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
}
