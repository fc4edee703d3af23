use super::*;
use crate::kinds::rate_limit::table::MAX_KEYS;
use crate::state::Moment;
use proptest::prelude::*;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

fn rate(requests: u32, burst: u32) -> Rate {
    let number = |n| NonZeroU32::new(n).unwrap();
    Rate::new(number(requests), Duration::from_secs(1), number(burst)).unwrap()
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn moment(clock: u64, wall: u64) -> Moment {
    Moment { clock: at(clock), wall: Duration::from_millis(wall) }
}

/// The `n`th key: shards in turn, and spread over the sketch as hashes are.
fn key(n: u64) -> u128 {
    u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(n)
}

fn left(limit: &LimitState, n: u64, now: u64) -> u32 {
    limit.bucket(key(n), at(now)).level(at(now)).remaining
}

fn spend(limit: &LimitState, n: u64, now: u64) -> bool {
    limit.bucket(key(n), at(now)).spend(1, at(now)).is_ok()
}

/// The limit in the process after: saved at `saved`, taken over at `now`.
fn again(
    limit: &LimitState,
    (rate, max_keys): (Rate, Option<usize>),
    saved: Moment,
    now: Moment,
) -> LimitState {
    let next = LimitState::new(rate, max_keys);
    if let Some(body) = limit.save(saved.clock) {
        next.restore(&body.bytes, Moved::new(saved, now));
    }
    next
}

#[test]
fn a_limit_goes_on_where_it_was_by_the_time_that_passed() {
    let rate = rate(1, 5);
    for max_keys in [None, Some(100), Some(16)] {
        let limit = LimitState::new(rate, max_keys);
        // With 16, the second has no room of its own.
        for n in [3, 19] {
            assert!((0..4).all(|_| spend(&limit, n, 7000) || max_keys.is_none()));
        }
        let before = left(&limit, 19, 7000);
        let next = again(&limit, (rate, max_keys), moment(7000, 90_000), moment(10, 90_000));
        assert_eq!(left(&next, 19, 10), before, "{max_keys:?}");
        let next = again(&limit, (rate, max_keys), moment(7000, 90_000), moment(10, 92_000));
        assert_eq!(left(&next, 19, 10), before + 2, "{max_keys:?}");
        let next = again(&limit, (rate, max_keys), moment(7000, 90_000), moment(10, 99_000));
        assert_eq!(left(&next, 19, 10), 5, "{max_keys:?}");
        let next = again(&limit, (rate, max_keys), moment(7000, 90_000), moment(10, 1_000));
        assert_eq!(left(&next, 19, 10), before, "a clock that went backwards; {max_keys:?}");
    }
}

#[test]
fn a_limit_that_nobody_asked_or_whose_buckets_are_full_again_is_not_saved() {
    for max_keys in [None, Some(16)] {
        let limit = LimitState::new(rate(1, 1), max_keys);
        assert_eq!(limit.save(at(1)), None);
        assert!((0..2).any(|n| spend(&limit, 16 * n, 1)));
        assert_eq!(limit.save(at(1000)).map(|body| body.items), Some(1));
        assert_eq!(limit.save(at(1001)), None);
    }
}

#[test]
fn a_rate_that_changed_meanwhile_finds_what_was_spent() {
    let (before, after) = (rate(1, 5), rate(10, 50));
    for max_keys in [None, Some(16)] {
        let limit = LimitState::new(before, max_keys);
        assert!((0..3).all(|_| spend(&limit, 3, 0)));
        let next = again(&limit, (after, max_keys), moment(0, 0), moment(0, 0));
        assert_eq!(left(&next, 3, 0), 47);
        // The same, if it was changed before it was saved and nobody asked since.
        limit.want(after);
        let next = again(&limit, (after, max_keys), moment(0, 0), moment(0, 0));
        assert_eq!(left(&next, 3, 0), 47);
    }
}

#[test]
fn a_rate_that_only_some_shards_took_over_is_saved_as_one() {
    let limit = LimitState::new(rate(1, 5), Some(100));
    assert!([0, 1].iter().all(|n| (0..3).all(|_| spend(&limit, *n, 0))));
    limit.want(rate(10, 50));
    assert_eq!(left(&limit, 0, 0), 47);
    let next = again(&limit, (rate(10, 50), Some(100)), moment(0, 0), moment(0, 0));
    assert_eq!([0, 1].map(|n| left(&next, n, 0)), [47, 47]);
}

#[test]
fn a_bucket_is_never_emptier_than_empty() {
    let limit = LimitState::new(rate(1, 5), None);
    assert!((0..5).all(|_| spend(&limit, 0, 60_000)));
    // As if the process had saved long before it spent.
    let body = limit.save(at(1)).unwrap();
    let next = LimitState::new(rate(1, 5), None);
    next.restore(&body.bytes, Moved::new(moment(1, 0), moment(0, 0)));
    assert_eq!(left(&next, 0, 4999), 4);
    assert_eq!(left(&next, 0, 5000), 5);
}

#[test]
fn keys_that_a_smaller_table_has_no_room_for_stay_spent() {
    let rate = rate(1, 1);
    let limit = LimitState::new(rate, Some(1600));
    assert!((0..1600).all(|n| spend(&limit, n, 0)));
    let next = again(&limit, (rate, Some(16)), moment(0, 0), moment(0, 0));
    assert!((0..1600).all(|n| !spend(&next, n, 0)));
}

#[test]
fn bytes_of_something_else_are_not_taken_over() {
    let limit = LimitState::new(rate(1, 5), Some(MAX_KEYS));
    assert!(spend(&limit, 3, 0));
    let good = limit.save(at(0)).unwrap().bytes;
    for bad in [&b"\xff\xff\xff"[..], &[], &good[..good.len() - 1]] {
        let next = LimitState::new(rate(1, 5), Some(MAX_KEYS));
        next.restore(bad, Moved::new(moment(0, 0), moment(0, 0)));
        assert_eq!(left(&next, 3, 0), 5);
    }
}

#[test]
fn a_full_table_takes_little_more_than_20_bytes_a_key() {
    let limit = LimitState::new(rate(1, 1), Some(MAX_KEYS));
    (0..2 * MAX_KEYS as u64).for_each(|n| _ = spend(&limit, n, 1000));
    let body = limit.save(at(1000)).unwrap();
    assert_eq!(body.items, MAX_KEYS as u64);
    assert!(body.bytes.len() < 3_000_000, "{}", body.bytes.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// By the true time, whatever the clocks of the processes say and however often they restart.
    #[test]
    fn no_key_gets_more_than_its_limit_over_any_number_of_restarts(
        steps in prop::collection::vec((0_u64..300, 0_u64..60, prop::option::weighted(0.1, 0_u64..1000)), 1..400),
        max_keys in prop::option::of(Just(16_usize)),
        backwards in any::<bool>(),
    ) {
        let setup = (rate(4, 2), max_keys);
        let mut limit = LimitState::new(setup.0, max_keys);
        let (mut now, mut clock) = (0, 0);
        let mut admitted: HashMap<u64, Vec<u64>> = HashMap::new();
        for (step, n, away) in steps {
            now += step;
            clock += step;
            if let Some(away) = away {
                let wall = if backwards { 0 } else { now + away };
                limit = again(&limit, setup, moment(clock, now), moment(7, wall));
                now += away;
                clock = 7;
            }
            if spend(&limit, n, clock) {
                let of = if max_keys.is_some() { n } else { 0 };
                admitted.entry(of).or_default().push(now);
            }
        }
        for times in admitted.values() {
            for (i, from) in times.iter().enumerate() {
                for (n, to) in times[i..].iter().enumerate() {
                    prop_assert!((n as u64) < 2 + (to - from) * 4 / 1000);
                }
            }
        }
    }

    /// What passes is what would have passed without the restart.
    #[test]
    fn a_key_with_a_bucket_of_its_own_gets_all_that_its_limit_says_after_a_restart(
        spent in 0_u32..10,
        away in 0_u64..3000,
    ) {
        let rate = rate(4, 10);
        let limit = LimitState::new(rate, Some(16));
        prop_assert!((0..spent).all(|_| spend(&limit, 1, 50)));
        let next = again(&limit, (rate, Some(16)), moment(50, 0), moment(0, away));
        prop_assert_eq!(left(&next, 1, 0), left(&limit, 1, 50 + away));
    }
}
