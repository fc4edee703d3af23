//! A ring of hashes (D. Karger et al., "Consistent Hashing and Random Trees", 1997): a key goes to the endpoint whose point
//! comes next after its own.
//!
//! The heaviest endpoint has as many points as make the ring large enough, a power of two; another one as many as its weight
//! says. So an endpoint that goes takes only its own points away, and one that comes only adds its own, as long as the power
//! stays: it changes where the sum of all weights passes a multiple of two of the heaviest.

use super::Seat;
use crate::pick::hash::{self, RING};

/// Points for the heaviest endpoint: the fewest, whatever the size of the ring.
const FEWEST: u64 = 16;

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Ring {
    /// In their order.
    points: Box<[u64]>,
    /// Whose they are.
    seats: Box<[u32]>,
}

impl Ring {
    pub(super) fn new(seats: &[Seat<'_>], (least, most): (u32, u32)) -> Self {
        let heaviest = seats.iter().map(|seat| u64::from(seat.weight)).max().unwrap_or(1).max(1);
        let total: u64 = seats.iter().map(|seat| u64::from(seat.weight)).sum();
        let of_heaviest = of_heaviest(total, heaviest, (least.into(), most.into()));
        let mut points = Vec::new();
        for (at, seat) in (0_u32..).zip(seats) {
            let many = (u64::from(seat.weight) * of_heaviest).div_ceil(heaviest);
            points.extend((0..many).map(|n| (hash::of(RING, &[seat.name, &n.to_le_bytes()]), at)));
        }
        points.sort_unstable();
        let (points, seats): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self { points: points.into(), seats: seats.into() }
    }

    /// The seats of a key, from its own on, once round.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let from = self.points.partition_point(|point| *point < key);
        self.seats[from..].iter().chain(&self.seats[..from]).map(|seat| *seat as usize)
    }
}

/// A power of two that makes the ring as large as `least` at the least, and no larger than `most` if it can be.
fn of_heaviest(total: u64, heaviest: u64, (least, most): (u64, u64)) -> u64 {
    let size = |of_heaviest: u64| total.saturating_mul(of_heaviest) / heaviest;
    let mut of_heaviest = FEWEST;
    while size(of_heaviest) < least && of_heaviest < least {
        of_heaviest *= 2;
    }
    while size(of_heaviest) > most && of_heaviest > 1 {
        of_heaviest /= 2;
    }
    of_heaviest
}
