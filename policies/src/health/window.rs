//! Sliding windows over the calls of the last seconds, or over the last calls, with `now` as argument.
//!
//! A window of time has ten buckets and covers between nine and ten tenths of its length: the current bucket is still
//! filling.

mod ring;

use std::fmt;
use std::time::Duration;

use crate::time::Timestamp;
pub(super) use ring::Ring;

/// How many calls, and how many of them the window is there to count: failures, or slow ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub calls: u32,
    pub failures: u32,
}

/// What a window covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    Time(Duration),
    /// So many of the latest calls.
    Calls(u32),
}

#[derive(Debug)]
pub struct Window(Kind);

#[derive(Debug)]
enum Kind {
    Time(Ring<Counts>),
    Calls(Latest),
}

/// The latest calls, a bit for each.
#[derive(Debug)]
struct Latest {
    bits: Box<[u64]>,
    most: u32,
    next: u32,
    counts: Counts,
}

impl Window {
    pub fn new(span: Span) -> Self {
        Self(match span {
            Span::Time(length) => Kind::Time(Ring::new(length)),
            Span::Calls(most) => Kind::Calls(Latest::new(most)),
        })
    }

    /// Counts one call and returns what the window holds now. A report that comes a whole window late is not counted.
    pub fn record(&mut self, ok: bool, now: Timestamp) -> Counts {
        match &mut self.0 {
            Kind::Time(ring) => {
                if let Some(bucket) = ring.bucket(now) {
                    bucket.calls = bucket.calls.saturating_add(1);
                    bucket.failures = bucket.failures.saturating_add(u32::from(!ok));
                }
                sum(ring, now)
            }
            Kind::Calls(latest) => latest.record(ok),
        }
    }

    /// What the window holds at `now`.
    pub fn counts(&self, now: Timestamp) -> Counts {
        match &self.0 {
            Kind::Time(ring) => sum(ring, now),
            Kind::Calls(latest) => latest.counts,
        }
    }

    pub fn clear(&mut self) {
        match &mut self.0 {
            Kind::Time(ring) => ring.clear(),
            Kind::Calls(latest) => *latest = Latest::new(latest.most),
        }
    }
}

fn sum(ring: &Ring<Counts>, now: Timestamp) -> Counts {
    ring.live(now).fold(Counts::default(), |sum, bucket| Counts {
        calls: sum.calls.saturating_add(bucket.calls),
        failures: sum.failures.saturating_add(bucket.failures),
    })
}

impl Latest {
    fn new(most: u32) -> Self {
        let words = usize::try_from(most.div_ceil(u64::BITS)).unwrap_or(1).max(1);
        Self { bits: vec![0; words].into(), most: most.max(1), next: 0, counts: Counts::default() }
    }

    fn record(&mut self, ok: bool) -> Counts {
        let place = usize::try_from(self.next / u64::BITS).unwrap_or(0);
        let (word, bit) = (&mut self.bits[place], 1 << (self.next % u64::BITS));
        if self.counts.calls == self.most {
            self.counts.failures -= u32::from(*word & bit != 0);
        } else {
            self.counts.calls += 1;
        }
        *word = if ok { *word & !bit } else { *word | bit };
        self.counts.failures += u32::from(!ok);
        self.next = (self.next + 1) % self.most;
        self.counts
    }
}

/// `10s`, or `100 calls`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(length) => write!(f, "{length:?}"),
            Self::Calls(most) => write!(f, "{most} calls"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Span = Span::Time(Duration::from_secs(1));

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

    #[test]
    fn a_clock_that_jumps_back_starts_the_window_again() {
        let mut window = Window::new(SECOND);
        (0..10).for_each(|i| _ = window.record(false, at(3_600_000 + i * 100)));
        assert_eq!(window.record(false, at(5_000)), Counts { calls: 1, failures: 1 });
        assert_eq!(window.record(true, at(5_100)), Counts { calls: 2, failures: 1 });
    }

    fn naive(seen: &[bool]) -> Counts {
        let failures = seen.iter().filter(|ok| !**ok).count();
        Counts { calls: u32::try_from(seen.len()).unwrap(), failures: u32::try_from(failures).unwrap() }
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
                let live: Vec<_> = seen.iter().filter(|(t, _)| t / 100 + 10 > now / 100).map(|(_, ok)| *ok).collect();
                prop_assert_eq!(window.record(ok, at(now)), naive(&live));
            }
        }

        #[test]
        fn a_window_of_calls_equals_the_end_of_a_list(
            outcomes in prop::collection::vec(any::<bool>(), 1..500), most in 1_u32..150,
        ) {
            let mut window = Window::new(Span::Calls(most));
            for (i, ok) in outcomes.iter().enumerate() {
                let from = (i + 1).saturating_sub(most as usize);
                prop_assert_eq!(window.record(*ok, at(0)), naive(&outcomes[from..=i]));
            }
        }
    }
}
