use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::health::CapPermit;
use crate::model::Mode;

fn take(counters: &KeyedCounters, key: u64, limit: u32) -> Option<CapPermit> {
    counters.of(key).acquire(Cap::Requests, Some(limit), Mode::Enforce)
}

fn used(counters: &KeyedCounters) -> u32 {
    counters.fullest(Cap::Requests).0.used(Cap::Requests)
}

#[test]
fn each_key_has_places_of_its_own() {
    let counters = KeyedCounters::default();
    let (a, b) = (take(&counters, 1, 1), take(&counters, 2, 1));
    assert!(a.is_some() && b.is_some() && take(&counters, 1, 1).is_none());
    assert_eq!(counters.fullest(Cap::Requests).1, 2);
    drop(a);
    assert!(take(&counters, 1, 1).is_some());
}

#[test]
fn a_key_without_anybody_makes_room_for_another() {
    let counters = KeyedCounters::sized(SHARDS);
    for key in 0..1000 {
        let permit = take(&counters, key * SHARDS as u64, 1).expect("the one before has left");
        assert_eq!(counters.shards[0].lock().own.len(), 1);
        drop(permit);
    }
    assert!(counters.shards[0].lock().shared.is_empty());
}

#[test]
fn beyond_the_room_keys_are_counted_together_until_the_last_of_them_has_left() {
    let counters = KeyedCounters::sized(SHARDS);
    let (first, round) = (take(&counters, 0, 2), (SHARDS * SLOTS) as u64);
    let (a, b) = (take(&counters, round, 2), take(&counters, 2 * round, 2));
    assert!(first.is_some() && a.is_some() && b.is_some());
    assert!(take(&counters, 3 * round, 2).is_none(), "both places of the slot are taken");
    drop((first, a));
    let again = take(&counters, 2 * round, 2);
    assert!(again.is_some() && take(&counters, 2 * round, 2).is_none(), "its first place is still counted");
    drop((b, again));
    assert_eq!(used(&counters), 0);
}

#[test]
fn ever_new_keys_are_not_more_than_there_is_room_for() {
    let counters = KeyedCounters::default();
    let held: Vec<_> = (0..30_000).map(|key| take(&counters, key, 1)).collect();
    let own: usize = counters.shards.iter().map(|shard| shard.lock().own.len()).sum();
    assert_eq!(own, MAX_KEYS);
    assert!(held.iter().flatten().count() >= MAX_KEYS);
    drop(held);
    assert_eq!(counters.fullest(Cap::Requests).1, 0);
}

#[test]
fn threads_never_hold_more_of_a_key_than_its_limit() {
    const KEYS: usize = 5;
    let counters = KeyedCounters::sized(SHARDS);
    let held: [AtomicU32; KEYS] = Default::default();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (counters, held) = (&counters, &held);
            scope.spawn(move || {
                for turn in 0..20_000 {
                    let key = (turn * 7 + thread) % KEYS;
                    let Some(permit) = take(counters, (key * SHARDS) as u64, 2) else { continue };
                    assert!(held[key].fetch_add(1, Ordering::SeqCst) < 2);
                    held[key].fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert_eq!(used(&counters), 0);
}

proptest! {
    #[test]
    fn no_key_has_one_more_than_its_limit_and_all_are_at_zero_when_all_have_left(
        room in 0_usize..4,
        limit in 1_u32..4,
        steps in prop::collection::vec((0_u64..12, any::<bool>(), any::<prop::sample::Index>()), 1..200),
    ) {
        let counters = KeyedCounters::sized(room * SHARDS);
        let mut held = Vec::new();
        for (key, leaves, which) in steps {
            if leaves && !held.is_empty() {
                held.swap_remove(which.index(held.len()));
            }
            // All in one shard, and more of them than it has slots for apart.
            let hash = key * SHARDS as u64 * 3;
            held.extend(take(&counters, hash, limit).map(|permit| (key, permit)));
            let mut of_key = HashMap::<u64, u32>::new();
            held.iter().for_each(|(key, _)| *of_key.entry(*key).or_default() += 1);
            prop_assert!(of_key.values().all(|held| *held <= limit));
            prop_assert!(counters.shards[0].lock().own.len() <= room);
        }
        held.clear();
        prop_assert_eq!((used(&counters), counters.fullest(Cap::Requests).1), (0, 0));
    }
}
