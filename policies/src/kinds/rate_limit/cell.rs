//! One bucket: GCRA on governor's atomic cell, with `now` as argument.
//!
//! The cell holds the theoretical arrival time (TAT), in nanoseconds. The arithmetic is that of the virtual
//! scheduling algorithm (ITU-T I.371), as in governor's own limiter; it is here because several limits must be
//! looked at before any is spent, and because a spend must be able to be given back.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use governor::Quota;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};

use crate::sync;
use crate::time::Timestamp;

/// How fast a bucket refills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Nanoseconds per request, rounded up: never more than the written rate.
    emission: u64,
    burst: u32,
}

/// A bucket after one request was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Whole requests that it would let through at once.
    pub(super) remaining: u32,
    /// Until there is one more.
    pub(super) next: Duration,
}

/// What was taken, for now or for later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spend {
    pub(super) level: Level,
    /// Until it would have been let through: zero, if it is.
    pub(super) wait: Duration,
    /// The TAT after it.
    pub(super) after: u64,
}

/// The rate of some buckets, and what it is to become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// What the buckets' times are written in.
    pub(super) current: Rate,
    /// What the newest push says; taken over by the next request, for a push has no clock.
    pub(super) wanted: Rate,
}

#[derive(Debug, Default)]
pub(super) struct Cell {
    tat: InMemoryState,
    /// The latest moment at which anybody spent, in nanoseconds.
    latest: AtomicU64,
}

impl Rates {
    pub(super) fn new(rate: Rate) -> Self {
        Self { current: rate, wanted: rate }
    }

    pub(super) fn settled(self) -> bool {
        self.current == self.wanted
    }

    /// From which rate to which the buckets must be carried over now, if they must.
    pub(super) fn take_over(&mut self) -> Option<(Rate, Rate)> {
        let before = std::mem::replace(&mut self.current, self.wanted);
        (before != self.wanted).then_some((before, self.wanted))
    }
}

impl Rate {
    /// `requests` per `per`, and at most `burst` at once.
    pub(super) fn new(requests: NonZeroU32, per: Duration, burst: NonZeroU32) -> Option<Self> {
        let emission = per.as_nanos().div_ceil(u128::from(requests.get()));
        let quota =
            Quota::with_period(Duration::from_nanos(u64::try_from(emission).ok()?))?.allow_burst(burst);
        let emission = u64::try_from(quota.replenish_interval().as_nanos()).ok()?;
        // An empty bucket must fit the clock with room to spare.
        emission.checked_mul(u64::from(burst.get())).filter(|full| *full < u64::MAX / 4)?;
        Some(Self { emission, burst: quota.burst_size().get() })
    }

    /// As [`Rate::written`] said. `None`: it cannot have.
    pub(super) fn read((emission, burst): (u64, u32)) -> Option<Self> {
        let rate = Self::new(NonZeroU32::MIN, Duration::from_nanos(emission), NonZeroU32::new(burst)?)?;
        (rate.emission == emission).then_some(rate)
    }

    /// Nanoseconds per request, and the burst.
    pub(super) fn written(self) -> (u64, u32) {
        (self.emission, self.burst)
    }

    /// From empty to full.
    pub(super) fn refill(self) -> Duration {
        Duration::from_nanos(self.full())
    }

    fn full(self) -> u64 {
        self.emission * u64::from(self.burst)
    }

    /// Whether `cost` requests fit behind `tat`: the TAT after them, or how long to wait; for ever, if they are more than
    /// the bucket holds.
    pub(super) fn judge(self, tat: u64, cost: u32, now: u64) -> Result<u64, Option<Duration>> {
        self.reserve(tat, cost, (now, Duration::ZERO)).map(|reserved| reserved.after)
    }

