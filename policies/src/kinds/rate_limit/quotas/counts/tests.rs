use std::thread;

use proptest::prelude::*;

use super::*;
use crate::state::{Moment, Moved, Persist};
use crate::time::Timestamp;

fn counts(room: usize) -> Arc<Counts> {
    Arc::new(Counts::with_room_for(room))
}

/// The window with this number.
fn window(number: i64) -> Window {
    Window { start: number * 10, end: number * 10 + 10 }
}

/// Whether one of `most` is left in the window, or in a later one; it stays taken.
fn passes(counts: &Arc<Counts>, key: u128, most: u32, number: i64) -> bool {
    counts.take(key, (1, most), |_| window(number)).map(|mut taken| taken.keep()).is_ok()
}

#[test]
fn each_key_has_its_own_count_in_each_window() {
    let counts = counts(100);
    assert_eq!([1, 2, 3].map(|_| passes(&counts, 1, 2, 5)), [true, true, false]);
    assert!(passes(&counts, 2, 2, 5));
    assert!(passes(&counts, 1, 2, 6));
    assert!(passes(&counts, 1, 3, 6) && passes(&counts, 1, 3, 6));
    assert!(!passes(&counts, 1, 2, 6), "a lowered number holds for who comes");
}

#[test]
fn a_window_never_moves_back() {
    let counts = counts(100);
    assert!(passes(&counts, 1, 1, 5) && passes(&counts, 1, 1, 7));
    assert!((0..8).all(|number| !passes(&counts, 1, 1, number)));
    assert!(passes(&counts, 1, 1, 8));
}

#[test]
fn windows_that_would_overlap_follow_each_other() {
    let counts = counts(100);
    assert!(passes(&counts, 1, 1, 5));
    let taken = counts.take(1, (1, 1), |_| Window { start: 55, end: 65 }).unwrap();
    assert_eq!(taken.window, Window { start: 60, end: 65 });
}

#[test]
fn what_is_given_back_can_be_taken_and_only_in_its_own_window() {
    let counts = counts(100);
    drop(counts.take(1, (1, 1), |_| window(5)).unwrap());
    assert_eq!(counts.len(), 0, "nothing is kept of who has taken nothing");
    let early = counts.take(1, (1, 1), |_| window(5)).unwrap();
    assert!(passes(&counts, 1, 1, 6));
    drop(early);
    assert!(!passes(&counts, 1, 1, 6));
}

#[test]
fn what_costs_more_is_taken_and_given_back_as_a_whole() {
    let counts = counts(100);
    assert!(passes(&counts, 1, 5, 5));
    let dear = counts.take(1, (3, 5), |_| window(5)).unwrap();
    assert_eq!(dear.remaining, 1);
    assert!(counts.take(1, (2, 5), |_| window(5)).is_err(), "not a part of it");
    drop(dear);
    assert_eq!(counts.take(1, (4, 5), |_| window(5)).map(|taken| taken.remaining), Ok(0));
}

#[test]
fn keys_beyond_the_room_share_a_count_until_the_window_ends() {
    let counts = counts(SHARDS);
    let key = |n: u128| n * SHARDS as u128;
    let own = counts.take(key(1), (1, 2), |_| window(5)).unwrap();
    assert!(passes(&counts, key(2), 2, 5) && passes(&counts, key(3), 2, 5));
    assert!(!passes(&counts, key(2), 2, 5) && !passes(&counts, key(4), 2, 5));
    drop(own);
    assert!(!passes(&counts, key(2), 2, 5), "who was counted with others does not begin anew");
    assert!(passes(&counts, key(1), 2, 5), "and who had a count of its own keeps it");
    assert!(passes(&counts, 1, 2, 5), "there is room elsewhere");
    assert!(passes(&counts, key(2), 2, 6));
    assert_eq!(counts.len(), 2, "of the window before, nothing is left in that shard");
}

#[test]
fn a_known_key_allocates_nothing() {
    let counts = counts(100);
    assert!(passes(&counts, 1, 9, 5));
    let asked = allocation_counter::measure(|| assert!(passes(&counts, 1, 9, 5)));
    assert_eq!(asked.count_total, 0);
}

#[test]
fn as_many_keys_as_somebody_likes_take_the_room_there_is() {
    let counts = counts(100 * SHARDS);
    assert!((0..5_000).filter(|key| passes(&counts, *key, 1, 5)).count() <= 101 * SHARDS);
    assert_eq!(counts.len(), 100 * SHARDS);
    assert!(passes(&counts, 0, 2, 5), "who came before goes on");
}

