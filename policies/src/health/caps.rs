//! Caps on what is open or in flight at once: strict counters, never one more than the limit across all threads.
//!
//! Counters are state and live in the store; limits are configuration and come with each question, so a push that
//! changes a limit keeps what is in flight.

mod keyed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::CapRule;
use crate::model::Mode;

pub use keyed::{CapKey, CountedBy, MAX_KEYS};
pub(crate) use keyed::{KeyedCap, KeyedCounters};

/// What a cap counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cap {
    /// Open connections to the backend.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests in flight, from admission to the end of the response.
    Requests,
    /// Attempts after a request's first, from the decision to make one to its response head.
    Retries,
}

/// The limits as written; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapLimits {
    pub connections: Option<u32>,
    pub pending: Option<u32>,
    pub requests: Option<u32>,
    pub retries: Option<u32>,
}

/// The counters of one (policy, backend), or of one endpoint, rule or key of it.
#[derive(Debug, Default)]
pub(crate) struct CapCounters {
    connections: Gauge,
    pending: Gauge,
    requests: Gauge,
    retries: Gauge,
}

/// Limits with their counters. Without a rule it only counts, so that a push that sets a limit knows what is in flight.
#[derive(Debug)]
pub(crate) struct BoundCap {
    rule: Option<CapRule>,
    counters: Arc<CapCounters>,
}

/// Counts as long as it lives.
#[derive(Debug)]
pub(crate) struct CapPermit {
    counters: Arc<CapCounters>,
    cap: Cap,
    excess: bool,
}

/// One cap and how much of it is taken, for status and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CapUsage {
    pub cap: Cap,
    pub used: u32,
    pub limit: Option<u32>,
}

/// Two counts in one word, so that both are judged at once: the low half counts what was admitted under the limit,
/// the high half what only `mode: Shadow` let through above it. Shadow judges by the low half alone, as enforcement
/// would have had it; enforcement judges by the sum, so a policy that leaves Shadow is strict from its first request.
#[derive(Debug, Default)]
struct Gauge(AtomicU64);

const ADMITTED: u64 = 1;
const EXCESS: u64 = 1 << 32;

impl CapLimits {
    pub fn of(&self, cap: Cap) -> Option<u32> {
        match cap {
            Cap::Connections => self.connections,
            Cap::Pending => self.pending,
            Cap::Requests => self.requests,
            Cap::Retries => self.retries,
        }
    }
}

impl BoundCap {
    pub(super) fn new(rule: Option<CapRule>, counters: Arc<CapCounters>) -> Self {
        Self { rule, counters }
    }

    pub(crate) fn rule(&self) -> Option<&CapRule> {
        self.rule.as_ref()
    }

    pub(crate) fn limit(&self, cap: Cap) -> Option<u32> {
        self.rule.as_ref().and_then(|rule| rule.limits.of(cap))
    }

    /// As [`CapCounters::acquire`].
    pub(crate) fn acquire(&self, cap: Cap, mode: Mode) -> Option<CapPermit> {
        self.counters.acquire(cap, self.limit(cap), mode)
    }

    pub(crate) fn count_excess(&self, cap: Cap) -> CapPermit {
        self.counters.count_excess(cap)
    }

    /// Whether there is none left.
    pub(crate) fn is_full(&self, cap: Cap) -> bool {
        self.limit(cap).is_some_and(|limit| self.counters.used(cap) >= limit)
    }

    pub(super) fn usage(&self, cap: Cap) -> CapUsage {
        CapUsage { cap, used: self.counters.used(cap), limit: self.limit(cap) }
    }
}

impl CapCounters {
    /// Takes one place. `None` at the limit; in Shadow there is always a place, and [`CapPermit::is_excess`] tells.
    pub(crate) fn acquire(self: &Arc<Self>, cap: Cap, limit: Option<u32>, mode: Mode) -> Option<CapPermit> {
        let excess = self.gauge(cap).add(limit.unwrap_or(u32::MAX), mode)?;
        Some(CapPermit { counters: Arc::clone(self), cap, excess })
    }

