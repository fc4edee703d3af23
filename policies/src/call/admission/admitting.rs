//! Which endpoints would take a call now: asked of each once for an admission, and only of those that the pick looks at.
//! Of a thousand endpoints it looks at two.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::super::healthy::Healthy;
use crate::balance::{Choice, EndpointState};
use crate::health::{BoundCap, Cap, CircuitGuard};
use crate::time::Timestamp;

/// What is asked of each endpoint.
pub(super) struct Admitting<'a> {
    choice: Choice<'a>,
    healthy: Healthy<'a>,
    /// Whose caps on endpoints must have room.
    room: Option<&'a CircuitGuard>,
    /// Whose breakers must give their leave.
    leave: Option<(&'a CircuitGuard, Ramps)>,
    now: Timestamp,
    asked: Bits,
    admitted: Bits,
    /// One of the caps that had no room.
    full: Cell<Option<&'a BoundCap>>,
}

/// What those do that ramp.
enum Ramps {
    /// They take what chance gives them.
    ByChance(RefCell<fastrand::Rng>),
    /// They take what comes.
    TakeAll,
}

/// A bit for each endpoint; 1 024 of them fit without an allocation, and 64 take no time to make.
struct Bits {
    first: Cell<u64>,
    others: SmallVec<[Cell<u64>; 15]>,
}

const BITS: usize = u64::BITS as usize;

impl<'a> Admitting<'a> {
    /// Those that are healthy.
    pub(super) fn healthy(choice: Choice<'a>, healthy: Healthy<'a>, now: Timestamp) -> Self {
        let len = choice.endpoints.len();
        Self {
            choice,
            healthy,
            room: None,
            leave: None,
            now,
            asked: Bits::none(len),
            admitted: Bits::none(len),
            full: Cell::new(None),
        }
    }

    /// And that have room under their caps.
    pub(super) fn with_room(self, guard: &'a CircuitGuard) -> Self {
        Self { room: guard.caps_endpoints().then_some(guard), ..self }
    }

    /// And whose breakers would let this call through.
    pub(super) fn with_leave(self, guard: &'a CircuitGuard, rng: &fastrand::Rng) -> Self {
        // Numbers of its own: the pick draws from `rng` at the same time.
        let chance = fastrand::Rng::with_seed(!rng.get_seed());
        Self { leave: Some((guard, Ramps::ByChance(RefCell::new(chance)))), ..self }
    }

    /// The same, where those that ramp take what comes.
    pub(super) fn with_leave_whatever_ramps(self, guard: &'a CircuitGuard) -> Self {
        Self { leave: Some((guard, Ramps::TakeAll)), ..self }
    }

    pub(super) fn has(&self, index: usize) -> bool {
        if !self.asked.has(index) {
            self.asked.set(index, true);
            self.admitted.set(index, self.ask(index));
        }
        self.admitted.has(index)
    }

    /// Takes out one that would have been let in.
    pub(super) fn bar(&self, index: usize) {
        self.asked.set(index, true);
        self.admitted.set(index, false);
    }

    /// A cap that has kept an endpoint out.
    pub(super) fn full(&self) -> Option<&'a BoundCap> {
        self.full.get()
    }

    fn ask(&self, index: usize) -> bool {
        let Some(endpoint) = self.choice.endpoints.get(index) else { return false };
        self.healthy.admits(index, endpoint)
            && self.has_leave(index, endpoint)
            && self.has_room(index, endpoint)
    }

    fn has_leave(&self, index: usize, endpoint: &Arc<EndpointState>) -> bool {
        let Some((guard, ramps)) = &self.leave else { return true };
        guard.endpoint(index, endpoint).is_none_or(|guarded| {
            guarded.would_admit(self.now)
                && match ramps {
                    Ramps::TakeAll => true,
                    Ramps::ByChance(chance) => {
                        let chance = &mut chance.borrow_mut();
                        guarded.breakers.iter().all(|bound| bound.breaker.ramp_admits(self.now, chance))
                    }
                }
        })
    }

    fn has_room(&self, index: usize, endpoint: &Arc<EndpointState>) -> bool {
        let guarded = self.room.and_then(|guard| guard.endpoint(index, endpoint));
        let full = guarded.and_then(|guarded| guarded.caps.as_ref()).filter(|cap| cap.is_full(Cap::Requests));
        self.full.set(full.or(self.full.get()));
        full.is_none()
    }
}

impl Bits {
    fn none(len: usize) -> Self {
        let others =
            if len <= BITS { SmallVec::new() } else { smallvec![Cell::new(0); len.div_ceil(BITS) - 1] };
        Self { first: Cell::new(0), others }
    }

    fn word(&self, index: usize) -> &Cell<u64> {
        if index < BITS { &self.first } else { &self.others[index / BITS - 1] }
    }

    fn has(&self, index: usize) -> bool {
        self.word(index).get() & 1 << (index % BITS) != 0
    }

    fn set(&self, index: usize, value: bool) {
        let (word, bit) = (self.word(index), 1 << (index % BITS));
        word.set(if value { word.get() | bit } else { word.get() & !bit });
    }
}
