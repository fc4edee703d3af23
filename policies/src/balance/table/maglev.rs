//! Maglev hashing (D. Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 2016, section 3.4): every
//! endpoint has an order of its own over the slots of a table, and they take slots in turn until all are taken.
//!
//! Who has less weight than the heaviest sits out as many turns as that takes. An endpoint that goes leaves its slots to the
//! others; of theirs, about one in a hundred changes hands too: more even than a ring, and a little less steady.

use super::Seat;
use crate::pick::hash::{self, MAGLEV};

/// See the module.
#[derive(Debug)]
pub(in super::super) struct Maglev {
    slots: Box<[u32]>,
}

const FREE: u32 = u32::MAX;

/// Where an endpoint looks for its next slot.
struct Order {
    next: u64,
    skip: u64,
}

impl Maglev {
    /// `size`: a prime, so that every order comes to every slot.
    pub(super) fn new(seats: &[Seat<'_>], size: u32) -> Self {
        let slots = vec![FREE; size as usize];
        let heaviest = seats.iter().map(|seat| u64::from(seat.weight)).max().unwrap_or(0);
        if heaviest == 0 {
            return Self { slots: Box::default() };
        }
        let size = u64::from(size.max(2));
        let order = |seat: &Seat<'_>| {
            let [offset, skip] = MAGLEV.map(|domain| hash::of(domain, &[seat.name]));
            Order { next: offset % size, skip: skip % (size - 1) + 1 }
        };
        let mut filling = Filling { slots, size, free: size };
        let mut orders: Vec<_> = seats.iter().map(order).collect();
        // What each has saved of a turn: one costs the weight of the heaviest.
        let mut saved = vec![0_u64; seats.len()];
        while filling.free > 0 {
            for ((at, order), (seat, saved)) in (0_u32..).zip(&mut orders).zip(seats.iter().zip(&mut saved)) {
                *saved += u64::from(seat.weight);
                if *saved >= heaviest && filling.free > 0 {
                    *saved -= heaviest;
                    filling.take(at, order);
                }
            }
        }
        Self { slots: filling.slots.into() }
    }

    /// The seats of a key, from its own on, once round.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let size = self.slots.len().max(1) as u64;
        let from = usize::try_from(key % size).unwrap_or(0).min(self.slots.len());
        self.slots[from..].iter().chain(&self.slots[..from]).map(|seat| *seat as usize)
    }
}

struct Filling {
    slots: Vec<u32>,
    size: u64,
    free: u64,
}

impl Filling {
    /// There is a free slot, and the order comes to each.
    fn take(&mut self, seat: u32, order: &mut Order) {
        loop {
            let at = usize::try_from(order.next).unwrap_or(0);
            order.next = (order.next + order.skip) % self.size;
            if let Some(slot) = self.slots.get_mut(at).filter(|slot| **slot == FREE) {
                *slot = seat;
                self.free -= 1;
                return;
            }
        }
    }
}
