//! Endpoints that are new get less than their share for a while: caches are cold, and code is not compiled yet.
//!
//! With `t` the time since the endpoint's first call, its weight is multiplied by
//! `max(minPercent / 100, (t / window) ^ (1 / aggression))` until the window is over: Envoy's formula (`slow_start_config`). With
//! an aggression of 1 the weight grows evenly, with more it grows faster at first.
//!
//! An endpoint is new if its backend had others before it. When a proxy starts, all are new to it and none of them is to
//! others, so none counts as new; one that was away for a push does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Timestamp;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// Above zero.
    pub window: Duration,
    pub min_percent: u32,
    /// Above zero.
    pub aggression: f64,
}

/// Since when an endpoint is called.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    /// [`ALWAYS`], [`NOT_YET`], or nanoseconds.
    since: AtomicU64,
    /// The number of the last push that had the endpoint.
    push: AtomicU64,
}

/// Counts the pushes that a backend had endpoints for. Lives in the state store.
#[derive(Debug, Default)]
pub(crate) struct Roster(AtomicU64);

const ALWAYS: u64 = 0;
const NOT_YET: u64 = u64::MAX;

impl Roster {
    /// The number of this push; an empty backend has none before its first endpoint.
    pub(crate) fn push(&self, is_empty: bool) -> u64 {
        if is_empty && self.0.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Warmth {
    /// The endpoint is in push number `push` of its backend.
    pub(super) fn seen(&self, push: u64) {
        let before = self.push.swap(push, Ordering::Relaxed);
        if push > 1 && before + 1 != push {
            self.since.store(NOT_YET, Ordering::Relaxed);
        }
    }

    /// A call begins.
    pub(super) fn touch(&self, now: Timestamp) {
        if self.since.load(Ordering::Relaxed) == NOT_YET {
            self.since.store(now.as_nanos().clamp(1, NOT_YET - 1), Ordering::Relaxed);
        }
    }

    /// What its weight is multiplied by, from 0 to 1.
    pub(super) fn share(&self, slow: &SlowStart, now: Timestamp) -> f64 {
        let least = f64::from(slow.min_percent) / 100.0;
        let since = match self.since.load(Ordering::Relaxed) {
            ALWAYS => return 1.0,
            NOT_YET => return least,
            since => Timestamp::from_nanos(since),
        };
        let passed = now.since(since);
        if passed >= slow.window {
            return 1.0;
        }
        let part = passed.as_secs_f64() / slow.window.as_secs_f64().max(1e-9);
        part.powf(1.0 / slow.aggression).max(least).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(aggression: f64) -> Vec<f64> {
        let slow = SlowStart { window: Duration::from_secs(30), min_percent: 10, aggression };
        let warmth = Warmth::default();
        warmth.seen(2);
        let start = Timestamp::from_millis(5000);
        let before = warmth.share(&slow, start);
        warmth.touch(start);
        let at = |seconds| warmth.share(&slow, start + Duration::from_secs(seconds));
        vec![before, at(0), at(3), at(15), at(29), at(30), at(1000)]
    }

    #[test]
    fn a_new_endpoint_warms_up_from_its_first_call_on() {
        assert_eq!(shares(1.0), [0.1, 0.1, 0.1, 0.5, 29.0 / 30.0, 1.0, 1.0]);
        let fast = shares(2.0);
        assert!(fast[1] == 0.1 && (fast[3] - 0.5_f64.sqrt()).abs() < 1e-9, "{fast:?}");
    }

    #[test]
    fn who_is_there_from_the_first_push_on_is_warm_and_who_was_away_is_not() {
        let slow = SlowStart { window: Duration::from_secs(30), min_percent: 10, aggression: 1.0 };
        let (roster, old, new) = (Roster::default(), Warmth::default(), Warmth::default());
        let share = |warmth: &Warmth| warmth.share(&slow, Timestamp::ZERO);
        assert_eq!(roster.push(true), 0, "announced, without endpoints yet");
        old.seen(roster.push(false));
        assert_eq!(share(&old), 1.0);
        let second = roster.push(false);
        old.seen(second);
        new.seen(second);
        assert_eq!((share(&old), share(&new)), (1.0, 0.1));
        new.seen(roster.push(false));
        let last = roster.push(false);
        old.seen(last);
        new.seen(last);
        assert_eq!(share(&old), 0.1, "it was away");
    }
}
