//! Who waits, and who is next: the most important class first; in it the tenant with the fewest in service, and among equals
//! the one whose turn it is.
//!
//! Where tenants have weights, each has a quota: its weight's share of all that are in service. A tenant below the whole part
//! of its quota is first, one that has all of it is last, and turns come as often as weights say. So as long as all of them
//! wait, each has its quota in service, give or take less than one request, and over time exactly that (apportionment by
//! quota, with turns by start-time fair queueing, P. Goyal, 1996).
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
    /// The turns of tenants that do not wait any more and have had more than others by then. Without weights there are none.
    ahead: FxHashMap<u128, u64>,
}

/// One tenant's, of one class.
#[derive(Debug)]
struct Line {
    tenant: u128,
    weight: u32,
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
pub struct Kin {
    /// 0 is the most important.
    pub class: usize,
    pub tenant: u128,
    /// Of the tenant, 1 to [`MOST_WEIGHT`].
    pub weight: u32,
}

pub const MOST_WEIGHT: u32 = 1_000;

/// A turn of a tenant with weight 1.
const TURN: u64 = 1 << 20;
/// Beyond, who comes back is taken for one that comes for the first time.
const MOST_AHEAD: usize = 1_024;

impl From<(usize, u128)> for Kin {
    fn from((class, tenant): (usize, u128)) -> Self {
        Self { class, tenant, weight: 1 }
    }
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
        let turn = self.ahead.get(&kin.tenant).map_or(self.turn, |turn| self.turn.max(*turn));
        let class = &mut self.classes[kin.class];
        let (waiter, Kin { tenant, weight, .. }) = (Waiter { seat, since: now }, kin);
        match class.iter_mut().find(|line| line.tenant == tenant) {
            Some(line) => {
                line.weight = weight;
                line.waiters.push_back(waiter);
            }
            None => class.push(Line { tenant, weight, turn, waiters: VecDeque::from([waiter]) }),
        }
        self.len += 1;
        Ok(evicted)
    }

    /// Takes out who is next, where so many may be in service.
    pub(super) fn pop(
        &mut self,
        (now, limit): (Timestamp, u32),
        queueing: Queueing,
        in_service: &InService,
    ) -> Option<(Kin, Arc<Seat>)> {
        let stands = self.stands(now, queueing);
        let (class, lines) = self.classes.iter_mut().enumerate().find(|(_, lines)| !lines.is_empty())?;
        let quotas = Quotas::of(lines, in_service, limit);
        let order = |line: &Line| {
            let has = in_service.get(&line.tenant).map_or(0, |count| *count);
            (quotas.as_ref().map_or(has, |quotas| quotas.rank(has, line.weight)), line.turn)
        };
        let (at, line) = lines.iter_mut().enumerate().min_by_key(|(_, line)| order(line))?;
        let waiter = if stands { line.waiters.pop_back() } else { line.waiters.pop_front() }?;
        let kin = Kin { class, tenant: line.tenant, weight: line.weight };
        self.turn = self.turn.max(line.turn);
        line.turn += TURN / u64::from(line.weight.max(1));
        let turn = line.turn;
        if line.waiters.is_empty() {
            lines.swap_remove(at);
        }
        if quotas.is_some() {
            self.remember(kin.tenant, turn);
        }
        self.shrunk();
        Some((kin, waiter.seat))
    }

    fn remember(&mut self, tenant: u128, turn: u64) {
        if self.ahead.len() >= MOST_AHEAD {
            let served = self.turn;
            self.ahead.retain(|_, turn| *turn > served);
        }
        if self.ahead.len() < MOST_AHEAD || self.ahead.contains_key(&tenant) {
            self.ahead.insert(tenant, turn);
        }
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
        let longest = least.iter_mut().max_by(|a, b| a.compare(a.waiters.len(), b, b.waiters.len()))?;
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

    /// Of the least important class, the newest of the tenant that has most for its weight; nobody who is as important as the
    /// one that comes and whose tenant has no more than that.
    fn evict(&mut self, comes: Kin, in_service: &InService) -> Option<Arc<Seat>> {
        let serves = |tenant: u128| in_service.get(&tenant).map_or(0, |count| *count as usize);
        let has = |line: &Line| line.waiters.len() + serves(line.tenant);
        let own = self.classes[comes.class].iter().find(|line| line.tenant == comes.tenant);
        let own = own.map_or_else(|| serves(comes.tenant), has);
        let (class, lines) = self.classes.iter_mut().enumerate().rfind(|(_, lines)| !lines.is_empty())?;
        let (at, line) =
            lines.iter_mut().enumerate().max_by(|(_, a), (_, b)| a.compare(has(a), b, has(b)))?;
        let weighs_more = has(line) * comes.weight as usize > (own + 1) * line.weight as usize;
        if class < comes.class || (class == comes.class && !weighs_more) {
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
            self.ahead.clear();
        }
    }
}

impl Line {
    /// Which of the two has more for its weight.
    fn compare(&self, has: usize, other: &Self, others: usize) -> std::cmp::Ordering {
        (has * other.weight as usize).cmp(&(others * self.weight as usize))
    }
}

/// What each tenant's weight is worth.
struct Quotas {
    /// How many of those that wait may be in service: what others have is theirs.
    limit: u64,
    /// Of all that wait in the class.
    weights: u64,
}

impl Quotas {
    /// `None` where all that wait weigh the same as if nothing was written.
    fn of(lines: &[Line], in_service: &InService, limit: u32) -> Option<Self> {
        if lines.iter().all(|line| line.weight == 1) {
            return None;
        }
        let weights: u64 = lines.iter().map(|line| u64::from(line.weight)).sum();
        let serves = |tenant: u128| in_service.get(&tenant).map_or(0, |count| u64::from(*count));
        let all: u64 = in_service.values().map(|count| u64::from(*count)).sum();
        let of_others = all.saturating_sub(lines.iter().map(|line| serves(line.tenant)).sum());
        Some(Self { limit: u64::from(limit).saturating_sub(of_others), weights: weights.max(1) })
    }

    /// 0 below the whole part of its quota, 1 in the part of a request that is left of it, 2 beyond.
    fn rank(&self, has: u32, weight: u32) -> u32 {
        let (quota, has) = (self.limit * u64::from(weight), u64::from(has));
        match has {
            _ if has < quota / self.weights => 0,
            _ if has < quota.div_ceil(self.weights) => 1,
            _ => 2,
        }
    }
}