    /// Takes a place above any limit: in Shadow, for a request that another rule would have refused.
    pub(crate) fn count_excess(self: &Arc<Self>, cap: Cap) -> CapPermit {
        self.gauge(cap).0.fetch_add(EXCESS, Ordering::Relaxed);
        CapPermit { counters: Arc::clone(self), cap, excess: true }
    }

    pub(crate) fn used(&self, cap: Cap) -> u32 {
        let (admitted, excess) = split(self.gauge(cap).0.load(Ordering::Relaxed));
        admitted.saturating_add(excess)
    }

    fn gauge(&self, cap: Cap) -> &Gauge {
        match cap {
            Cap::Connections => &self.connections,
            Cap::Pending => &self.pending,
            Cap::Requests => &self.requests,
            Cap::Retries => &self.retries,
        }
    }
}

impl CapPermit {
    /// Whether enforcement would have refused this place.
    pub(crate) fn is_excess(&self) -> bool {
        self.excess
    }

    /// Another cap would have refused: enforcement had not taken this place either.
    pub(crate) fn turn_excess(&mut self) {
        if !std::mem::replace(&mut self.excess, true) {
            self.counters.gauge(self.cap).0.fetch_add(EXCESS - ADMITTED, Ordering::Relaxed);
        }
    }
}

impl Drop for CapPermit {
    fn drop(&mut self) {
        let one = if self.excess { EXCESS } else { ADMITTED };
        self.counters.gauge(self.cap).0.fetch_sub(one, Ordering::Relaxed);
    }
}

impl Gauge {
    /// Whether the place taken is above the limit; `None` where it was not taken.
    fn add(&self, limit: u32, mode: Mode) -> Option<bool> {
        let judge = |word: u64| {
            let (admitted, excess) = split(word);
            match mode {
                Mode::Enforce => (admitted.saturating_add(excess) < limit).then_some(false),
                Mode::Shadow => Some(admitted >= limit),
            }
        };
        let step = |word| judge(word).map(|excess| word + if excess { EXCESS } else { ADMITTED });
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step).ok().and_then(judge)
    }
}

fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    #[test]
    fn places_are_given_back_when_permits_are_dropped() {
        let counters = Arc::new(CapCounters::default());
        let take = || counters.acquire(Cap::Requests, Some(2), Mode::Enforce);
        let (a, b) = (take(), take());
        assert!(a.is_some() && b.is_some() && take().is_none());
        drop(a);
        assert!(take().is_some());
        drop(b);
        assert_eq!(counters.used(Cap::Requests), 0);
    }

    #[test]
    fn caps_do_not_share_places() {
        let counters = Arc::new(CapCounters::default());
        let _a = counters.acquire(Cap::Requests, Some(1), Mode::Enforce).unwrap();
        assert!(counters.acquire(Cap::Connections, Some(1), Mode::Enforce).is_some());
    }

    #[test]
    fn shadow_never_refuses_and_tells_what_enforcement_would_have_refused() {
        let counters = Arc::new(CapCounters::default());
        let take = || counters.acquire(Cap::Requests, Some(1), Mode::Shadow).unwrap();
        let first = take();
        let over = take();
        assert!(!first.is_excess() && over.is_excess());
        drop(first);
        assert!(!take().is_excess(), "the refused one would not have been in flight");
    }

    #[test]
    fn a_policy_that_leaves_shadow_counts_what_shadow_let_through() {
        let counters = Arc::new(CapCounters::default());
        let _held: Vec<_> =
            (0..5).map(|_| counters.acquire(Cap::Requests, Some(2), Mode::Shadow).unwrap()).collect();
        assert!(counters.acquire(Cap::Requests, Some(5), Mode::Enforce).is_none());
        assert!(counters.acquire(Cap::Requests, Some(6), Mode::Enforce).is_some());
    }

    #[test]
    fn threads_never_hold_one_more_than_the_limit() {
        const LIMIT: u32 = 3;
        let counters = Arc::new(CapCounters::default());
        let held = AtomicU32::new(0);
        let highest = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let Some(permit) = counters.acquire(Cap::Requests, Some(LIMIT), Mode::Enforce) else {
                            continue;
                        };
                        highest.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(highest.into_inner() <= LIMIT);
        assert_eq!(counters.used(Cap::Requests), 0);
    }
}
