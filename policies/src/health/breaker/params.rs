//! When a breaker trips, and how it recovers.

use std::time::Duration;

use crate::health::Span;

/// See the module. As written: all of it must be equal for a breaker's state to carry over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerParams {
    pub failure_rate: Option<Rate>,
    pub slow_calls: Option<SlowCalls>,
    pub consecutive_failures: Option<u32>,
    /// For endpoints only.
    pub success_rate: Option<SuccessRate>,
    /// For endpoints only.
    pub latency: Option<PeerLatency>,
    /// How long it refuses before it probes, the first time.
    pub open: Duration,
    /// Doubled with every trip in a row, up to this; `None`: `open` each time.
    pub max_open: Option<Duration>,
    /// Up to so many percent of that time come on top, or off where that would be more than `max_open`.
    pub jitter: u8,
    /// Calls let through when half-open; all must succeed to close.
    pub probes: u32,
    /// How long it takes from a tenth of the calls back to all of them; zero: at once.
    pub ramp: Duration,
}

/// Trips when at least `percent` of the calls within `window` count against it and there were at least `minimum_calls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    pub percent: u8,
    pub minimum_calls: u32,
    pub window: Span,
}

/// Trips when the share of calls that took longer than `slower_than` is at least that of `rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlowCalls {
    pub rate: Rate,
    pub slower_than: Duration,
}

/// Trips when an endpoint's share of successes is so many standard deviations below that of the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    pub standard_deviations: f64,
    pub among: Among,
}

/// Trips when an endpoint's usual latency is `factor` times that of the others, and at least `minimum`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerLatency {
    pub factor: f64,
    pub minimum: Duration,
    pub among: Among,
}

/// Which endpoints are compared: those with this many calls within `window`, if there are enough of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Among {
    pub minimum_endpoints: u32,
    pub minimum_calls: u32,
    pub window: Duration,
}

impl Default for BreakerParams {
    /// Never trips; five seconds and one probe.
    fn default() -> Self {
        Self {
            failure_rate: None,
            slow_calls: None,
            consecutive_failures: None,
            success_rate: None,
            latency: None,
            open: Duration::from_secs(5),
            max_open: None,
            jitter: 0,
            probes: 1,
            ramp: Duration::ZERO,
        }
    }
}

impl BreakerParams {
    /// How long the window is in which endpoints are compared; `None` if they are not.
    pub(in crate::health) fn compared_over(&self) -> Option<Duration> {
        let success = self.success_rate.map(|rate| rate.among.window);
        let latency = self.latency.map(|latency| latency.among.window);
        success.into_iter().chain(latency).max()
    }

    /// The pause after `row` trips in a row, this one not counted. `chance`: anything from 0 to 1.
    pub(super) fn pause(&self, row: u32, chance: f64) -> Duration {
        let factor = if self.max_open.is_some() { 1_u32.checked_shl(row).unwrap_or(u32::MAX) } else { 1 };
        let most = self.max_open.map_or(Duration::MAX, |most| most.max(self.open));
        let base = self.open.saturating_mul(factor).min(most);
        let spread = base.mul_f64(f64::from(self.jitter.min(100)) / 100.0 * chance.clamp(0.0, 1.0));
        let longer = base.saturating_add(spread);
        if longer <= most { longer } else { most.saturating_sub(spread) }
    }
}

impl Rate {
    pub(super) fn is_reached(self, counts: crate::health::Counts) -> bool {
        counts.calls >= self.minimum_calls
            && u64::from(counts.failures) * 100 >= u64::from(self.percent) * u64::from(counts.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_pause_doubles_with_each_trip_up_to_its_bound() {
        let params = BreakerParams { open: SECOND, max_open: Some(10 * SECOND), ..BreakerParams::default() };
        let pauses = [0, 1, 2, 3, 4, 40, 400].map(|row| params.pause(row, 1.0).as_secs());
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10, 10]);
    }

    #[test]
    fn without_a_bound_the_pause_is_as_written_each_time() {
        let params = BreakerParams { open: SECOND, ..BreakerParams::default() };
        assert_eq!([0, 1, 9].map(|row| params.pause(row, 0.5)), [SECOND; 3]);
    }

    proptest! {
        #[test]
        fn jitter_is_within_its_percents_and_the_bound_holds(
            row in 0_u32..100, chance in 0.0_f64..1.0, jitter in 0_u8..=100, most in 1_u64..100,
        ) {
            let most = Duration::from_secs(most);
            let params = BreakerParams { open: SECOND, max_open: Some(most), jitter, ..BreakerParams::default() };
            let (calm, pause) = (BreakerParams { jitter: 0, ..params }.pause(row, chance), params.pause(row, chance));
            prop_assert!(pause <= most);
            let spread = calm.mul_f64(f64::from(jitter) / 100.0 + 1e-9);
            prop_assert!(pause + spread >= calm && pause <= calm + spread, "{pause:?} of {calm:?}");
        }
    }
}
