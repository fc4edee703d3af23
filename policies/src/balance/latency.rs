//! How long an endpoint takes to answer: a moving average that believes the worst at once and the better slowly.
//!
//! Peak EWMA, as in Twitter's Finagle (`PeakEwma`) and Linkerd. With `t` the time since the sample before and `decay` the
//! time constant, `kept = exp(-t / decay)`:
//!
//! - a call that took longer than the average is the average from now on (the peak);
//! - another one: `average * kept + latency * (1 - kept)`;
//! - a failure counts as a call of `max(latency, 1s, 4 * average)`, blended in with at least 1/256: who fails fast must not
//!   look fast, however slow all others are. It is no peak, so that one failure in a hundred, which every endpoint has
//!   now and then, drives nobody away.
//!
//! While an endpoint is not called, nothing is learned of it, and what is known fades: see [`Latency::cost`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::{Timestamp, saturating_nanos};

/// What a failure costs at least, in nanoseconds.
const PENALTY: f64 = 1e9;
/// And how many times what the endpoint has cost so far.
const WORSE: f64 = 4.0;
/// The least that one failure counts, whatever time has passed.
const LEAST_BLEND: f64 = 1.0 / 256.0;
/// Up to here five terms of the exponential series do: the sixth is below 1e-17.
const SOON: f64 = 1.0 / 256.0;
/// No average is above this: a minute is as bad as an hour.
const MOST: f64 = 60e9;

/// Lock-free: two samples at one time may each miss the other's part of `t`, never more.
#[derive(Debug, Default)]
pub struct Latency {
    /// Nanoseconds, as the bits of an `f64`; 0 as long as nothing is known.
    average: AtomicU64,
    /// When the last sample came.
    measured: AtomicU64,
    /// When the last call began.
    touched: AtomicU64,
}

/// How one call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    pub latency: Duration,
    pub ok: bool,
}

impl Latency {
    /// `None` as long as no call has ended.
    pub fn average(&self) -> Option<Duration> {
        let average = self.nanos();
        (average > 0.0).then(|| Duration::from_nanos(average as u64))
    }

