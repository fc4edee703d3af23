//! How long to wait before the next attempt: exponential with jitter, so that a thousand proxies that lost one
//! control plane do not return in step. Pure: neither sleeps nor reads a clock.

use std::time::Duration;

/// Bounds of the delays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffConfig {
    /// Never wait less.
    pub min: Duration,
    /// Never wait more.
    pub max: Duration,
    /// A stream that lived this long starts the sequence anew.
    pub healthy_after: Duration,
}

/// A sequence of delays: the n-th is drawn evenly from `min ..= min(max, min * 2^n)`, n from 1.
#[derive(Debug)]
pub struct Backoff {
    config: BackoffConfig,
    rng: fastrand::Rng,
    ceiling: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            min: Duration::from_millis(100),
            max: Duration::from_secs(10),
            healthy_after: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    pub fn new(config: BackoffConfig, rng: fastrand::Rng) -> Self {
        Self { config, rng, ceiling: config.min }
    }

    /// The delay before the next attempt, after a stream that lived for `lived` (zero when none came to be).
    pub fn next_delay(&mut self, lived: Duration) -> Duration {
        let BackoffConfig { min, max, healthy_after } = self.config;
        if lived >= healthy_after {
            self.ceiling = min;
        }
        self.ceiling = self.ceiling.saturating_mul(2).min(max);
        let spread = self.ceiling.saturating_sub(min);
        (min + spread.mul_f64(self.rng.f64())).min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count)
            .map(|_| {
                backoff.next_delay(Duration::ZERO);
                backoff.ceiling.as_millis()
            })
            .collect()
    }

    #[test]
    fn ceiling_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(1));
        assert_eq!(ceilings(&mut backoff, 8), [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn delays_stay_within_bounds_and_are_spread() {
        let mut backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(7));
        ceilings(&mut backoff, 10);
        let delays: Vec<_> = (0..1000).map(|_| backoff.next_delay(Duration::ZERO).as_millis()).collect();
        assert!(delays.iter().all(|d| (100..=10_000).contains(d)));
        for quarter in 0..4 {
            let from = 100 + quarter * 2475;
            let share = delays.iter().filter(|d| (from..from + 2475).contains(*d)).count();
            assert!((150..350).contains(&share), "quarter {quarter} has {share} of 1000");
        }
    }

    #[test]
    fn starts_anew_only_after_a_stream_that_lived_long_enough() {
        let mut backoff = Backoff::new(BackoffConfig::default(), fastrand::Rng::with_seed(3));
        ceilings(&mut backoff, 10);
        backoff.next_delay(Duration::from_millis(9_999));
        assert_eq!(backoff.ceiling, Duration::from_secs(10));
        backoff.next_delay(Duration::from_secs(10));
        assert_eq!(backoff.ceiling, Duration::from_millis(200));
    }
}
