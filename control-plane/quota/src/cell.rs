//! What the requests of one proxy spend: a bucket whose rate can change under load.
//!
//! Tokens are one atomic number. Whoever finds it stale refills it, and nobody waits for who does: the lock is only
//! tried. A change of the share settles what was earned at the rate before, and then holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Share, Usage};

/// Tokens are counted in millionths, so that a small share earns its part.
const TOKEN: u64 = 1_000_000;
const STALE: u64 = 1_000_000;
const SECOND: u128 = 1_000_000_000;

/// The whole limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub requests: u64,
    pub per: Duration,
    pub burst: u64,
}

#[derive(Debug)]
pub struct Cell {
    tokens: AtomicU64,
    filled: AtomicU64,
    allowed: AtomicU64,
    denied: AtomicU64,
    refill: Mutex<Refill>,
}

#[derive(Debug)]
struct Refill {
    /// Millionths of a token per second.
    speed: u64,
    capacity: u64,
    at: u64,
    /// Of a millionth, in nanoseconds of `speed`.
    rest: u128,
}

impl Rate {
    /// Requests per second, in millionths.
    fn speed(self, share: Share) -> u64 {
        let nanos = self.per.as_nanos().max(1);
        let whole = u128::from(self.requests) * u128::from(TOKEN) * SECOND / nanos;
        part(whole, share)
    }

    /// At least one request, or a small share would never admit any.
    fn capacity(self, share: Share) -> u64 {
        match share {
            Share::NONE => 0,
            share => part(u128::from(self.burst) * u128::from(TOKEN), share).max(TOKEN),
        }
    }

    pub(crate) fn per_second(self) -> u64 {
        self.speed(Share::WHOLE)
    }
}

fn part(whole: u128, share: Share) -> u64 {
    let part = whole.min(u128::from(u64::MAX)) * u128::from(share.as_billionths())
        / u128::from(Share::WHOLE.as_billionths());
    u64::try_from(part).unwrap_or(u64::MAX)
}

impl Cell {
    /// Without tokens.
    pub fn new(rate: Rate, share: Share, now: Duration) -> Self {
        let at = nanos(now);
        Self {
            tokens: AtomicU64::new(0),
            filled: AtomicU64::new(at),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            refill: Mutex::new(Refill {
                speed: rate.speed(share),
                capacity: rate.capacity(share),
                at,
                rest: 0,
            }),
        }
    }

    /// Takes `cost` requests, or nothing.
    pub fn take(&self, cost: u64, now: Duration) -> bool {
        let (amount, now) = (cost.saturating_mul(TOKEN), nanos(now));
        if now.saturating_sub(self.filled.load(Ordering::Relaxed)) >= STALE
            || self.tokens.load(Ordering::Relaxed) < amount
        {
            self.try_fill(now);
        }
        let taken = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| tokens.checked_sub(amount))
            .is_ok();
        let counter = if taken { &self.allowed } else { &self.denied };
        counter.fetch_add(cost, Ordering::Relaxed);
        taken
    }

    /// Another share, or another limit. Tokens stay, as far as they still fit; new room starts empty.
    pub fn change(&self, rate: Rate, share: Share, now: Duration) {
        let mut refill = self.refill.lock().unwrap_or_else(PoisonError::into_inner);
        self.fill(&mut refill, nanos(now));
        (refill.speed, refill.capacity) = (rate.speed(share), rate.capacity(share));
        self.earn(0, refill.capacity);
    }

    /// What was counted since the last call.
    pub fn drain(&self, elapsed: Duration) -> Usage {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Usage { allowed: take(&self.allowed), denied: take(&self.denied), elapsed }
    }

    fn try_fill(&self, now: u64) {
        let guard: Option<MutexGuard<'_, Refill>> = match self.refill.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        };
        if let Some(mut refill) = guard {
            self.fill(&mut refill, now);
        }
    }

    fn fill(&self, refill: &mut Refill, now: u64) {
        let elapsed = u128::from(now.saturating_sub(refill.at));
        refill.at = refill.at.max(now);
        let earned = elapsed * u128::from(refill.speed) + refill.rest;
        refill.rest = earned % SECOND;
        self.earn(u64::try_from(earned / SECOND).unwrap_or(u64::MAX), refill.capacity);
        self.filled.store(refill.at, Ordering::Relaxed);
    }

    fn earn(&self, earned: u64, capacity: u64) {
        let full = |tokens: u64| Some(tokens.saturating_add(earned).min(capacity));
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, full);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { requests: 100, per: Duration::from_secs(1), burst: 50 };

    fn admitted(cell: &Cell, millis: u64) -> usize {
        (0..1000).filter(|_| cell.take(1, Duration::from_millis(millis))).count()
    }

    #[test]
    fn a_raised_share_brings_room_and_no_tokens() {
        let cell = Cell::new(RATE, Share::billionths(500_000_000), Duration::ZERO);
        assert_eq!(admitted(&cell, 0), 0);
        assert_eq!(admitted(&cell, 10_000), 25);
        cell.change(RATE, Share::WHOLE, Duration::from_secs(10));
        assert_eq!(admitted(&cell, 10_000), 0);
        assert_eq!(admitted(&cell, 10_100), 10);
        assert_eq!(admitted(&cell, 20_000), 50);
        let usage = cell.drain(Duration::from_secs(20));
        assert_eq!((usage.allowed, usage.denied), (85, 5 * 1000 - 85));
    }

    #[test]
    fn no_share_admits_nothing_and_a_tiny_one_something() {
        let cell = Cell::new(RATE, Share::NONE, Duration::ZERO);
        assert_eq!(admitted(&cell, 60_000), 0);
        cell.change(RATE, Share::billionths(1_000_000), Duration::from_secs(60));
        assert_eq!(admitted(&cell, 70_000), 1);
    }

    #[test]
    fn threads_never_take_more_than_there_is() {
        let cell = Cell::new(RATE, Share::WHOLE, Duration::ZERO);
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| admitted(&cell, 10_000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 50);
    }

    proptest! {
        #[test]
        fn whatever_the_share_does_within_the_limit_no_more_than_the_limit_passes(
            steps in prop::collection::vec((0_u64..300, 0_u64..=1_000_000_000, 0_u64..40), 1..100),
        ) {
            let cell = Cell::new(RATE, Share::WHOLE, Duration::ZERO);
            let (mut now, mut passed) = (0, 0);
            for (step, share, requests) in steps {
                now += step;
                let at = Duration::from_millis(now);
                passed += (0..requests).filter(|_| cell.take(1, at)).count() as u64;
                cell.change(RATE, Share::billionths(share), at);
                prop_assert!(passed <= now * RATE.requests / 1000);
            }
        }
    }
}
