//! Counts who is in service and lets the next in. One lock, held for as long as it takes to look through the tenants that wait;
//! nobody is woken under it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use http::{StatusCode, response};
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::gradient::{Bounds, Gradient};
use super::queue::{InService, Kin, MOST_WEIGHT, Queue, Queueing};
use super::ticket::{Seat, Ticket, Turn};
use crate::pipeline::Held;
use crate::time::Timestamp;

/// How many may be in service at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Fixed(u32),
    Learnt(Bounds),
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub limit: Limit,
    pub queueing: Queueing,
}

/// How things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub limit: u32,
    pub in_flight: u32,
    pub queued: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    settings: Settings,
    /// Where the limit is learnt.
    gradient: Option<Gradient>,
    in_service: u32,
    tenants: InService,
    queue: Queue,
    /// When something was last heard: whoever leaves does not know the time.
    now: Timestamp,
}

/// What becomes of a request that arrives.
#[derive(Debug)]
pub enum Arrival {
    Admitted(Place),
    /// Until the ticket says that its turn has come.
    Waits(Place, Ticket),
    Shed,
}

/// One request's place, in service or among those who wait; given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    kin: Kin,
    /// Where it had to wait.
    seat: Option<Arc<Seat>>,
    since: Timestamp,
}

/// Those to be woken once the lock is free.
type Wakers = SmallVec<[Waker; 2]>;

impl Gate {
    pub fn new(settings: Settings) -> Self {
        let gradient = match settings.limit {
            Limit::Fixed(_) => None,
            Limit::Learnt(bounds) => Some(Gradient::new(bounds)),
        };
        let (tenants, queue, now) = (InService::default(), Queue::default(), Timestamp::ZERO);
        Self(Mutex::new(State { settings, gradient, in_service: 0, tenants, queue, now }))
    }

    /// Told by each push. Who is in service or waits stays so, and what was learnt is kept.
    pub fn want(&self, settings: Settings) {
        let mut state = self.0.lock();
        if state.settings == settings {
            return;
        }
        match (settings.limit, &mut state.gradient) {
            (Limit::Fixed(_), gradient) => *gradient = None,
            (Limit::Learnt(bounds), Some(gradient)) => gradient.set_bounds(bounds),
            (Limit::Learnt(bounds), gradient @ None) => *gradient = Some(Gradient::new(bounds)),
        }
        state.settings = settings;
    }

    pub fn load(&self) -> Load {
        self.0.lock().load()
    }

    /// A request of this class and tenant.
    pub fn arrive(self: &Arc<Self>, kin: impl Into<Kin>, now: Timestamp) -> (Arrival, Load) {
        let kin = known(kin.into());
        let mut wakers = Wakers::new();
        let mut state = self.0.lock();
        state.now = state.now.max(now);
        // A limit that has risen lets others in first.
        state.fill(&mut wakers);
        let (arrival, load) = if state.has_room() {
            state.admit(kin);
            (Arrival::Admitted(Place { gate: self.clone(), kin, seat: None, since: now }), state.load())
        } else {
            (self.queue(&mut state, kin, now, &mut wakers), state.load())
        };
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        (arrival, load)
    }

    /// Lets everybody in, as Shadow does; and says whether there would have been room, in service or in the queue.
    pub fn count(self: &Arc<Self>, kin: impl Into<Kin>, now: Timestamp) -> (Place, Result<(), ()>, Load) {
        let kin = known(kin.into());
        let mut state = self.0.lock();
        let load = state.load();
        let room = state.limit() as usize + state.settings.queueing.most;
        let fits = if (state.in_service as usize) < room { Ok(()) } else { Err(()) };
        state.admit(kin);
        (Place { gate: self.clone(), kin, seat: None, since: now }, fits, load)
    }

