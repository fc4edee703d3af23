//! The counters of one limit as plain data, for a proxy that goes on where this one stopped.
//!
//! Buckets that are full are left out. A limit that is changed meanwhile finds what was spent, as it does at any push.

use prost::Message;

use super::{Buckets, LimitState};
use crate::kinds::rate_limit::cell::{Cell, Rate};
use crate::state::{Body, Moved, Persist};
use crate::time::Timestamp;

/// Times are when a bucket is full again, by the clock of the process.
#[derive(Clone, PartialEq, Message)]
pub(in crate::kinds::rate_limit) struct SavedLimit {
    /// What the times are written in.
    #[prost(uint64, tag = "1")]
    emission: u64,
    #[prost(uint32, tag = "2")]
    burst: u32,
    /// Of a limit without a key.
    #[prost(uint64, tag = "3")]
    one: u64,
    /// In halves.
    #[prost(fixed64, repeated, tag = "4")]
    pub(in crate::kinds::rate_limit) keys: Vec<u64>,
    #[prost(uint64, repeated, tag = "5")]
    pub(in crate::kinds::rate_limit) times: Vec<u64>,
    /// The sketch of each shard, one after the other, and 0 for what is full; or nothing, if all of it is.
    #[prost(uint64, repeated, tag = "6")]
    pub(in crate::kinds::rate_limit) cold: Vec<u64>,
}

/// Times of buckets that are not full, in `rate`.
#[derive(Clone, Copy, Debug)]
pub(in crate::kinds::rate_limit) struct Times {
    pub(in crate::kinds::rate_limit) rate: Rate,
    pub(in crate::kinds::rate_limit) now: Timestamp,
}

impl Times {
    /// Of a bucket whose own time is written in `rate`. `None`: it is full.
    pub(in crate::kinds::rate_limit) fn of(self, cell: &Cell, rate: Rate) -> Option<u64> {
        let (full_again, now) = (cell.full_again().as_nanos(), self.now.as_nanos());
        let full_again =
            if rate == self.rate { full_again } else { self.rate.convert(full_again, rate, now) };
        (full_again > now).then_some(full_again)
    }
}

impl Persist for LimitState {
    fn save(&self, now: Timestamp) -> Option<Body> {
        let mut saved = SavedLimit::default();
        let rate = match &self.buckets {
            Buckets::One(one) => {
                let one = one.read();
                let times = Times { rate: one.rates.current, now };
                saved.one = times.of(&one.cell, times.rate).unwrap_or_default();
                times.rate
            }
            Buckets::Keyed(table) => table.save(now, &mut saved),
        };
        (saved.emission, saved.burst) = rate.written();
        let items = saved.times.len() as u64 + u64::from(saved.one > 0);
        let spent = items > 0 || !saved.cold.is_empty();
        spent.then(|| Body { bytes: saved.encode_to_vec(), items })
    }

    fn restore(&self, body: &[u8], moved: Moved) {
        let Ok(saved) = SavedLimit::decode(body) else { return };
        let Some(rate) = Rate::read((saved.emission, saved.burst)) else { return };
        // Emptier than empty is no bucket.
        let empty = moved.now() + rate.refill();
        let time = |time: u64| moved.time(Timestamp::from_nanos(time)).map(|time| time.min(empty));
        match &self.buckets {
            Buckets::One(one) => {
                let mut one = one.write();
                one.rates.current = rate;
                one.cell = Cell::full_at(time(saved.one).unwrap_or_default());
            }
            Buckets::Keyed(table) => table.restore(rate, &saved, time),
        }
    }
}

#[cfg(test)]
mod tests;
