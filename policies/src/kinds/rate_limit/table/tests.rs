use super::*;
use allocation_counter::measure;
use proptest::prelude::*;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::num::NonZeroU32;
use std::thread;

fn rate(requests: u32, burst: u32) -> Rate {
    let number = |n| NonZeroU32::new(n).unwrap();
    Rate::new(number(requests), Duration::from_secs(1), number(burst)).unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// The `n`th key: shards in turn, and spread over the sketch as hashes are.
fn key(n: u64) -> u128 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(n);
    u128::from(hasher.finish()) << 64 | u128::from(n)
}

fn spend(table: &Table, n: u64, now: Timestamp) -> bool {
    table.spend(key(n), 1, now).is_ok()
}

/// Room for 16 keys, all taken at 0 ms by keys that have spent one request.
fn taken(rate: Rate, cold_width: usize) -> Table {
    let table = Table::sized(rate, SHARDS, cold_width);
    assert!((0..16).all(|n| spend(&table, n, at(0))));
    table
}

impl Table {
    fn spend(&self, key: u128, cost: u32, now: Timestamp) -> Result<u32, Option<Duration>> {
        let spent = match self.bucket(key, now) {
            (rate, Held::Own(cell)) => cell.spend(rate, cost, now),
            (rate, Held::Shared(shared)) => shared.spend(rate, cost, now),
        };
        spent.map(|spent| spent.level.remaining)
    }
}

#[test]
fn each_key_has_its_own_bucket() {
    let table = Table::new(rate(1, 1), 1000);
    assert!(spend(&table, 1, at(0)) && spend(&table, 2, at(0)));
    assert!(!spend(&table, 1, at(0)));
}

#[test]
fn ever_new_keys_stay_under_the_cap_and_a_stranger_still_passes() {
    let table = Table::sized(rate(1, 1), 1600, 256);
    let admitted = (0..2000).filter(|n| spend(&table, *n, at(0))).count();
    assert_eq!(table.len(), 1600);
    assert!(admitted >= 1998, "400 in rows of 4096 do not get into each other's way: {admitted}");
    assert!((0..2000).all(|n| !spend(&table, n, at(0))), "and each has spent what it had");
}

#[test]
fn strangers_are_refused_no_more_often_than_the_sketch_says() {
    for (flood, most) in [(1.0, 0.16), (0.5, 0.024), (0.1, 0.0002)] {
        let table = taken(rate(1, 1), 512);
        let width = 512.0 * SHARDS as f64;
        let flood = 16 + (flood * width) as u64;
        (16..flood).for_each(|n| _ = spend(&table, n, at(0)));
        let refused = (flood..flood + 10_000)
            .filter(|n| {
                let shared = table.bucket(key(*n), at(0));
                matches!(shared, (rate, Held::Shared(shared)) if shared.check(rate, 1, at(0)).is_err())
            })
            .count();
        let most: f64 = most * 10_000.0;
        assert!((refused as f64) < most + 3.0 * most.sqrt() + 1.0, "{flood} keys: {refused} of 10 000");
    }
}

#[test]
fn a_flood_of_keys_that_spend_little_leaves_strangers_the_rest() {
    let table = taken(rate(1, 10), 512);
    // Twice as many as the rows are wide.
    (16..16_400).for_each(|n| _ = spend(&table, n, at(0)));
    let left: Vec<_> = (50_000..51_000).map(|n| table.spend(key(n), 1, at(0)).unwrap_or(0)).collect();
    assert!(left.iter().all(|left| *left >= 4), "{left:?}");
}

#[test]
fn full_buckets_make_room_and_spent_ones_do_not() {
    let table = taken(rate(1, 1), 8);
    assert!(spend(&table, 16, at(0)), "in the sketch");
    assert!(!spend(&table, 16, at(0)), "and once only");
    assert!(!spend(&table, 0, at(999)), "not forgotten");
    assert!(spend(&table, 16, at(1000)));
    assert!(matches!(table.bucket(key(16), at(1000)), (_, Held::Own(_))));
    assert_eq!(table.len(), SHARDS);
}

#[test]
fn a_key_that_gets_its_own_bucket_takes_along_what_it_spent_in_the_sketch() {
    let table = taken(rate(1, 2), 8);
    assert!(spend(&table, 16, at(0)) && spend(&table, 16, at(0)));
    assert!(spend(&table, 16, at(1000)), "one is back after a second");
    assert!(matches!(table.bucket(key(16), at(1000)), (_, Held::Own(_))));
    assert!(!spend(&table, 16, at(1000)), "and no more");
}