    /// The same for who waits up to `patience`. The level is that after it, at `now`.
    pub(super) fn reserve(
        self,
        tat: u64,
        cost: u32,
        (now, patience): (u64, Duration),
    ) -> Result<Spend, Option<Duration>> {
        if cost > self.burst {
            return Err(None);
        }
        let taken = self.emission * u64::from(cost);
        let earliest = tat.saturating_sub(self.full() - taken);
        let wait = Duration::from_nanos(earliest.saturating_sub(now));
        if wait > patience {
            return Err(Some(wait));
        }
        let after = tat.max(now).saturating_add(taken);
        Ok(Spend { level: self.level(after, now), wait, after })
    }

    /// The TAT after `cost` requests that cannot be refused any more.
    pub(super) fn charged(self, tat: u64, cost: u32, now: u64) -> u64 {
        let taken = self.emission.saturating_mul(u64::from(cost));
        let most = now.saturating_add(self.full().saturating_mul(2));
        tat.max(now).saturating_add(taken).min(most).max(tat)
    }

    pub(super) fn level(self, tat: u64, now: u64) -> Level {
        let spent = tat.saturating_sub(now);
        let (free, owed) = (self.full().saturating_sub(spent), spent.saturating_sub(self.full()));
        let remaining = u32::try_from(free / self.emission).unwrap_or(u32::MAX);
        Level { remaining, next: Duration::from_nanos(owed + self.emission - free % self.emission) }
    }

    /// The TAT at which a bucket of this rate has spent what `tat` had spent under `before`, but never more than it
    /// holds: a lowered limit leaves a bucket empty, and in debt only if it was.
    pub(super) fn convert(self, tat: u64, before: Self, now: u64) -> u64 {
        let spent = u128::from(tat.saturating_sub(now)) * u128::from(self.emission);
        let in_debt = u64::from(tat.saturating_sub(now) > before.full());
        let most = u128::from(self.full()) * u128::from(1 + in_debt);
        let spent = spent.div_ceil(u128::from(before.emission)).min(most);
        now.saturating_add(u64::try_from(spent).unwrap_or(u64::MAX))
    }
}

impl Spend {
    /// What is lent is counted in tokens, of which each that is given back was taken.
    pub(super) fn of_a_share(level: Level) -> Self {
        Self { level, wait: Duration::ZERO, after: 0 }
    }
}

impl Cell {
    /// A bucket that is full from `full_at` on.
    pub(super) fn full_at(full_at: Timestamp) -> Self {
        let cell = Self::default();
        cell.set(|_| full_at.as_nanos());
        cell
    }

    /// Whether `cost` requests would be let through together; takes nothing.
    ///
    /// # Errors
    /// How long to wait, `None` for ever.
    pub(super) fn check(&self, rate: Rate, cost: u32, now: Timestamp) -> Result<(), Option<Duration>> {
        rate.judge(self.tat(), cost, now.as_nanos()).map(|_| ())
    }

    /// Takes `cost` requests together.
    ///
    /// # Errors
    /// How long to wait, `None` for ever; nothing was taken.
    pub(super) fn spend(&self, rate: Rate, cost: u32, now: Timestamp) -> Result<Spend, Option<Duration>> {
        self.reserve(rate, cost, (now, Duration::ZERO))
    }

    /// Takes `cost` requests together, for who waits up to `patience` until they are there.
    ///
    /// # Errors
    /// How long to wait, `None` for ever; nothing was taken.
    pub(super) fn reserve(
        &self,
        rate: Rate,
        cost: u32,
        (now, patience): (Timestamp, Duration),
    ) -> Result<Spend, Option<Duration>> {
        self.note(now);
        self.replace(|tat| {
            let reserved = rate.reserve(tat, cost, (now.as_nanos(), patience))?;
            Ok((reserved, reserved.after))
        })
    }

    /// Undoes a [`Cell::reserve`] whose turn has not come, if nothing was taken since.
    pub(super) fn retract(&self, rate: Rate, cost: u32, after: u64) {
        let before = after.saturating_sub(rate.emission.saturating_mul(u64::from(cost)));
        self.set(|tat| if tat == after { before } else { tat });
    }

