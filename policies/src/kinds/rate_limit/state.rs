//! The counters of one limit, as they live in the state store: they outlive pushes, and follow a changed rate.

mod saved;

use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};

use super::cell::{Cell, Level, Rate, Rates, Spend};
use super::table::{Held, Table};
use crate::time::Timestamp;
pub(super) use saved::{SavedLimit, Times};

#[derive(Debug)]
pub(super) struct LimitState {
    buckets: Buckets,
}

#[derive(Debug)]
enum Buckets {
    /// A limit without a key.
    One(RwLock<One>),
    Keyed(Box<Table>),
}

#[derive(Debug)]
struct One {
    rates: Rates,
    cell: Cell,
}

/// One limit's bucket for one request. While it lives, the rate does not change.
#[derive(Debug)]
pub(super) struct Bucket<'a> {
    rate: Rate,
    held: Held<'a>,
}

impl LimitState {
    /// `max_keys`: `None` for a limit without a key.
    pub(super) fn new(rate: Rate, max_keys: Option<usize>) -> Self {
        let buckets = match max_keys {
            Some(max_keys) => Buckets::Keyed(Box::new(Table::new(rate, max_keys))),
            None => Buckets::One(RwLock::new(One { rates: Rates::new(rate), cell: Cell::default() })),
        };
        Self { buckets }
    }

    /// Told by each push. What was spent under the rate before stays spent.
    pub(super) fn want(&self, rate: Rate) {
        match &self.buckets {
            Buckets::One(one) => one.write().rates.wanted = rate,
            Buckets::Keyed(table) => table.want(rate),
        }
    }

    /// Buckets of several limits must be asked for in one fixed order of the limits, and one at a time of each limit:
    /// each holds a lock.
    pub(super) fn bucket(&self, key: u128, now: Timestamp) -> Bucket<'_> {
        let (rate, held) = match &self.buckets {
            Buckets::One(one) => One::bucket(one, now),
            Buckets::Keyed(table) => table.bucket(key, now),
        };
        Bucket { rate, held }
    }
}

impl One {
    fn bucket(this: &RwLock<Self>, now: Timestamp) -> (Rate, Held<'_>) {
        loop {
            let one = this.read();
            if one.rates.settled() {
                return (one.rates.current, Held::Own(RwLockReadGuard::map(one, |one| &one.cell)));
            }
            drop(one);
            let mut one = this.write();
            if let Some((before, after)) = one.rates.take_over() {
                one.cell.convert(before, after, now);
            }
        }
    }
}

impl Bucket<'_> {
    /// The same bucket at another rate that its times are written in as well.
    pub(super) fn with(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }

    /// As [`Cell::check`].
    pub(super) fn check(&self, cost: u32, now: Timestamp) -> Result<(), Option<Duration>> {
        match &self.held {
            Held::Own(cell) => cell.check(self.rate, cost, now),
            Held::Shared(shared) => shared.check(self.rate, cost, now),
        }
    }

    /// As [`Cell::spend`].
    pub(super) fn spend(&self, cost: u32, now: Timestamp) -> Result<Spend, Option<Duration>> {
        match &self.held {
            Held::Own(cell) => cell.spend(self.rate, cost, now),
            Held::Shared(shared) => shared.spend(self.rate, cost, now),
        }
    }

    /// As [`Cell::reserve`].
    pub(super) fn reserve(
        &self,
        cost: u32,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Spend, Option<Duration>> {
        match &self.held {
            Held::Own(cell) => cell.reserve(self.rate, cost, (now, patience)),
            Held::Shared(shared) => shared.reserve(self.rate, cost, (now, patience)),
        }
    }

    /// As [`Cell::retract`]; where nobody knows whose the cells are, the turn passes unused.
    pub(super) fn retract(&self, cost: u32, after: u64) {
        if let Held::Own(cell) = &self.held {
            cell.retract(self.rate, cost, after);
        }
    }

    /// As [`Cell::charge`].
    pub(super) fn charge(&self, cost: u32, now: Timestamp) {
        match &self.held {
            Held::Own(cell) => cell.charge(self.rate, cost, now),
            Held::Shared(shared) => shared.charge(self.rate, cost, now),
        }
    }

    /// As [`Cell::level`].
    pub(super) fn level(&self, now: Timestamp) -> Level {
        match &self.held {
            Held::Own(cell) => cell.level(self.rate, now),
            Held::Shared(shared) => shared.level(self.rate, now),
        }
    }

    /// Undoes the last [`Bucket::spend`] of the same cost, as [`Cell::give_back`]. Of a key that has no bucket of its own, only what was spent by
    /// this very `Bucket` can be undone; the rest stays spent.
    pub(super) fn give_back(&self, cost: u32, after: u64) {
        match &self.held {
            Held::Own(cell) => cell.give_back(self.rate, cost, after),
            Held::Shared(shared) => shared.give_back(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    #[test]
    fn a_known_key_through_the_limit_allocates_nothing() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let rate = Rate::new(number(1), Duration::from_secs(1), number(5)).unwrap();
        for max_keys in [None, Some(1000)] {
            let (limit, now) = (LimitState::new(rate, max_keys), Timestamp::from_millis(1));
            assert!(limit.bucket(7, now).spend(1, now).is_ok());
            let asked = allocation_counter::measure(|| {
                let bucket = limit.bucket(7, now);
                assert!(bucket.check(1, now).is_ok());
                let spent = bucket.spend(1, now).expect("there is one");
                bucket.give_back(1, spent.after);
            });
            assert_eq!(asked.count_total, 0, "{max_keys:?}");
        }
    }
}