#[test]
fn what_a_stranger_gives_back_it_can_spend_again_and_another_cannot_spend_it_twice() {
    let table = taken(rate(1, 2), 1);
    let (rate, Held::Shared(shared)) = table.bucket(key(16), at(0)) else { panic!("no room") };
    assert!(shared.spend(rate, 2, at(0)).is_ok());
    shared.give_back();
    assert_eq!(shared.spend(rate, 1, at(0)).map(|spent| spent.level.remaining), Ok(1));
    drop(shared);
    // With one cell for all.
    assert_eq!(table.spend(key(32), 1, at(0)), Ok(0));
    let (_, Held::Shared(shared)) = table.bucket(key(16), at(0)) else { panic!("no room") };
    shared.give_back();
    drop(shared);
    assert!(!spend(&table, 32, at(0)), "what a request has not spent itself it does not give back");
}

#[test]
fn a_forgotten_key_is_not_full_earlier_for_a_thread_with_an_older_clock() {
    let table = Table::new(rate(1, 1), 2 * SHARDS);
    assert!(spend(&table, 0, at(0)) && spend(&table, 16, at(0)));
    assert!(spend(&table, 32, at(1000)), "in the place of one that was forgotten");
    assert!(!spend(&table, 0, at(999)));
    assert!(spend(&table, 48, at(1000)));
    assert!(!spend(&table, 16, at(999)), "nor in the sketch");
}

#[test]
fn buckets_that_a_faster_rate_fills_earlier_make_room_earlier() {
    let table = taken(rate(1, 1), 8);
    assert!(spend(&table, 16, at(0)), "in the sketch");
    table.want(rate(10, 1));
    assert!(!spend(&table, 16, at(50)), "spent under the rate before");
    assert!(spend(&table, 16, at(150)));
    assert!(matches!(table.bucket(key(16), at(150)), (_, Held::Own(_))));
}

#[test]
fn a_changed_rate_reaches_what_is_in_the_sketch() {
    let table = taken(rate(1, 4), 8);
    assert_eq!(table.spend(key(16), 3, at(0)), Ok(1));
    table.want(rate(10, 40));
    assert_eq!(table.spend(key(16), 37, at(0)), Ok(0));
}

