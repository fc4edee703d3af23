//! The places of `--max-connections`, and who gives one up when all are taken: whoever has gone longest without a request.
//! So a client that opens connections and says little (slowloris) takes places from itself, and idle connections do not
//! keep out those with something to ask.
//!
//! A connection with a request in flight, or whose bytes are carried as a whole, is never closed here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Who has been without a request for less time is left alone: it may be about to ask.
const QUIET: Duration = Duration::from_secs(1);
/// Between two rounds, while somebody waits.
const ROUND: Duration = Duration::from_millis(100);
/// Of all places, this part is freed in a round, so that a flood does not wait for one place at a time.
const SHARE: usize = 64;

/// See the module. Shared by all sockets.
#[derive(Debug)]
pub(super) struct Room {
    limit: usize,
    places: Arc<Semaphore>,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    last: u64,
    present: HashMap<u64, Guest>,
    round: Option<Instant>,
}

#[derive(Debug)]
struct Guest {
    presence: Arc<Presence>,
    /// `None` until its task has begun.
    task: Option<AbortHandle>,
}

/// Leave to serve one connection.
#[derive(Debug)]
pub(super) struct Leave(
    #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit,
);

/// A connection's place. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    guest: u64,
    _leave: Option<Leave>,
}

/// Whether a connection has something to do, and since when not.
#[derive(Debug)]
pub(crate) struct Presence {
    begun: Instant,
    at_work: AtomicU32,
    /// Milliseconds after `begun`.
    quiet_since: AtomicU64,
}

/// A connection has something to do for as long as this is held.
#[derive(Debug)]
pub(crate) struct Busy {
    presence: Arc<Presence>,
    over: Option<Instant>,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, places: Arc::new(Semaphore::new(limit)), guests: Mutex::default() }
    }

    /// Leave for one more connection, if there is a place.
    pub(super) fn try_leave(&self) -> Option<Leave> {
        self.places.clone().try_acquire_owned().ok().map(Leave)
    }

    /// Waits for a place, and sees to it that there is one.
    pub(super) async fn leave(&self) -> Option<Leave> {
        loop {
            self.make_room(Instant::now());
            let free = self.places.clone().acquire_owned();
            if let Ok(permit) = tokio::time::timeout(ROUND, free).await {
                // Fails only when closed, which nobody does.
                return permit.ok().map(Leave);
            }
        }
    }

    /// Somebody has come.
    pub(super) fn enter(self: &Arc<Self>, leave: Option<Leave>) -> (Place, Arc<Presence>) {
        let presence = Arc::<Presence>::default();
        let mut guests = self.guests.lock();
        guests.last += 1;
        let guest = guests.last;
        guests.present.insert(guest, Guest { presence: presence.clone(), task: None });
        (Place { room: self.clone(), guest, _leave: leave }, presence)
    }

    /// Says which task a place is for.
    pub(super) fn seated(&self, guest: u64, task: AbortHandle) {
        // One that has ended already has left.
        if let Some(guest) = self.guests.lock().present.get_mut(&guest) {
            guest.task = Some(task);
        }
    }

    /// Asks those to leave that have been quiet for longest; they are gone a moment later.
    fn make_room(&self, now: Instant) {
        let mut guests = self.guests.lock();
        if guests.round.is_some_and(|last| now.duration_since(last) < ROUND) {
            return;
        }
        guests.round = Some(now);
        let quiet = guests.present.iter().filter_map(|(id, guest)| {
            let quiet = guest.presence.quiet_for(now).filter(|quiet| *quiet >= QUIET)?;
            guest.task.is_some().then_some((quiet, *id))
        });
        let mut quiet: Vec<_> = quiet.collect();
        quiet.sort_unstable_by(|a, b| b.cmp(a));
        quiet.truncate((self.limit / SHARE).max(1));
        for (_, id) in &quiet {
            if let Some(Guest { task: Some(task), .. }) = guests.present.remove(id) {
                task.abort();
            }
        }
        if !quiet.is_empty() {
            tracing::debug!(closed = quiet.len(), "connections without a request made room for others");
        }
    }
}

impl Place {
    pub(crate) fn guest(&self) -> u64 {
        self.guest
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.guests.lock().present.remove(&self.guest);
    }
}

impl Presence {
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        Busy { presence: self.clone(), over: None }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.at_work.load(Ordering::Relaxed) > 0
    }

    /// `None` while there is something to do.
    fn quiet_for(&self, now: Instant) -> Option<Duration> {
        if self.is_busy() {
            return None;
        }
        let since = self.begun + Duration::from_millis(self.quiet_since.load(Ordering::Relaxed));
        Some(now.saturating_duration_since(since))
    }
}

impl Default for Presence {
    fn default() -> Self {
        Self { begun: Instant::now(), at_work: AtomicU32::new(0), quiet_since: AtomicU64::new(0) }
    }
}

impl Busy {
    /// What it was held for was over at `moment`, which is the same as now for whoever need not ask the clock again.
    pub(crate) fn over(&mut self, moment: Instant) {
        self.over = Some(moment);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let over = self.over.unwrap_or_else(Instant::now);
        let since = over.saturating_duration_since(self.presence.begun).as_millis();
        self.presence.quiet_since.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.presence.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
