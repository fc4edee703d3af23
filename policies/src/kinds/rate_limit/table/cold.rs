//! The keys that have no bucket of their own: a sketch of buckets that strangers share, strict and of a fixed size.
//!
//! Each key has one cell in each of [`ROWS`] rows, found by its hash. What it has spent is taken to be what the least
//! spent of its cells says; a spend raises those of its cells that say less than what it then comes to, and no other
//! (conservative update). So:
//!
//! - **Never too little.** A cell is never below the TAT of any key that is in it, for it is only ever raised, and to at
//!   least that key's own. So no key gets more than its limit here.
//! - **Sometimes too much.** A stranger is refused what it has not spent only if in every row another key has emptied its
//!   cell. When `n` keys have emptied their buckets within one refill time, in a limit with `w` cells to a row, that are
//!   at most `(1 - e^(-n/w))^4` of all strangers: none to speak of for a tenth as many keys as the rows are
//!   wide, 2.4 % for half as many, 16 % for as many. Keys that only begin to spend count for as much as they spent.
//!
//! Nothing is allocated before the first key has to be here.

use std::cell;
use std::time::Duration;

use parking_lot::{MutexGuard, RwLockReadGuard};

use super::Hot;
use crate::kinds::rate_limit::cell::{Cell, Level, Rate, Spend};
use crate::time::Timestamp;

pub(super) const ROWS: usize = 4;

#[derive(Debug)]
pub(super) struct Cold {
    /// Row after row.
    cells: Box<[Cell]>,
    width: usize,
    /// The cells of whoever holds this, before it last spent. Here, and not in its hands, for most have nothing to do with
    /// it and are moved about.
    before: cell::Cell<Option<[u64; ROWS]>>,
}

/// What a key has here, in the hands of one request. Nobody else spends here meanwhile, so that it can be undone.
#[derive(Debug)]
pub(in crate::kinds::rate_limit) struct Shared<'a> {
    key: u128,
    cold: MutexGuard<'a, Cold>,
    /// Nobody gets a bucket of its own meanwhile.
    hot: RwLockReadGuard<'a, Hot>,
}

impl Cold {
    pub(super) fn new(width: usize) -> Self {
        Self { cells: Box::default(), width, before: cell::Cell::default() }
    }

    /// How many cells there are once anybody is here.
    pub(super) fn size(&self) -> usize {
        ROWS * self.width
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    pub(super) fn make_room(&mut self) {
        if self.cells.is_empty() {
            self.cells = (0..self.size()).map(|_| Cell::default()).collect();
        }
    }

    /// When the key's bucket is full again, or later than that.
    pub(super) fn full_again(&self, key: u128) -> Timestamp {
        self.of(key).map(Cell::full_again).min().unwrap_or_default()
    }

    /// The key's bucket is full again at `full_again`, or later.
    pub(super) fn raise(&mut self, key: u128, full_again: Timestamp) {
        self.make_room();
        self.of(key).for_each(|cell| cell.raise(full_again));
    }

    /// The key's cell in each row; none, if nobody ever was here. The low half of the key tells shards apart, so the
    /// high half is taken here.
    fn of(&self, key: u128) -> impl Iterator<Item = &Cell> {
        let rows = self.cells.chunks_exact(self.width).enumerate();
        rows.filter_map(move |(row, cells)| {
            let part = usize::try_from((key >> (64 + 16 * row)) & 0xffff).ok()?;
            cells.get(part % self.width)
        })
    }

    pub(super) fn convert(&self, before: Rate, after: Rate, now: Timestamp) {
        self.cells.iter().for_each(|cell| cell.convert(before, after, now));
    }
}

impl<'a> Shared<'a> {
    pub(super) fn new(key: u128, hot: RwLockReadGuard<'a, Hot>, mut cold: MutexGuard<'a, Cold>) -> Self {
        cold.make_room();
        cold.before.set(None);
        Self { key, cold, hot }
    }

    /// As [`Cell::check`].
    pub(in crate::kinds::rate_limit) fn check(
        &self,
        rate: Rate,
        cost: u32,
        now: Timestamp,
    ) -> Result<(), Option<Duration>> {
        rate.judge(self.tat(), cost, now.as_nanos()).map(|_| ())
    }

    /// As [`Cell::spend`].
    pub(in crate::kinds::rate_limit) fn spend(
        &self,
        rate: Rate,
        cost: u32,
        now: Timestamp,
    ) -> Result<Spend, Option<Duration>> {
        self.reserve(rate, cost, (now, Duration::ZERO))
    }

    /// As [`Cell::reserve`].
    pub(in crate::kinds::rate_limit) fn reserve(
        &self,
        rate: Rate,
        cost: u32,
        (now, patience): (Timestamp, Duration),
    ) -> Result<Spend, Option<Duration>> {
        let reserved = rate.reserve(self.tat(), cost, (now.as_nanos(), patience))?;
        let mut before = [0; ROWS];
        for (before, cell) in before.iter_mut().zip(self.cold.of(self.key)) {
            *before = cell.full_again().as_nanos();
            cell.raise(Timestamp::from_nanos(reserved.after));
        }
        self.cold.before.set(Some(before));
        Ok(reserved)
    }

    /// As [`Cell::charge`].
    pub(in crate::kinds::rate_limit) fn charge(&self, rate: Rate, cost: u32, now: Timestamp) {
        let next = Timestamp::from_nanos(rate.charged(self.tat(), cost, now.as_nanos()));
        self.cold.of(self.key).for_each(|cell| cell.raise(next));
    }

    /// As [`Cell::level`].
    pub(in crate::kinds::rate_limit) fn level(&self, rate: Rate, now: Timestamp) -> Level {
        rate.level(self.tat(), now.as_nanos())
    }

    /// Undoes the last spend of this request. What another request spent is not undone: nobody knows any more whose
    /// the cells are.
    pub(in crate::kinds::rate_limit) fn give_back(&self) {
        for (before, cell) in self.cold.before.take().iter().flatten().zip(self.cold.of(self.key)) {
            cell.lower(Timestamp::from_nanos(*before));
        }
    }

    fn tat(&self) -> u64 {
        self.cold.full_again(self.key).max(self.hot.forgot_at).as_nanos()
    }
}