    /// Takes `cost` requests, whether they are there or not: what is not is missing for those who come later, up to one
    /// bucketful.
    pub(super) fn charge(&self, rate: Rate, cost: u32, now: Timestamp) {
        self.note(now);
        self.set(|tat| rate.charged(tat, cost, now.as_nanos()));
    }

    /// What is left; takes nothing.
    pub(super) fn level(&self, rate: Rate, now: Timestamp) -> Level {
        rate.level(self.tat(), now.as_nanos())
    }

    /// Undoes the [`Cell::spend`] of the same rate and cost that left the TAT at `after`.
    ///
    /// What had come back by itself before somebody else spent is not given back once more: he may have had it. That
    /// much is `after` less than it was to the latest who spent, and a spend only ever makes the TAT larger.
    pub(super) fn give_back(&self, rate: Rate, cost: u32, after: u64) {
        let spent = rate.emission.saturating_mul(u64::from(cost));
        self.set(|tat| {
            // Whose spend is in `tat`, his moment is in `latest`: it was there before.
            fence(Ordering::Acquire);
            let owed = after.saturating_sub(self.latest.load(Ordering::Relaxed));
            tat.saturating_sub(spent.min(owed))
        });
    }

    /// Full not before `full_at`.
    pub(super) fn raise(&self, full_at: Timestamp) {
        self.set(|tat| tat.max(full_at.as_nanos()));
    }

    /// Full from `full_at` on at the latest.
    pub(super) fn lower(&self, full_at: Timestamp) {
        self.set(|tat| tat.min(full_at.as_nanos()));
    }

    pub(super) fn convert(&self, before: Rate, after: Rate, now: Timestamp) {
        self.set(|tat| after.convert(tat, before, now.as_nanos()));
    }

    /// When this bucket is (or was) full again.
    pub(super) fn full_again(&self) -> Timestamp {
        Timestamp::from_nanos(self.tat())
    }

    /// Somebody is about to spend.
    fn note(&self, now: Timestamp) {
        let now = now.as_nanos();
        if self.latest.load(Ordering::Relaxed) < now {
            self.latest.fetch_max(now, Ordering::Relaxed);
        }
    }

    fn tat(&self) -> u64 {
        self.replace(Err::<((), u64), u64>).err().unwrap_or_default()
    }

    fn set(&self, f: impl Fn(u64) -> u64) {
        let _: Result<(), ()> = self.replace(|tat| Ok(((), f(tat))));
    }

