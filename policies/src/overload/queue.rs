//! Who waits, and who is next: the most important class first; in it the tenant with the fewest in service, and among equals
//! the one whose turn it is.
//!
//! A queue that is never empty for a while is a standing one: it delays everybody and serves nobody more (the idea of CoDel,
//! RFC 8289). Then the newest of a tenant are served first, because the oldest are closest to giving up; and of the least
//! important class that waits, those who have waited for too long are told at once: of the tenant with the longest line, for it
//! is that one which makes the queue, and never its last one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::ticket::Seat;
use crate::time::Timestamp;

/// How many classes there can be, the one of those who are in none included.
pub const CLASSES: usize = 9;

/// How requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queueing {
    /// How many may.
    pub most: usize,
    /// How long each may.
    pub max_wait: Duration,
    /// In a standing queue, how long is too long.
    pub target: Duration,
    /// A queue that has not been empty for this long is a standing one.
    pub interval: Duration,
}

/// How many requests of each tenant are in service. Nothing is kept of who has none.
pub(super) type InService = FxHashMap<u128, u32>;

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// By importance. No line is empty.
    classes: [Vec<Line>; CLASSES],
    len: usize,
    /// Since when it has not been empty.
    standing: Option<Timestamp>,
    /// The turn that was served last; a tenant that begins to wait takes its place there.
    turn: u64,
}

/// One tenant's, of one class.
#[derive(Debug)]
struct Line {
    tenant: u128,
    turn: u64,
    /// The oldest first.
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    seat: Arc<Seat>,
    since: Timestamp,
}

/// Where a request belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kin {
    pub(super) class: usize,
    pub(super) tenant: u128,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Lets one more wait. Where there is no room, somebody less important has to go, or somebody of a tenant that has more.
    ///
    /// # Errors
    /// There is no room for this one. Else who had to go for it, if anybody.
    pub(super) fn push(
        &mut self,
        kin: Kin,
        seat: Arc<Seat>,
        (now, most): (Timestamp, usize),
        in_service: &InService,
    ) -> Result<Option<Arc<Seat>>, ()> {
        let evicted = if self.len >= most { Some(self.evict(kin, in_service).ok_or(())?) } else { None };
        self.standing.get_or_insert(now);
        let turn = self.turn;
        let class = &mut self.classes[kin.class];
        let waiter = Waiter { seat, since: now };
        match class.iter_mut().find(|line| line.tenant == kin.tenant) {
            Some(line) => line.waiters.push_back(waiter),
            None => class.push(Line { tenant: kin.tenant, turn, waiters: VecDeque::from([waiter]) }),
        }
        self.len += 1;
        Ok(evicted)
    }

    /// Takes out who is next.
    pub(super) fn pop(
        &mut self,
        now: Timestamp,
        queueing: Queueing,
        in_service: &InService,
    ) -> Option<(Kin, Arc<Seat>)> {
        let stands = self.stands(now, queueing);
        let (class, lines) = self.classes.iter_mut().enumerate().find(|(_, lines)| !lines.is_empty())?;
        let order = |line: &Line| (in_service.get(&line.tenant).copied().unwrap_or(0), line.turn);
        let (at, line) = lines.iter_mut().enumerate().min_by_key(|(_, line)| order(line))?;
        let waiter = if stands { line.waiters.pop_back() } else { line.waiters.pop_front() }?;
        let kin = Kin { class, tenant: line.tenant };
        self.turn = self.turn.max(line.turn);
        line.turn += 1;
        if line.waiters.is_empty() {
            lines.swap_remove(at);
        }
        self.shrunk();
        Some((kin, waiter.seat))
    }

    /// Takes out who has given up.
    pub(super) fn remove(&mut self, kin: Kin, seat: &Arc<Seat>) {
        let lines = &mut self.classes[kin.class];
        let Some(at) = lines.iter().position(|line| line.tenant == kin.tenant) else { return };
        let waiters = &mut lines[at].waiters;
        let Some(found) = waiters.iter().position(|waiter| Arc::ptr_eq(&waiter.seat, seat)) else { return };
        waiters.remove(found);
        if waiters.is_empty() {
            lines.swap_remove(at);
        }
        self.shrunk();
    }

    /// Takes out one of those who have waited for too long in a standing queue, if there is any.
    pub(super) fn pop_stale(&mut self, now: Timestamp, queueing: Queueing) -> Option<Arc<Seat>> {
        if !self.stands(now, queueing) {
            return None;
        }
        let least = self.classes.iter_mut().rev().find(|lines| !lines.is_empty())?;
        let longest = least.iter_mut().max_by_key(|line| line.waiters.len())?;
        let oldest = longest.waiters.front().filter(|_| longest.waiters.len() > 1)?;
        if now.since(oldest.since) <= queueing.target {
            return None;
        }
        let stale = longest.waiters.pop_front()?;
        self.shrunk();
        Some(stale.seat)
    }

    pub(super) fn stands(&self, now: Timestamp, queueing: Queueing) -> bool {
        self.standing.is_some_and(|since| now.since(since) >= queueing.interval)
    }

    /// Of the least important class, the newest of the tenant that has most; nobody who is as important as the one that
    /// comes and whose tenant has no more than that.
    fn evict(&mut self, comes: Kin, in_service: &InService) -> Option<Arc<Seat>> {
        let has = |line: &Line| line.waiters.len() + in_service.get(&line.tenant).map_or(0, |n| *n as usize);
        let own = self.classes[comes.class].iter().find(|line| line.tenant == comes.tenant);
        let own = own.map_or_else(|| in_service.get(&comes.tenant).map_or(0, |n| *n as usize), has);
        let (class, lines) = self.classes.iter_mut().enumerate().rfind(|(_, lines)| !lines.is_empty())?;
        let (at, line) = lines.iter_mut().enumerate().max_by_key(|(_, line)| has(line))?;
        if class < comes.class || (class == comes.class && has(line) <= own + 1) {
            return None;
        }
        let waiter = line.waiters.pop_back()?;
        if line.waiters.is_empty() {
            lines.swap_remove(at);
        }
        self.shrunk();
        Some(waiter.seat)
    }

    fn shrunk(&mut self) {
        self.len -= 1;
        if self.len == 0 {
            self.standing = None;
        }
    }
}
