//! State as plain data, for the process that comes after this one.
//!
//! The times of a process mean nothing to the next. So what is saved says when that was, by the clock of its process and
//! by the one on the wall; whoever takes it over moves its times by what has passed on the wall since. A clock on the wall that
//! went backwards counts as one that stood still.

use std::any::Any;
use std::time::Duration;

use super::StateKey;
use crate::time::Timestamp;

/// State that outlives its process, see [`StateStore::get_or_restore`](super::StateStore::get_or_restore).
pub trait Persist: Any + Send + Sync {
    /// `None` if it is as good as new.
    fn save(&self, now: Timestamp) -> Option<Body>;

    /// Asked of a state that is new. What cannot be read is not taken over.
    fn restore(&self, body: &[u8], moved: Moved);
}

/// A piece of state as its kind writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// How many counters are in it, for those who are told.
    pub items: u64,
}

/// A moment, by the process's clock and by the one on the wall (since the Unix epoch).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    pub clock: Timestamp,
    pub wall: Duration,
}

/// From the clock of the process that saved to that of the one that takes over.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    saved: Timestamp,
    now: Timestamp,
    away: Duration,
}

/// All state of a process. Whoever reads it from outside makes sure that it is whole.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Saved {
    /// The keys of counters are hashes under this seed.
    #[prost(fixed64, repeated, tag = "1")]
    pub hash_seed: Vec<u64>,
    #[prost(message, repeated, tag = "2")]
    pub pieces: Vec<Piece>,
}

/// What was under one [`StateKey`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Piece {
    #[prost(string, tag = "1")]
    pub owner: String,
    #[prost(string, tag = "2")]
    pub part: String,
    /// When it was saved, in nanoseconds since the start of its process.
    #[prost(uint64, tag = "3")]
    pub clock: u64,
    /// And since the Unix epoch.
    #[prost(uint64, tag = "4")]
    pub wall: u64,
    #[prost(uint64, tag = "5")]
    pub items: u64,
    #[prost(bytes = "vec", tag = "6")]
    pub body: Vec<u8>,
}

impl Moved {
    pub fn new(saved: Moment, now: Moment) -> Self {
        Self { saved: saved.clock, now: now.clock, away: now.wall.saturating_sub(saved.wall) }
    }

    /// On the clock of this process. `None`: it is over.
    pub fn time(self, then: Timestamp) -> Option<Timestamp> {
        let left = then.since(self.saved).saturating_sub(self.away);
        (left > Duration::ZERO).then(|| self.now + left)
    }

    /// When this process takes over.
    pub fn now(self) -> Timestamp {
        self.now
    }
}

impl Piece {
    pub(super) fn new(key: &StateKey, at: Moment, Body { bytes: body, items }: Body) -> Self {
        let wall = Timestamp::from(at.wall).as_nanos();
        let (owner, part) = (key.owner.to_string(), key.part.to_string());
        Self { owner, part, clock: at.clock.as_nanos(), wall, items, body }
    }

    pub(super) fn key(&self) -> StateKey {
        StateKey::new(self.owner.as_str(), self.part.as_str())
    }

    /// In bytes, but for a few.
    pub(super) fn size(&self) -> usize {
        self.owner.len() + self.part.len() + self.body.len()
    }

    pub fn saved_at(&self) -> Moment {
        Moment { clock: Timestamp::from_nanos(self.clock), wall: Duration::from_nanos(self.wall) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(clock: u64, wall: u64) -> Moment {
        Moment { clock: Timestamp::from_millis(clock), wall: Duration::from_millis(wall) }
    }

    #[test]
    fn times_move_to_the_new_clock_and_by_what_passed_on_the_wall() {
        let moved = Moved::new(moment(9000, 50_000), moment(10, 50_300));
        assert_eq!(moved.time(Timestamp::from_millis(9500)), Some(Timestamp::from_millis(210)));
        assert_eq!(moved.time(Timestamp::from_millis(9300)), None);
        assert_eq!(moved.time(Timestamp::from_millis(1)), None);
    }

    #[test]
    fn a_wall_clock_that_went_backwards_stood_still() {
        let moved = Moved::new(moment(9000, 50_000), moment(10, 20_000));
        assert_eq!(moved.time(Timestamp::from_millis(9500)), Some(Timestamp::from_millis(510)));
    }
}
