//! The counters of one limit, as they live in the state store: they outlive pushes, and follow a changed rate.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};

use super::cell::{Cell, Level, Rate};
use super::table::Table;
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct LimitState {
    rates: RwLock<Rates>,
    buckets: Buckets,
}

#[derive(Debug)]
enum Buckets {
    /// A limit without a key.
    One(Arc<Cell>),
    Keyed(Box<Table>),
}

#[derive(Clone, Copy, Debug)]
struct Rates {
    /// What the buckets' times are written in.
    current: Rate,
    /// What the newest push says; taken over by the next request, for a push has no clock.
    wanted: Rate,
}

/// One limit's bucket for one request. While it lives, the rate does not change.
#[derive(Debug)]
pub(super) struct Bucket<'a> {
    rates: RwLockReadGuard<'a, Rates>,
    cell: Arc<Cell>,
}

impl LimitState {
    /// `max_keys`: `None` for a limit without a key.
    pub(super) fn new(rate: Rate, max_keys: Option<usize>) -> Self {
        let buckets = match max_keys {
            Some(max_keys) => Buckets::Keyed(Box::new(Table::new(max_keys))),
            None => Buckets::One(Arc::default()),
        };
        Self { rates: RwLock::new(Rates { current: rate, wanted: rate }), buckets }
    }

    /// Told by each push. What was spent under the rate before stays spent.
    pub(super) fn want(&self, rate: Rate) {
        self.rates.write().wanted = rate;
    }

    /// Buckets of several limits must be asked for in one fixed order of the limits: each holds a read lock.
    pub(super) fn bucket(&self, key: u128, now: Timestamp) -> Bucket<'_> {
        let mut rates = self.rates.read();
        if rates.current != rates.wanted {
            drop(rates);
            self.take_over(now);
            rates = self.rates.read();
        }
        let cell = match &self.buckets {
            Buckets::One(cell) => Arc::clone(cell),
            Buckets::Keyed(table) => table.cell(key, now),
        };
        Bucket { rates, cell }
    }

    fn take_over(&self, now: Timestamp) {
        let mut rates = self.rates.write();
        let Rates { current, wanted } = *rates;
        if current == wanted {
            return;
        }
        match &self.buckets {
            Buckets::One(cell) => cell.convert(current, wanted, now),
            Buckets::Keyed(table) => table.convert(current, wanted, now),
        }
        rates.current = wanted;
    }
}

impl Bucket<'_> {
    /// As [`Cell::check`].
    pub(super) fn check(&self, cost: u32, now: Timestamp) -> Result<(), Option<Duration>> {
        self.cell.check(self.rates.current, cost, now)
    }

    /// As [`Cell::spend`].
    pub(super) fn spend(&self, cost: u32, now: Timestamp) -> Result<Level, Option<Duration>> {
        self.cell.spend(self.rates.current, cost, now)
    }

    /// As [`Cell::level`].
    pub(super) fn level(&self, now: Timestamp) -> Level {
        self.cell.level(self.rates.current, now)
    }

    /// As [`Cell::give_back`].
    pub(super) fn give_back(&self, cost: u32) {
        self.cell.give_back(self.rates.current, cost);
    }
}
