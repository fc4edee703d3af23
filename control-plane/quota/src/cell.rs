//! What the requests of one proxy spend: a bucket whose rate can change under load.
//!
//! Tokens are one atomic number. Whoever finds it stale refills it, and nobody waits for who does: the lock is only
//! tried. A change of the share settles what was earned at the rate before, and then holds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Share, Tokens, Usage};

/// Tokens are counted in millionths, so that a small share earns its part.
pub(crate) const TOKEN: u64 = 1_000_000;
/// More than any limit holds; small enough to be added up.
const TOO_MUCH: u64 = u64::MAX / 1024;
const STALE: u64 = 1_000_000;
const SECOND: u128 = 1_000_000_000;

/// The whole limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub requests: u64,
    pub per: Duration,
    pub burst: u64,
}

/// What is left in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Whole requests that it would let through at once.
    pub remaining: u64,
    /// Until there is one more; `None` for never.
    pub next: Option<Duration>,
}

#[derive(Debug)]
pub struct Cell {
    tokens: AtomicU64,
    filled: AtomicU64,
    allowed: AtomicU64,
    denied: AtomicU64,
    returned: AtomicU64,
    /// What was charged and was not there.
    debt: AtomicU64,
    /// Millionths of a token per second. Like the capacity, changed with the lock in hand and read without.
    speed: AtomicU64,
    capacity: AtomicU64,
    refill: Mutex<Refill>,
}