#[test]
fn threads_take_exactly_what_there_is() {
    let counts = counts(1000);
    let took: usize = thread::scope(|scope| {
        let each: Vec<_> = (0..8)
            .map(|n| {
                let counts = &counts;
                scope.spawn(move || {
                    // Some clocks are behind.
                    (0..2_000).filter(|i| passes(counts, 7, 1_000, i64::from((i + n) % 3 == 0))).count()
                })
            })
            .collect();
        each.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let left = (0..1_000).filter(|_| passes(&counts, 7, 1_000, 1)).count();
    assert_eq!(left, 0);
    assert!((1_000..=2_000).contains(&took), "{took} in two windows");
    let still: usize = thread::scope(|scope| {
        let each: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..2_000).filter(|_| passes(&counts, 7, 1_000, 2)).count()))
            .collect();
        each.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(still, 1_000);
}

fn again(counts: &Counts) -> Arc<Counts> {
    let next = self::counts(SHARDS * 3);
    let moved = Moved::new(Moment::default(), Moment::default());
    next.restore(&counts.save(Timestamp::ZERO).unwrap().bytes, moved);
    next
}

#[test]
fn what_is_saved_is_counted_on_and_what_is_as_good_as_new_is_not_saved() {
    let new = counts(SHARDS * 3);
    assert!(new.save(Timestamp::ZERO).is_none());
    let big = u128::MAX - 15;
    for key in [0, big, 16, 16, 32, 5] {
        assert!(passes(&new, key, 2, 5));
    }
    let body = new.save(Timestamp::ZERO).unwrap();
    assert_eq!(body.items, 4, "32 is counted with others");
    let next = again(&new);
    assert!(passes(&next, big, 2, 5) && !passes(&next, big, 2, 5));
    assert!(!passes(&next, 16, 2, 5));
    assert!(passes(&next, 48, 2, 5) && !passes(&next, 32, 2, 5), "still with others");
    assert!(!passes(&next, 5, 1, 4), "the window has not moved back");
    assert!(passes(&next, 5, 1, 6));
}

#[test]
fn what_cannot_be_read_is_not_taken_over() {
    let (next, moved) = (counts(SHARDS), Moved::new(Moment::default(), Moment::default()));
    next.restore(b"\xff\xff", moved);
    next.restore(&[], moved);
    assert!(next.save(Timestamp::ZERO).is_none());
}

/// What somebody does: ask under a key, by a clock, and keep what is taken or hold on to it for so many turns.
#[derive(Clone, Copy, Debug)]
struct Step {
    key: u128,
    clock: i64,
    most: u32,
    gives_back_after: Option<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let key = (0_u128..6, 0_u128..2).prop_map(|(n, shard)| n * SHARDS as u128 + shard);
    let gives_back = prop::option::weighted(0.4, 0_usize..8);
    (key, 0_i64..5, 1_u32..4, gives_back).prop_map(|(key, clock, most, gives_back_after)| Step {
        key,
        clock,
        most,
        gives_back_after,
    })
}

proptest! {
    /// Whatever the clock does, whoever gives back, with room for a few keys only and a restart in between.
    #[test]
    fn no_key_ever_has_more_in_one_window_than_is_written(
        steps in prop::collection::vec(step(), 1..120),
        restart in 0_usize..120,
    ) {
        let (mut counts, mut kept, mut held) = (counts(SHARDS * 3), FxHashMap::default(), Vec::new());
        let mut latest = FxHashMap::<u128, i64>::default();
        for (turn, step) in steps.into_iter().enumerate() {
            held.retain(|(until, _)| *until > turn);
            if turn == restart && counts.len() > 0 {
                counts = again(&counts);
            }
            let Ok(mut taken) = counts.take(step.key, (1, step.most), |_| window(step.clock)) else { continue };
            let start = taken.window.start;
            let before = latest.insert(step.key, start);
            prop_assert!(before.is_none_or(|before| before <= start), "a window moved back");
            prop_assert!(start >= step.clock * 10);
            if let Some(turns) = step.gives_back_after {
                held.push((turn + turns, taken));
            } else {
                taken.keep();
                let count: &mut u32 = kept.entry((step.key, start)).or_default();
                *count += 1;
                prop_assert!(*count <= step.most, "{step:?}");
            }
        }
    }
}
