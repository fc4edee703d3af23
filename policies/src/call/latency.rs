//! How long calls to a backend take: a sketch of recent latencies that answers quantiles.
//!
//! A histogram with logarithmic buckets (eight to each doubling), in two halves: the one that is filled, and the one
//! before. What was recorded is forgotten after ten to twenty seconds. An answer lies within a sixteenth of the exact quantile of
//! what is remembered, for latencies from a microsecond to 137 seconds; what is beyond counts as the nearest of these.

use std::time::Duration;

use parking_lot::Mutex;

use crate::time::Timestamp;

/// The largest relative error of an answer: half a bucket.
#[cfg(test)]
const ERROR: f64 = 1.0 / 16.0;
/// Fewer calls than this say nothing.
const LEAST: u64 = 20;
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Buckets to a doubling, as a power of two.
const SUB_BITS: u32 = 3;
/// From 2^10 ns, a microsecond, …
const LOWEST: u32 = 10;
/// … to 2^37 ns.
const HIGHEST: u32 = 37;
const BUCKETS: usize = ((HIGHEST - LOWEST) << SUB_BITS) as usize;

/// Of one backend, through one proxy; shared by all who ask. Lives in the state store.
#[derive(Debug)]
pub struct Latency(Mutex<Halves>);

#[derive(Debug)]
struct Halves {
    /// When the half that is filled began.
    since: Timestamp,
    filled: Box<[u32; BUCKETS]>,
    before: Box<[u32; BUCKETS]>,
}

impl Default for Latency {
    fn default() -> Self {
        let empty = || Box::new([0; BUCKETS]);
        Self(Mutex::new(Halves { since: Timestamp::ZERO, filled: empty(), before: empty() }))
    }
}

impl Latency {
    /// A call was answered after `latency`, or was given up then: it would have taken longer.
    pub fn record(&self, latency: Duration, now: Timestamp) {
        let mut halves = self.0.lock();
        halves.turn(now);
        let count = &mut halves.filled[bucket(latency)];
        *count = count.saturating_add(1);
    }

    /// What `permille` of a thousand calls take at most; `None` while there are too few to say.
    pub fn quantile(&self, permille: u32, now: Timestamp) -> Option<Duration> {
        let mut halves = self.0.lock();
        halves.turn(now);
        let counts = || halves.filled.iter().zip(&*halves.before).map(|(a, b)| u64::from(*a) + u64::from(*b));
        let total: u64 = counts().sum();
        if total < LEAST {
            return None;
        }
        // The smallest with at least that share at or below it ("nearest rank").
        let rank = (total * u64::from(permille)).div_ceil(1000).clamp(1, total);
        let mut seen = 0;
        counts()
            .position(|count| {
                seen += count;
                seen >= rank
            })
            .map(middle)
    }
}

impl Halves {
    fn turn(&mut self, now: Timestamp) {
        let age = now.since(self.since);
        if age < HALF_LIFE {
            return;
        }
        std::mem::swap(&mut self.filled, &mut self.before);
        self.filled.fill(0);
        if age >= 2 * HALF_LIFE {
            self.before.fill(0);
        }
        self.since = now;
    }
}

fn bucket(latency: Duration) -> usize {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
    let nanos = nanos.clamp(1 << LOWEST, (1 << HIGHEST) - 1);
    let octave = nanos.ilog2();
    let within = (nanos >> (octave - SUB_BITS)) & ((1 << SUB_BITS) - 1);
    usize::try_from((u64::from(octave - LOWEST) << SUB_BITS) + within).unwrap_or(BUCKETS - 1)
}

fn middle(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let (octave, within) = (bucket >> SUB_BITS, bucket & ((1 << SUB_BITS) - 1));
    let width = 1_u64 << (octave + u64::from(LOWEST - SUB_BITS));
    Duration::from_nanos(((1 << SUB_BITS) + within) * width + width / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_calls_say_nothing_and_old_ones_are_forgotten() {
        let latency = Latency::default();
        let now = Timestamp::from_millis(5000);
        (0..19).for_each(|_| latency.record(Duration::from_millis(10), now));
        assert_eq!(latency.quantile(500, now), None);
        latency.record(Duration::from_millis(10), now);
        assert!(latency.quantile(500, now).is_some());
        assert!(latency.quantile(500, now + HALF_LIFE).is_some());
        assert_eq!(latency.quantile(500, now + 3 * HALF_LIFE), None);
    }

    proptest! {
        #[test]
        fn answers_are_within_the_stated_error_of_the_exact_quantile(
            nanos in prop::collection::vec(prop_oneof![1_000_u64..1_000_000, 1_024_u64..137_000_000_000], 20..400),
            permille in 0_u32..=1000,
            later in 0_u64..10_000,
        ) {
            let latency = Latency::default();
            let start = Timestamp::from_millis(60_000);
            // Some in each half.
            let moments = nanos.iter().enumerate();
            moments.for_each(|(i, n)| latency.record(Duration::from_nanos(*n), start + Duration::from_millis(
                if i % 2 == 0 { 0 } else { later },
            )));
            let mut sorted = nanos.clone();
            sorted.sort_unstable();
            let rank = (sorted.len() * permille as usize).div_ceil(1000).clamp(1, sorted.len());
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let exact = sorted[rank - 1].max(1 << LOWEST) as f64;
            let told = latency.quantile(permille, start + Duration::from_millis(later)).unwrap();
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let told = told.as_nanos() as f64;
            prop_assert!((told - exact).abs() <= exact * ERROR, "{told} instead of {exact}");
        }
    }
}
