//! All guards of one proxy that share what they see: what the shell tells the control plane, and where its word goes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tidegate_outliers::Statement;

use super::{CircuitGuard, Suspect};
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;

/// One per process; see the module.
#[derive(Debug)]
pub struct Outliers {
    guards: Mutex<BTreeMap<Arc<str>, Weak<CircuitGuard>>>,
    /// The suspects of each guard by its id, also of endpoints that this proxy has not heard of yet.
    suspects: Mutex<BTreeMap<Arc<str>, Vec<Suspect>>>,
    /// So that proxies that are told the same at once do not all try at once.
    rng: Mutex<fastrand::Rng>,
    /// When it was last asked, in nanoseconds: a push does not say what time it is.
    asked_at: AtomicU64,
}

/// One statement, with the id of its guard and the label of its endpoint.
pub type Word = (Arc<str>, Arc<str>, Statement);

/// What a control plane can have us remember.
const MOST_GUARDS: usize = 10_000;
const MOST_SUSPECTS: usize = 10_000;

impl Outliers {
    pub fn of(store: &StateStore) -> Arc<Self> {
        let new = || Self {
            guards: Mutex::default(),
            suspects: Mutex::default(),
            rng: Mutex::new(fastrand::Rng::with_seed(store.hash_seed()[0])),
            asked_at: AtomicU64::new(0),
        };
        store.get_or_insert(StateKey::new("what proxies share of failing endpoints", ""), new)
    }

    /// Whether any policy in force shares.
    pub fn are_wanted(&self) -> bool {
        self.guards.lock().values().any(|guard| guard.strong_count() > 0)
    }

    /// What is news to the control plane; `asked`: whether it wants to hear of an endpoint of a guard that all is well, too.
    pub fn statements(&self, asked: impl Fn(&str, &str) -> bool, now: Timestamp) -> Vec<Word> {
        self.asked_at.store(now.as_nanos(), Ordering::Relaxed);
        let mut words = Vec::new();
        for guard in self.guards() {
            guard.statements(
                |endpoint| asked(&guard.id, endpoint),
                now,
                |endpoint, statement| {
                    words.push((guard.id.clone(), endpoint.clone(), statement));
                },
            );
        }
        words
    }

    /// All suspects of one guard, in the control plane's word.
    pub fn told(&self, guard: &str, suspects: Vec<Suspect>, now: Timestamp) {
        let mut known = self.suspects.lock();
        let place = known.get(guard).is_some() || known.len() < MOST_GUARDS;
        if let Some(guard) = self.guards.lock().get(guard).and_then(Weak::upgrade) {
            guard.told(&suspects, now, &mut self.rng.lock());
        }
        if suspects.is_empty() {
            known.remove(guard);
        } else if place && suspects.len() <= MOST_SUSPECTS {
            known.insert(guard.into(), suspects);
        }
    }

    /// A stream has begun: what was told before it is void, and nothing has been said on it.
    pub fn begin(&self, now: Timestamp) {
        self.suspects.lock().clear();
        for guard in self.guards() {
            guard.told(&[], now, &mut self.rng.lock());
            guard.unheard();
        }
    }

    /// There has been no word since `since`: after as long as each policy says, nobody is suspect any more.
    pub fn alone(&self, since: Timestamp, now: Timestamp) {
        for guard in self.guards() {
            if guard.holds_suspicions().is_some_and(|hold| now.since(since) >= hold) {
                self.suspects.lock().remove(&guard.id);
                guard.told(&[], now, &mut self.rng.lock());
            }
        }
    }

    /// A push has bound a guard that shares; what is known of its endpoints holds from the first request.
    pub(super) fn adopt(&self, guard: &Arc<CircuitGuard>) {
        let mut guards = self.guards.lock();
        guards.retain(|_, guard| guard.strong_count() > 0);
        guards.insert(guard.id.clone(), Arc::downgrade(guard));
        drop(guards);
        if let Some(suspects) = self.suspects.lock().get(&guard.id) {
            let now = Timestamp::from_nanos(self.asked_at.load(Ordering::Relaxed));
            guard.told(suspects, now, &mut self.rng.lock());
        }
    }

    fn guards(&self) -> Vec<Arc<CircuitGuard>> {
        self.guards.lock().values().filter_map(Weak::upgrade).collect()
    }
}
