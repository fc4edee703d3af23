//! A sliding window of call counts, in ten buckets, with `now` as argument.
//!
//! The window covers between nine and ten tenths of its length: the current bucket is still filling.

use std::time::Duration;

use crate::time::Timestamp;

const BUCKETS: usize = 10;

/// How many calls, and how many of them failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u32,
    pub failures: u32,
}

#[derive(Debug)]
pub struct Window {
    width: u64,
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Number of bucket widths since the epoch: tells a bucket of this turn of the ring from one of the last.
    index: u64,
    counts: Counts,
}

impl Window {
    pub fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self { width: (nanos / BUCKETS as u64).max(1), buckets: Default::default() }
    }

    /// Counts one call and returns what the window holds now. A report that comes a whole window late is not counted.
    pub fn record(&mut self, ok: bool, now: Timestamp) -> Counts {
        let index = now.as_nanos() / self.width;
        let bucket = &mut self.buckets[slot(index)];
        if bucket.index < index {
            *bucket = Bucket { index, counts: Counts::default() };
        }
        if bucket.index == index {
            bucket.counts.calls = bucket.counts.calls.saturating_add(1);
            bucket.counts.failures = bucket.counts.failures.saturating_add(u32::from(!ok));
        }
        self.counts(now)
    }

    /// What the window holds at `now`.
    pub fn counts(&self, now: Timestamp) -> Counts {
        let index = now.as_nanos() / self.width;
        let live = self.buckets.iter().filter(|b| b.index + BUCKETS as u64 > index);
        live.fold(Counts::default(), |sum, b| Counts {
            calls: sum.calls.saturating_add(b.counts.calls),
            failures: sum.failures.saturating_add(b.counts.failures),
        })
    }

    pub fn clear(&mut self) {
        self.buckets = Default::default();
    }
}

fn slot(index: u64) -> usize {
    usize::try_from(index % BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn calls_leave_the_window_after_its_length() {
        let mut window = Window::new(SECOND);
        window.record(false, at(0));
        window.record(true, at(950));
        assert_eq!(window.counts(at(999)), Counts { calls: 2, failures: 1 });
        assert_eq!(window.counts(at(1000)), Counts { calls: 1, failures: 0 });
        assert_eq!(window.counts(at(5000)), Counts::default());
    }

    #[test]
    fn a_report_older_than_the_window_is_not_counted() {
        let mut window = Window::new(SECOND);
        window.record(true, at(10_000));
        assert_eq!(window.record(false, at(9_000)).failures, 0);
    }

    proptest! {
        #[test]
        fn counts_equal_a_naive_list_of_the_covered_buckets(
            steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..200),
        ) {
            let mut window = Window::new(SECOND);
            let mut seen: Vec<(u64, bool)> = Vec::new();
            let mut now = 0;
            for (step, ok) in steps {
                now += step;
                seen.push((now, ok));
                let live = seen.iter().filter(|(t, _)| t / 100 + 10 > now / 100);
                let want = live.fold(Counts::default(), |c, (_, ok)| Counts {
                    calls: c.calls + 1,
                    failures: c.failures + u32::from(!ok),
                });
                prop_assert_eq!(window.record(ok, at(now)), want);
            }
        }
    }
}