    pub fn record(&self, sample: Sample, decay: Duration, now: Timestamp) {
        let before = self.measured.fetch_max(now.as_nanos(), Ordering::Relaxed);
        let kept = kept(now.since(Timestamp::from_nanos(before)), decay);
        let step = |bits| Some(next(f64::from_bits(bits), sample, kept).to_bits());
        // Never refused: the step is never `None`.
        let _ = self.average.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    /// A call begins: what is known is not out of date yet.
    pub(super) fn touch(&self, now: Timestamp) {
        self.touched.fetch_max(now.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn nanos(&self) -> f64 {
        f64::from_bits(self.average.load(Ordering::Relaxed))
    }

    /// What a call is expected to cost, beside another endpoint's average. It fades with the time since the last call, down
    /// to what the other one costs and no further: who was slow once is tried again, and who is idle is not better
    /// than who is measured.
    pub(super) fn cost(&self, other: f64, decay: Duration, now: Timestamp) -> f64 {
        let average = self.nanos();
        if average <= other {
            return average;
        }
        let (measured, touched) =
            (self.measured.load(Ordering::Relaxed), self.touched.load(Ordering::Relaxed));
        let last = Timestamp::from_nanos(measured.max(touched));
        (average * kept(now.since(last), decay)).max(other)
    }
}

fn next(average: f64, sample: Sample, kept: f64) -> f64 {
    let latency = (saturating_nanos(sample.latency) as f64).max(1.0);
    let peak = average.max(latency);
    let after = if sample.ok {
        if latency >= average { latency } else { average * kept + latency * (1.0 - kept) }
    } else {
        let sample = latency.max(PENALTY).max(WORSE * average);
        let blend = if average > 0.0 { (1.0 - kept).max(LEAST_BLEND) } else { 1.0 };
        peak * (1.0 - blend) + sample * blend
    };
    after.min(MOST)
}

/// `exp(-passed / decay)`. Samples mostly follow each other closely: then the first terms of the series are as near as a
/// double can tell, and cost less.
fn kept(passed: Duration, decay: Duration) -> f64 {
    let x = passed.as_secs_f64() / decay.as_secs_f64().max(1e-9);
    if x < SOON {
        return 1.0 - x * (1.0 - x / 2.0 * (1.0 - x / 3.0 * (1.0 - x / 4.0 * (1.0 - x / 5.0))));
    }
    (-x).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn ok(millis: u64) -> Sample {
        Sample { latency: Duration::from_millis(millis), ok: true }
    }

    fn failed(millis: u64) -> Sample {
        Sample { ok: false, ..ok(millis) }
    }

    fn millis(latency: &Latency) -> f64 {
        latency.average().map_or(0.0, |average| average.as_secs_f64() * 1000.0)
    }

    #[test]
    fn a_peak_is_believed_at_once_and_left_behind_slowly() {
        let latency = Latency::default();
        latency.record(ok(10), DECAY, at(1));
        latency.record(ok(500), DECAY, at(2));
        assert_eq!(millis(&latency), 500.0);
        latency.record(ok(10), DECAY, at(10_002));
        let e = 1.0_f64.exp();
        assert!((millis(&latency) - (500.0 / e + 10.0 * (1.0 - 1.0 / e))).abs() < 0.001);
    }

    #[test]
    fn who_fails_fast_costs_more_than_who_is_slow() {
        for slow in [1, 100, 5000] {
            let (bad, good) = (Latency::default(), Latency::default());
            for i in 0..600 {
                bad.record(failed(0), DECAY, at(i * 10));
                good.record(ok(slow), DECAY, at(i * 10));
            }
            assert!(bad.nanos() > good.nanos(), "{slow} ms: {} and {}", millis(&bad), millis(&good));
        }
    }

    #[test]
    fn a_failure_tells_even_where_no_time_has_passed() {
        let latency = Latency::default();
        latency.record(ok(1), DECAY, at(5));
        latency.record(failed(0), DECAY, at(5));
        assert!(millis(&latency) > 4.0);
    }

    #[test]
    fn one_failure_in_a_hundred_does_not_drive_an_endpoint_away() {
        let latency = Latency::default();
        for i in 0..10_000 {
            let sample = if i % 100 == 0 { failed(2) } else { ok(2) };
            latency.record(sample, DECAY, at(i * 10));
        }
        assert!(millis(&latency) < 100.0, "{} ms", millis(&latency));
    }

    #[test]
    fn what_is_known_fades_to_what_another_costs_and_no_further() {
        let slow = Latency::default();
        slow.record(ok(1000), DECAY, at(1));
        let other = 10e6;
        assert_eq!(slow.cost(other, DECAY, at(1)), 1e9);
        assert!(slow.cost(other, DECAY, at(20_001)) < 0.14e9);
        assert_eq!(slow.cost(other, DECAY, at(100_000)), other);
        slow.touch(at(99_999));
        assert!(slow.cost(other, DECAY, at(100_000)) > 0.99e9, "a call is on its way");
        assert_eq!(slow.cost(2e9, DECAY, at(100_000)), 1e9, "it is the faster one");
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_exponential_however_little_time_has_passed(passed in 0_u64..40_000_000, decay in 1_u64..100_000_000) {
            let exact = (-(passed as f64) / decay as f64).exp();
            let kept = kept(Duration::from_micros(passed), Duration::from_micros(decay));
            prop_assert!((kept - exact).abs() <= 4.0 * f64::EPSILON, "{kept} {exact}");
        }

        #[test]
        fn an_average_stays_between_a_nanosecond_and_a_minute(
            steps in prop::collection::vec((0_u64..20_000, any::<u32>(), any::<bool>()), 1..100),
        ) {
            let latency = Latency::default();
            let mut now = 0;
            for (step, micros, ok) in steps {
                now += step;
                let sample = Sample { latency: Duration::from_micros(micros.into()), ok };
                latency.record(sample, DECAY, at(now));
                prop_assert!((1.0..=MOST).contains(&latency.nanos()));
            }
        }
    }
}