    fn queue(self: &Arc<Self>, state: &mut State, kin: Kin, now: Timestamp, wakers: &mut Wakers) -> Arrival {
        let (queueing, seat) = (state.settings.queueing, Arc::<Seat>::default());
        let State { queue, tenants, .. } = state;
        match queue.push(kin, seat.clone(), (now, queueing.most), tenants) {
            Err(()) => Arrival::Shed,
            Ok(evicted) => {
                wakers.extend(evicted.and_then(|evicted| evicted.turn_to(Turn::Lost)));
                let place = Place { gate: self.clone(), kin, seat: Some(seat.clone()), since: now };
                let patience = queueing.max_wait;
                Arrival::Waits(place, Ticket { gate: self.clone(), seat, kin, patience })
            }
        }
    }

    pub(super) fn give_up(&self, kin: Kin, seat: &Arc<Seat>) {
        let mut state = self.0.lock();
        if seat.waits() {
            state.queue.remove(kin, seat);
            seat.turn_to(Turn::Lost);
        }
    }

    /// An answer has begun after so long.
    fn answered(&self, latency: Duration, now: Timestamp) {
        let mut wakers = Wakers::new();
        let mut state = self.0.lock();
        state.now = state.now.max(now);
        let in_flight = state.in_service;
        if let Some(gradient) = &mut state.gradient {
            gradient.sample(latency, in_flight, now);
        }
        state.fill(&mut wakers);
        state.shed_stale(&mut wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn leave(&self, place: &Place) {
        let mut wakers = Wakers::new();
        let mut state = self.0.lock();
        match &place.seat {
            Some(seat) if seat.waits() => {
                state.queue.remove(place.kin, seat);
                seat.turn_to(Turn::Lost);
            }
            Some(seat) if !seat.has_come() => {}
            _ => {
                state.release(place.kin);
                state.fill(&mut wakers);
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Within what there can be.
fn known(kin: Kin) -> Kin {
    Kin { class: kin.class.min(super::CLASSES - 1), weight: kin.weight.clamp(1, MOST_WEIGHT), ..kin }
}

impl State {
    fn limit(&self) -> u32 {
        match (&self.gradient, self.settings.limit) {
            (Some(gradient), _) => gradient.limit(),
            (None, Limit::Fixed(limit)) => limit,
            (None, Limit::Learnt(bounds)) => bounds.initial,
        }
    }

    fn load(&self) -> Load {
        let queued = u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
        Load { limit: self.limit(), in_flight: self.in_service, queued }
    }

    fn has_room(&self) -> bool {
        self.in_service < self.limit()
    }

    fn admit(&mut self, kin: Kin) {
        self.in_service += 1;
        *self.tenants.entry(kin.tenant).or_default() += 1;
    }

    fn release(&mut self, kin: Kin) {
        self.in_service -= 1;
        if let Some(count) = self.tenants.get_mut(&kin.tenant) {
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(&kin.tenant);
            }
        }
    }

    /// Lets the next in, as long as there is room.
    fn fill(&mut self, wakers: &mut Wakers) {
        while self.has_room() {
            let Some((kin, seat)) =
                self.queue.pop((self.now, self.limit()), self.settings.queueing, &self.tenants)
            else {
                return;
            };
            self.admit(kin);
            wakers.extend(seat.turn_to(Turn::Come(None)));
        }
    }

    fn shed_stale(&mut self, wakers: &mut Wakers) {
        while let Some(seat) = self.queue.pop_stale(self.now, self.settings.queueing) {
            wakers.extend(seat.turn_to(Turn::Lost));
        }
    }
}

impl Held for Place {
    /// Failures are quick and say nothing of how long an answer takes; one that came too late says a lot.
    fn on_response(&mut self, head: &response::Parts, now: Timestamp) {
        let since = match &self.seat {
            None => Some(self.since),
            Some(seat) => seat.since(),
        };
        let tells = !head.status.is_server_error() || head.status == StatusCode::GATEWAY_TIMEOUT;
        if let Some(since) = since.filter(|_| tells) {
            self.gate.answered(now.since(since), now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.leave(self);
    }
}

#[cfg(test)]
mod tests;
