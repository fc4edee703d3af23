//! Consistent hashing: where a key goes, the same on every proxy, and for nearly all keys the same when endpoints come and go.
//!
//! A table depends on the endpoints' addresses and weights alone. It is built when these change and shared by all snapshots
//! after that. Where an endpoint is not admitted, or has more than its share in flight, its keys go to whoever follows
//! in the table: each to another one, and back once it is well.

mod maglev;
mod ring;

use std::fmt::Write as _;
use std::sync::Arc;

use super::settings::HashTable;
use crate::pick::hash::{self, FINGERPRINT, LAST_RESORT};
use crate::state::{StateKey, StateStore};
use maglev::Maglev;
use ring::Ring;

/// Where keys go among the members of one pool.
#[derive(Debug)]
pub(super) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// An endpoint as it is hashed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat<'a> {
    /// Its address.
    pub(super) name: &'a [u8],
    /// Above zero.
    pub(super) weight: u32,
}

impl Table {
    /// Found again in `state` under its `owner` as long as nothing it depends on has changed.
    pub(super) fn of(kind: HashTable, seats: &[Seat<'_>], owner: &Arc<str>, state: &StateStore) -> Arc<Self> {
        let mut part = format!("{kind:?}");
        for half in 0_u8..2 {
            let mut bytes = vec![half];
            for seat in seats {
                bytes.extend_from_slice(&seat.weight.to_le_bytes());
                bytes.extend_from_slice(&(seat.name.len() as u64).to_le_bytes());
                bytes.extend_from_slice(seat.name);
            }
            // Writing to a String cannot fail.
            let _ = write!(part, "|{:016x}", hash::of(FINGERPRINT, &[&bytes]));
        }
        state.get_or_insert(StateKey::new(owner.clone(), part), || Self::new(kind, seats))
    }

    pub(super) fn new(kind: HashTable, seats: &[Seat<'_>]) -> Self {
        match kind {
            HashTable::Ring { least, most } => Self::Ring(Ring::new(seats, (least, most))),
            HashTable::Maglev { size } => Self::Maglev(Maglev::new(seats, size)),
        }
    }

    /// The first member after the key that `fits`. Looks at some places only: where nearly all are held back, `None`
    /// says nothing.
    pub(super) fn find(&self, key: u64, places: usize, mut fits: impl FnMut(usize) -> bool) -> Option<usize> {
        match self {
            Self::Ring(ring) => ring.walk(key).take(places).find(|at| fits(*at)),
            Self::Maglev(maglev) => maglev.walk(key).take(places).find(|at| fits(*at)),
        }
    }
}

/// How far back a member stands in a key's own order of all members, for when the table is no help.
pub(super) fn last_resort(key: u64, name: &[u8]) -> u64 {
    hash::of(LAST_RESORT, &[&key.to_le_bytes(), name])
}

#[cfg(test)]
mod tests;