#[test]
fn threads_with_more_keys_than_room_never_exceed_any_keys_limit() {
    const KEYS: u64 = 64;
    let table = Table::sized(rate(1, 3), SHARDS, 2);
    let counts: Vec<HashMap<u64, u32>> = thread::scope(|scope| {
        let work = |seed| {
            let (table, mut rng) = (&table, fastrand::Rng::with_seed(seed));
            move || {
                let mut counts = HashMap::new();
                for _ in 0..20_000 {
                    let n = rng.u64(..KEYS);
                    *counts.entry(n).or_default() += u32::from(spend(table, n, at(10)));
                }
                counts
            }
        };
        let threads: Vec<_> = (0..8).map(|seed| scope.spawn(work(seed))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for n in 0..KEYS {
        let admitted: u32 = counts.iter().filter_map(|c| c.get(&n)).sum();
        assert!(admitted <= 3, "key {n}: {admitted}");
    }
}

#[test]
fn threads_that_spend_and_give_back_and_move_between_clocks_never_exceed_any_keys_limit() {
    const KEYS: u64 = 48;
    let table = Table::sized(rate(20, 2), SHARDS, 2);
    let kept: Vec<Vec<(u64, u64)>> = thread::scope(|scope| {
        let work = |seed| {
            let (table, mut rng) = (&table, fastrand::Rng::with_seed(seed));
            move || {
                let mut kept = Vec::new();
                for turn in 0..20_000_u64 {
                    let (n, now) = (rng.u64(..KEYS), turn / 20);
                    let bucket = table.bucket(key(n), at(now));
                    let spent = match &bucket {
                        (rate, Held::Own(cell)) => cell.spend(*rate, 1, at(now)).is_ok(),
                        (rate, Held::Shared(shared)) => shared.spend(*rate, 1, at(now)).is_ok(),
                    };
                    match &bucket {
                        (_, Held::Shared(shared)) if spent && rng.bool() => shared.give_back(),
                        _ if spent => kept.push((n, now)),
                        _ => {}
                    }
                }
                kept
            }
        };
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(work(seed))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for n in 0..KEYS {
        let mut times: Vec<u64> = kept.iter().flatten().filter(|(k, _)| *k == n).map(|(_, at)| *at).collect();
        times.sort_unstable();
        within(&times, 2, 20).unwrap();
    }
}

#[test]
fn a_known_key_allocates_nothing_with_a_bucket_of_its_own_or_without() {
    let table = taken(rate(1, 5), 8);
    assert!(spend(&table, 16, at(0)));
    let spent = measure(|| {
        assert!(spend(&table, 0, at(1)) && spend(&table, 16, at(1)));
        assert!(spend(&table, 17, at(1)) && spend(&table, 17, at(1)), "a stranger");
    });
    assert_eq!(spent.count_total, 1, "the sketch of the stranger's shard");
    let again = measure(|| assert!(spend(&table, 33, at(1)) && spend(&table, 1, at(1))));
    assert_eq!(again.count_total, 0);
}

#[test]
fn as_many_keys_as_an_attacker_likes_fit_in_what_was_promised() {
    let flooded = measure(|| flood(&Table::sized(rate(1, 1), 10_000, 256), 300_000));
    assert!(flooded.bytes_max < 1 << 20, "{flooded:?}");
}

#[test]
#[ignore = "takes its time: run it with --release"]
fn ten_million_keys_fit_in_what_was_promised() {
    let flooded = measure(|| flood(&Table::new(rate(1, 1), MAX_KEYS), 10_000_000));
    assert!(flooded.bytes_max < 8_000_000, "{flooded:?}");
}

/// At 100 000 keys per second, so that there are always some to forget.
fn flood(table: &Table, keys: u64) {
    for n in 0..keys {
        let _ = spend(table, n, Timestamp::from_nanos(n * 10_000));
    }
    assert!(table.len() <= table.keys_per_shard * SHARDS);
}

/// Whether what was admitted at these milliseconds is at most `burst` and `rate` per second, whenever one looks.
fn within(times: &[u64], burst: u64, rate: u64) -> Result<(), String> {
    for (i, from) in times.iter().enumerate() {
        for (n, to) in times[i..].iter().enumerate() {
            if n as u64 >= burst + (to - from) * rate / 1000 {
                return Err(format!("{} from {from} to {to}", n + 1));
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_key_gets_more_than_its_limit_however_often_it_is_forgotten(
        steps in prop::collection::vec((0_u64..400, 0_u64..80), 1..400),
        cold_width in 1_usize..8,
    ) {
        let table = Table::sized(rate(4, 2), SHARDS, cold_width);
        let mut now = 0;
        let mut admitted: HashMap<u64, Vec<u64>> = HashMap::new();
        for (step, n) in steps {
            now += step;
            if spend(&table, n, at(now)) {
                admitted.entry(n).or_default().push(now);
            }
            prop_assert!(table.len() <= SHARDS);
        }
        for times in admitted.values() {
            within(times, 2, 4).map_err(TestCaseError::fail)?;
        }
    }

    /// The law of the sketch, against a bucket that each key really has.
    #[test]
    fn what_the_sketch_says_of_a_key_is_never_less_than_it_spent(
        steps in prop::collection::vec((0_u64..300, 0_u64..40, 1_u32..4, any::<bool>()), 1..300),
    ) {
        let table = taken(rate(4, 5), 3);
        // Nothing makes room: the keys that have it spend whenever they can.
        let mut truth: HashMap<u64, Cell> = HashMap::new();
        let mut now = 0;
        for (step, n, cost, regret) in steps {
            now += step;
            (0..16).for_each(|n| while spend(&table, n, at(now)) {});
            let bucket = table.bucket(key(100 + n), at(now));
            let (rate, Held::Shared(shared)) = &bucket else {
                return Err(TestCaseError::fail("a bucket of its own"));
            };
            let cell = truth.entry(n).or_default();
            prop_assert!(shared.level(*rate, at(now)).remaining <= cell.level(*rate, at(now)).remaining);
            match shared.spend(*rate, cost, at(now)) {
                Ok(_) if regret => shared.give_back(),
                Ok(_) => prop_assert!(cell.spend(*rate, cost, at(now)).is_ok()),
                Err(_) => {}
            }
        }
    }
}
