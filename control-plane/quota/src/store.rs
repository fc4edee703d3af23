//! The tokens of one bucket that no client holds.
//!
//! It earns at the rate of the part that nobody holds, and has room for that part of the burst: so what all clients
//! hold and what is here are together never more than the burst.

use std::time::Duration;

use crate::cell::TOKEN;
use crate::{Rate, Report, Share, Tokens};

#[derive(Debug)]
pub(crate) struct Store {
    /// In millionths. Less than none, when clients without a share admitted what they may on their own.
    tokens: i64,
    /// The part that nobody held since `at`.
    free: Share,
    at: Duration,
}

impl Store {
    pub(crate) fn empty(now: Duration) -> Self {
        Self { tokens: 0, free: Share::NONE, at: now }
    }

    pub(crate) fn full(rate: Rate, now: Duration) -> Self {
        Self { tokens: signed(rate.burst_of(Share::WHOLE)), free: Share::WHOLE, at: now }
    }

    pub(crate) fn is_full(&self, rate: Rate) -> bool {
        self.free == Share::WHOLE && self.tokens >= signed(rate.burst_of(Share::WHOLE))
    }

    pub(crate) fn fill(&mut self, rate: Rate, now: Duration) {
        let speed = u128::from(rate.per_second()) * u128::from(self.free.as_billionths());
        let elapsed = now.saturating_sub(self.at);
        let earned = speed / u128::from(Share::WHOLE.as_billionths()) * elapsed.as_nanos() / 1_000_000_000;
        // What is less than a millionth is earned later.
        if earned > 0 || speed == 0 {
            self.at = now;
        }
        self.earn(u64::try_from(earned).unwrap_or(u64::MAX), rate);
    }

    /// The part that nobody holds from now on.
    pub(crate) fn lend(&mut self, rate: Rate, free: Share) {
        self.free = free;
        self.tokens = self.tokens.min(self.room(rate));
    }

    /// What goes with a part of the limit that somebody begins to hold.
    pub(crate) fn take(&mut self, rate: Rate, part: Share) -> Tokens {
        self.give(rate.burst_of(part))
    }

    /// As much of `most` as there is.
    pub(crate) fn give(&mut self, most: u64) -> Tokens {
        let tokens = self.tokens.clamp(0, signed(most));
        self.tokens -= tokens;
        Tokens(tokens.unsigned_abs())
    }

    /// Whole requests.
    pub(crate) fn whole(&self) -> u64 {
        self.tokens.max(0).unsigned_abs() / TOKEN
    }

    /// What a report says was admitted without a share, or is returned by who had one of this server.
    pub(crate) fn settle(&mut self, report: &Report, known: bool, rate: Rate) {
        if report.held.is_none() {
            let spent = signed(report.usage.allowed.saturating_mul(TOKEN));
            let most = signed(rate.burst_of(Share::WHOLE));
            self.tokens = self.tokens.saturating_sub(spent).max(-most);
        } else if known {
            // There is room for it when the share that it belonged to is given up, and not before.
            let most = signed(rate.burst_of(Share::WHOLE));
            self.tokens = self.tokens.saturating_add(signed(report.returned.0)).min(most);
        }
    }

    fn earn(&mut self, earned: u64, rate: Rate) {
        self.tokens = self.tokens.saturating_add(signed(earned)).min(self.room(rate).max(self.tokens));
    }

    fn room(&self, rate: Rate) -> i64 {
        signed(rate.burst_of(self.free))
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BucketId, Held, Usage, Version};

    const RATE: Rate = Rate { requests: 10, per: Duration::from_secs(1), burst: 100 };

    fn report(held: bool, allowed: u64, returned: u64) -> Report {
        let held = held.then_some(Held { version: Version { epoch: 0, number: 1 }, share: Share::NONE });
        let usage = Usage { allowed, ..Usage::default() };
        let (bucket, returned) = (BucketId([0; 16]), Tokens(returned * TOKEN));
        Report { client: 1, bucket, stamp: Duration::ZERO, held, usage, returned, leaves: false }
    }

    #[test]
    fn it_earns_for_the_part_that_nobody_holds_and_has_room_for_no_more() {
        let mut store = Store::empty(Duration::ZERO);
        store.lend(RATE, Share::billionths(500_000_000));
        store.fill(RATE, Duration::from_secs(2));
        assert_eq!(store.whole(), 10);
        store.fill(RATE, Duration::from_secs(60));
        assert_eq!(store.whole(), 50);
        assert_eq!(store.take(RATE, Share::billionths(200_000_000)), Tokens(20 * TOKEN));
        assert_eq!(store.take(RATE, Share::WHOLE), Tokens(30 * TOKEN));
    }

    #[test]
    fn what_is_admitted_without_a_share_is_missing_afterwards_but_never_more_than_a_burst() {
        let mut store = Store::full(RATE, Duration::ZERO);
        store.settle(&report(false, 30, 0), false, RATE);
        assert_eq!(store.whole(), 70);
        store.settle(&report(false, 1_000_000, 0), false, RATE);
        store.fill(RATE, Duration::from_secs(11));
        assert_eq!(store.whole(), 10);
    }

    #[test]
    fn only_what_was_given_here_is_taken_back() {
        let mut store = Store::empty(Duration::ZERO);
        store.settle(&report(true, 5, 40), false, RATE);
        assert_eq!(store.whole(), 0);
        store.settle(&report(true, 5, 40), true, RATE);
        assert_eq!(store.whole(), 40);
        store.lend(RATE, Share::billionths(100_000_000));
        assert_eq!(store.whole(), 10);
    }
}