#[derive(Debug)]
struct Refill {
    at: u64,
    /// Of a millionth, in nanoseconds of the speed.
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
            share => self.burst_of(share).max(TOKEN),
        }
    }

    /// Millionths of requests.
    pub(crate) fn burst_of(self, share: Share) -> u64 {
        part(u128::from(self.burst) * u128::from(TOKEN), share)
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
    pub fn empty(rate: Rate, share: Share, now: Duration) -> Self {
        let at = nanos(now);
        Self {
            tokens: AtomicU64::new(0),
            filled: AtomicU64::new(at),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            debt: AtomicU64::new(0),
            speed: AtomicU64::new(rate.speed(share)),
            capacity: AtomicU64::new(rate.capacity(share)),
            refill: Mutex::new(Refill { at, rest: 0 }),
        }
    }

    /// With all that it can hold.
    pub fn full(rate: Rate, share: Share, now: Duration) -> Self {
        let cell = Self::empty(rate, share, now);
        cell.tokens.store(rate.capacity(share), Ordering::Relaxed);
        cell
    }

    /// Takes `cost` requests, or nothing.
    ///
    /// # Errors
    /// How long to wait at the present share; `None` if it never holds that much.
    pub fn take(&self, cost: u64, now: Duration) -> Result<Level, Option<Duration>> {
        let amount = cost.saturating_mul(TOKEN);
        self.refresh(amount, now);
        let less = |tokens: u64| tokens.checked_sub(amount);
        match self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(before) => {
                self.allowed.fetch_add(cost, Ordering::Relaxed);
                Ok(self.level_of(before - amount))
            }
            Err(tokens) => Err(self.deny(cost, tokens)),
        }
    }

    /// Whether `cost` requests would be let through; takes nothing. A refusal counts as demand.
    ///
    /// # Errors
    /// As [`Cell::take`].
    pub fn check(&self, cost: u64, now: Duration) -> Result<(), Option<Duration>> {
        let amount = cost.saturating_mul(TOKEN);
        self.refresh(amount, now);
        let tokens = self.tokens.load(Ordering::Relaxed);
        if tokens < amount { Err(self.deny(cost, tokens)) } else { Ok(()) }
    }

    /// Takes `cost` requests, whether they are there or not: what is not is paid from what is earned next, up to what the
    /// cell can hold.
    pub fn charge(&self, cost: u64, now: Duration) {
        self.refresh(u64::MAX, now);
        let amount = cost.saturating_mul(TOKEN);
        let less = |tokens: u64| Some(tokens.saturating_sub(amount));
        let before = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let missing = amount.saturating_sub(before.unwrap_or_else(|tokens| tokens));
        let most = self.capacity.load(Ordering::Relaxed);
        let more = |debt: u64| Some(debt.saturating_add(missing).min(most));
        let _ = self.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        self.allowed.fetch_add(cost, Ordering::Relaxed);
    }

    /// What is left; takes nothing.
    pub fn level(&self, now: Duration) -> Level {
        self.refresh(u64::MAX, now);
        self.level_of(self.tokens.load(Ordering::Relaxed))
    }

    /// Undoes one [`Cell::take`] of the same cost.
    pub fn give_back(&self, cost: u64) {
        let less = |allowed: u64| Some(allowed.saturating_sub(cost));
        let _ = self.allowed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.earn(cost.saturating_mul(TOKEN));
    }

    /// Another share, or another limit. Tokens stay, as far as they still fit; new room starts empty.
    pub fn change(&self, rate: Rate, share: Share, now: Duration) {
        let mut refill = self.lock();
        self.resize(&mut refill, (rate, share), now);
    }

    /// The same, with tokens that come along. What does not fit is kept to be returned.
    pub(crate) fn exchange(&self, rate: Rate, share: Share, tokens: Tokens, now: Duration) {
        let mut refill = self.lock();
        let excess = self.resize(&mut refill, (rate, share), now) + self.earn(tokens.0);
        self.returned.fetch_add(excess.min(TOO_MUCH), Ordering::Relaxed);
    }

    /// The same, without what was there before. What was admitted and not reported yet, the server does not know to be
    /// missing in what it gave.
    pub(crate) fn restart(&self, rate: Rate, share: Share, tokens: Tokens, now: Duration) {
        let mut refill = self.lock();
        self.resize(&mut refill, (rate, share), now);
        let spent = self.allowed.load(Ordering::Relaxed).saturating_mul(TOKEN);
        let capacity = self.capacity.load(Ordering::Relaxed);
        self.tokens.store(tokens.0.min(capacity).saturating_sub(spent), Ordering::Relaxed);
        self.debt.store(spent.saturating_sub(tokens.0).min(capacity), Ordering::Relaxed);
        self.returned.store(0, Ordering::Relaxed);
    }

    /// Takes what is to be returned: what had no room here is of use elsewhere.
    pub(crate) fn returned(&self, now: Duration) -> Tokens {
        self.fill(&mut self.lock(), nanos(now));
        self.take_returned()
    }

    fn take_returned(&self) -> Tokens {
        Tokens(self.returned.swap(0, Ordering::Relaxed))
    }

    /// Takes all there is. From then on the cell admits nothing.
    pub(crate) fn close(&self, now: Duration) -> Tokens {
        let mut refill = self.lock();
        self.fill(&mut refill, nanos(now));
        self.capacity.store(0, Ordering::Relaxed);
        Tokens(self.tokens.swap(0, Ordering::Relaxed).saturating_add(self.take_returned().0))
    }

    /// What was counted since the last call.
    pub fn drain(&self, elapsed: Duration) -> Usage {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Usage { allowed: take(&self.allowed), denied: take(&self.denied), elapsed }
    }

    /// Whether anything was counted since the last [`Cell::drain`].
    pub fn is_asked(&self) -> bool {
        [&self.allowed, &self.denied].into_iter().any(|counter| counter.load(Ordering::Relaxed) > 0)
    }

    fn deny(&self, cost: u64, tokens: u64) -> Option<Duration> {
        self.denied.fetch_add(cost, Ordering::Relaxed);
        let amount = cost.saturating_mul(TOKEN);
        let fits = amount <= self.capacity.load(Ordering::Relaxed);
        self.until(amount.saturating_sub(tokens)).filter(|_| fits)
    }

    fn level_of(&self, tokens: u64) -> Level {
        Level { remaining: tokens / TOKEN, next: self.until(TOKEN - tokens % TOKEN) }
    }

    /// How long it takes to earn that much.
    fn until(&self, tokens: u64) -> Option<Duration> {
        let speed = u128::from(self.speed.load(Ordering::Relaxed));
        let nanos = (u128::from(tokens) * SECOND + speed).checked_div(speed)?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn refresh(&self, amount: u64, now: Duration) {
        let now = nanos(now);
        if now.saturating_sub(self.filled.load(Ordering::Relaxed)) < STALE
            && self.tokens.load(Ordering::Relaxed) >= amount
        {
            return;
        }
        let guard: Option<MutexGuard<'_, Refill>> = match self.refill.try_lock() {
            Ok(guard) => Some(guard),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => None,
        };
        if let Some(mut refill) = guard {
            self.fill(&mut refill, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Refill> {
        self.refill.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tokens that fit no more.
    fn resize(&self, refill: &mut Refill, (rate, share): (Rate, Share), now: Duration) -> u64 {
        self.fill(refill, nanos(now));
        let capacity = rate.capacity(share);
        self.speed.store(rate.speed(share), Ordering::Relaxed);
        self.capacity.store(capacity, Ordering::Relaxed);
        let fits = |tokens: u64| Some(tokens.min(capacity));
        let before = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        before.unwrap_or_else(|tokens| tokens).saturating_sub(capacity)
    }

    fn fill(&self, refill: &mut Refill, now: u64) {
        let elapsed = u128::from(now.saturating_sub(refill.at));
        refill.at = refill.at.max(now);
        let earned = elapsed * u128::from(self.speed.load(Ordering::Relaxed)) + refill.rest;
        refill.rest = earned % SECOND;
        let excess = self.earn(u64::try_from(earned / SECOND).unwrap_or(u64::MAX));
        self.returned.fetch_add(excess.min(TOO_MUCH), Ordering::Relaxed);
        self.filled.store(refill.at, Ordering::Relaxed);
    }

    /// Returns what does not fit.
    fn earn(&self, earned: u64) -> u64 {
        let pay = |debt: u64| debt.checked_sub(earned.min(debt)).filter(|_| debt > 0);
        let paid = self.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        let earned = earned - paid.map_or(0, |debt| debt.min(earned));
        let capacity = self.capacity.load(Ordering::Relaxed);
        let full = |tokens: u64| Some(tokens.saturating_add(earned).min(capacity));
        let before = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, full);
        before.unwrap_or_else(|tokens| tokens).saturating_add(earned).saturating_sub(capacity)
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
        (0..1000).filter(|_| cell.take(1, Duration::from_millis(millis)).is_ok()).count()
    }

    #[test]
    fn a_raised_share_brings_room_and_no_tokens() {
        let cell = Cell::empty(RATE, Share::billionths(500_000_000), Duration::ZERO);
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
    fn a_refusal_says_how_long_to_wait_at_this_share_and_a_level_what_is_left() {
        let cell = Cell::full(RATE, Share::billionths(100_000_000), Duration::ZERO);
        let left = cell.take(4, Duration::ZERO).unwrap();
        assert_eq!((left.remaining, left.next.map(|next| next.as_millis())), (1, Some(100)));
        assert_eq!(cell.check(3, Duration::ZERO).map_err(|wait| wait.unwrap().as_millis()), Err(200));
        assert_eq!(cell.take(6, Duration::ZERO), Err(None), "a tenth of the burst is five");
        cell.give_back(4);
        assert_eq!(cell.level(Duration::ZERO).remaining, 5);
        let usage = cell.drain(Duration::from_secs(1));
        assert_eq!((usage.allowed, usage.denied), (0, 9), "what is refused is demand");
    }

    #[test]
    fn what_is_charged_and_not_there_is_paid_from_what_is_earned() {
        let cell = Cell::full(RATE, Share::WHOLE, Duration::ZERO);
        cell.charge(80, Duration::ZERO);
        assert_eq!(admitted(&cell, 200), 0, "20 of the 30 are paid");
        assert_eq!(admitted(&cell, 400), 10);
        cell.charge(1_000_000, Duration::from_millis(400));
        assert_eq!(admitted(&cell, 400 + 510), 1, "never more than it holds");
    }

    #[test]
    fn no_share_admits_nothing_and_a_tiny_one_something() {
        let cell = Cell::empty(RATE, Share::NONE, Duration::ZERO);
        assert_eq!(admitted(&cell, 60_000), 0);
        cell.change(RATE, Share::billionths(1_000_000), Duration::from_secs(60));
        assert_eq!(admitted(&cell, 70_000), 1);
    }

    #[test]
    fn threads_never_take_more_than_there_is() {
        let cell = Cell::empty(RATE, Share::WHOLE, Duration::ZERO);
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
            let cell = Cell::empty(RATE, Share::WHOLE, Duration::ZERO);
            let (mut now, mut passed) = (0, 0);
            for (step, share, requests) in steps {
                now += step;
                let at = Duration::from_millis(now);
                passed += (0..requests).filter(|_| cell.take(1, at).is_ok()).count() as u64;
                cell.change(RATE, Share::billionths(share), at);
                prop_assert!(passed <= now * RATE.requests / 1000);
            }
        }
    }
}