    fn replace<T, E>(&self, f: impl Fn(u64) -> Result<(T, u64), E>) -> Result<T, E> {
        sync::point();
        self.tat.measure_and_replace(&NotKeyed::NonKey, |tat| {
            let (result, tat) = f(tat.map_or(0, Nanos::as_u64))?;
            // Between the look at the number and its exchange, which fails if it is another one by now.
            sync::point();
            Ok((result, Nanos::from(Duration::from_nanos(tat))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
        Rate::new(NonZeroU32::new(requests).unwrap(), per, NonZeroU32::new(burst).unwrap()).unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_then_one_per_interval() {
        let (cell, rate) = (Cell::default(), rate(10, SECOND, 3));
        let left: Vec<_> = (0..3).map(|_| cell.spend(rate, 1, at(0)).unwrap().level.remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        assert_eq!(cell.spend(rate, 1, at(0)), Err(Some(Duration::from_millis(100))));
        assert_eq!(cell.spend(rate, 1, at(60)), Err(Some(Duration::from_millis(40))));
        assert_eq!(cell.spend(rate, 1, at(100)).map(|spent| spent.level.remaining), Ok(0));
    }

    #[test]
    fn the_level_says_when_there_is_one_more() {
        let (cell, rate) = (Cell::default(), rate(10, SECOND, 3));
        let level = |now| cell.spend(rate, 1, now).map(|spent| spent.level);
        assert_eq!(level(at(0)), Ok(Level { remaining: 2, next: Duration::from_millis(100) }));
        assert_eq!(level(at(30)), Ok(Level { remaining: 1, next: Duration::from_millis(70) }));
    }

    #[test]
    fn what_is_given_back_can_be_spent_again_and_no_more() {
        let (cell, rate) = (Cell::default(), rate(1, SECOND, 2));
        cell.spend(rate, 1, at(500)).unwrap();
        let spent = cell.spend(rate, 1, at(500)).unwrap();
        cell.give_back(rate, 1, spent.after);
        assert!(cell.spend(rate, 1, at(500)).is_ok());
        assert!(cell.spend(rate, 1, at(500)).is_err());
    }

    #[test]
    fn what_came_back_by_itself_and_may_have_been_spent_is_not_given_back_once_more() {
        let (cell, rate) = (Cell::default(), rate(1, SECOND, 2));
        let lost = cell.spend(rate, 1, at(500)).unwrap();
        // Half of it is back when another spends.
        cell.spend(rate, 1, at(1000)).unwrap();
        cell.give_back(rate, 1, lost.after);
        let spent_once = Cell::default();
        spent_once.spend(rate, 1, at(1000)).unwrap();
        assert_eq!(cell.full_again(), spent_once.full_again());
    }

    #[test]
    fn what_costs_more_is_spent_together_and_what_never_fits_waits_for_ever() {
        let (cell, rate) = (Cell::default(), rate(10, SECOND, 5));
        let spent = cell.spend(rate, 3, at(1000)).unwrap();
        assert_eq!(spent.level.remaining, 2);
        assert_eq!(cell.spend(rate, 3, at(1000)), Err(Some(Duration::from_millis(100))));
        cell.give_back(rate, 3, spent.after);
        assert_eq!(cell.spend(rate, 5, at(1000)).map(|spent| spent.level.remaining), Ok(0));
        assert_eq!(cell.spend(rate, 6, at(9000)), Err(None));
    }

    #[test]
    fn a_converted_bucket_keeps_what_was_spent_and_is_never_in_debt() {
        let (before, raised, lowered) = (rate(10, SECOND, 10), rate(40, SECOND, 40), rate(5, SECOND, 5));
        let spent = || {
            let cell = Cell::default();
            (0..7).for_each(|_| assert!(cell.spend(before, 1, at(1000)).is_ok()));
            cell
        };
        let cell = spent();
        cell.convert(before, raised, at(1000));
        assert_eq!(cell.spend(raised, 1, at(1000)).unwrap().level.remaining, 40 - 7 - 1);
        let cell = spent();
        cell.convert(before, lowered, at(1000));
        assert_eq!(cell.spend(lowered, 1, at(1000)), Err(Some(Duration::from_millis(200))));
    }

    #[test]
    fn a_rate_that_does_not_divide_evenly_is_rounded_down() {
        let (cell, rate) = (Cell::default(), rate(3, SECOND, 1));
        assert!(cell.spend(rate, 1, Timestamp::ZERO).is_ok());
        assert!(cell.spend(rate, 1, Timestamp::from_nanos(333_333_333)).is_err());
        assert!(cell.spend(rate, 1, Timestamp::from_nanos(333_333_334)).is_ok());
    }

    #[test]
    fn the_fastest_and_the_slowest_rate_keep_the_law() {
        let day = Duration::from_secs(24 * 3600);
        for rate in [rate(u32::MAX, Duration::from_secs(4295), 1), rate(1, 365 * day, 1), rate(1, day, 3650)]
        {
            let (cell, start) = (Cell::default(), Timestamp::from_nanos(1 << 61));
            (0..rate.burst).for_each(|_| assert!(cell.spend(rate, 1, start).is_ok()));
            let wait = cell.spend(rate, 1, start).unwrap_err().unwrap();
            assert_eq!(wait.as_nanos(), u128::from(rate.emission));
            let (early, due) = (start + (wait - Duration::from_nanos(1)), start + wait);
            assert!(cell.check(rate, 1, early).is_err());
            assert_eq!(cell.spend(rate, 1, due).map(|spent| spent.level.remaining), Ok(0));
            assert!(cell.check(rate, 1, due).is_err());
            assert_eq!(
                cell.spend(rate, 1, due + rate.refill()).map(|spent| spent.level.remaining),
                Ok(rate.burst - 1)
            );
        }
    }

    #[test]
    fn a_bucket_too_large_for_the_clock_is_no_rate() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let year = Duration::from_secs(365 * 24 * 3600);
        assert_eq!(Rate::new(number(1), year, number(u32::MAX)), None);
        assert_eq!(Rate::new(number(1), Duration::MAX, number(1)), None);
    }

    #[test]
    fn threads_never_spend_more_than_the_bucket_holds() {
        let (cell, rate) = (Cell::default(), rate(1, SECOND, 100));
        let admitted: usize = thread::scope(|scope| {
            let spend = || (0..1000).filter(|_| cell.spend(rate, 1, at(7)).is_ok()).count();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(spend)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
    }

    proptest! {
        #[test]
        fn never_admits_more_than_burst_plus_rate_times_time(
            requests in 1_u32..1000,
            per in 1_u64..100_000,
            burst in 1_u32..20,
            steps in prop::collection::vec(0_u64..200_000_000, 1..200),
        ) {
            let rate = rate(requests, Duration::from_millis(per), burst);
            let cell = Cell::default();
            let mut now = 0;
            let mut admitted: Vec<u64> = Vec::new();
            for step in steps {
                now += step;
                let promised = cell.check(rate, 1, Timestamp::from_nanos(now));
                let got = cell.spend(rate, 1, Timestamp::from_nanos(now));
                prop_assert_eq!(promised.is_ok(), got.is_ok());
                if got.is_ok() {
                    admitted.push(now);
                }
            }
            for (i, from) in admitted.iter().enumerate() {
                for (n, to) in admitted[i..].iter().enumerate() {
                    let refilled = u128::from(to - from) * u128::from(requests) / (u128::from(per) * 1_000_000);
                    prop_assert!((n as u128) < u128::from(burst) + refilled);
                }
            }
        }

        /// As long as the clock of each is the latest so far, it is as if he who gives back had never spent; where it is
        /// not, no more is there than that.
        #[test]
        fn what_is_given_back_leaves_at_most_what_there_were_without_it(
            burst in 1_u32..8,
            mine in (0_u64..4_000, 1_u32..4),
            others in prop::collection::vec((0_u64..4_000, 1_u32..4), 0..6),
        ) {
            let rate = rate(1, SECOND, burst);
            let (cell, without) = (Cell::default(), Cell::default());
            let start = 1_000_000;
            let Ok(spent) = cell.spend(rate, mine.1, at(start + mine.0)) else { return Ok(()) };
            for (step, cost) in others {
                let now = at(start + step);
                // Who is refused only because of mine would not have been: he is none of both then.
                if cell.spend(rate, cost, now).is_ok() {
                    prop_assert!(without.spend(rate, cost, now).is_ok());
                }
            }
            cell.give_back(rate, mine.1, spent.after);
            prop_assert!(cell.full_again() >= without.full_again());
        }

        #[test]
        fn a_refusal_names_the_first_moment_that_succeeds(
            requests in 1_u32..1000,
            burst in 1_u32..20,
            now in 0_u64..10_000_000_000,
        ) {
            let rate = rate(requests, SECOND, burst);
            let cell = Cell::default();
            (0..burst).for_each(|_| assert!(cell.spend(rate, 1, Timestamp::from_nanos(now)).is_ok()));
            let wait = cell.check(rate, 1, Timestamp::from_nanos(now)).unwrap_err();
            let then = Timestamp::from_nanos(now) + wait.unwrap_or_default();
            prop_assert!(cell.check(rate, 1, Timestamp::from_nanos(then.as_nanos() - 1)).is_err());
            prop_assert!(cell.check(rate, 1, then).is_ok());
        }
    }
}
