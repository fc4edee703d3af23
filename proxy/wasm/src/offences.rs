//! When a plugin has failed too often: it is left out for a while, then tried again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::settings::OffenceLimits;

/// However often it offends.
const LONGEST: Duration = Duration::from_secs(600);

/// The offences of one plugin, of all its VMs.
#[derive(Debug)]
pub(crate) struct Offences {
    limits: OffenceLimits,
    /// Times of the last ones.
    times: VecDeque<Duration>,
    quarantine: Option<Quarantine>,
    /// How often it was put away.
    count: u64,
}

#[derive(Clone, Copy, Debug)]
struct Quarantine {
    until: Duration,
    length: Duration,
}

impl Offences {
    pub(crate) fn new(limits: OffenceLimits) -> Self {
        Self { limits, times: VecDeque::new(), quarantine: None, count: 0 }
    }

    /// Another one. After a quarantine, the first within the same time again is enough for one that is twice as long.
    pub(crate) fn add(&mut self, now: Duration) -> Option<Duration> {
        let within = self.limits.within;
        self.times.retain(|time| now.saturating_sub(*time) < within);
        self.times.push_back(now);
        let again = self.quarantine.filter(|last| last.until + self.limits.within > now);
        if again.is_some_and(|last| last.until > now) {
            // Streams from before.
            return None;
        }
        if again.is_none() && self.times.len() < self.limits.count {
            return None;
        }
        let length = again.map_or(self.limits.quarantine, |last| (last.length * 2).min(LONGEST));
        self.quarantine = Some(Quarantine { until: now + length, length });
        self.times.clear();
        self.count += 1;
        Some(length)
    }

    /// Until when it is left out; `None` if it is not.
    pub(crate) fn until(&self, now: Duration) -> Option<Duration> {
        self.quarantine.map(|quarantine| quarantine.until).filter(|until| *until > now)
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn three_in_ten() -> Offences {
        Offences::new(OffenceLimits { count: 3, within: 10 * SECOND, quarantine: 5 * SECOND })
    }

    #[test]
    fn only_enough_offences_within_the_time_lead_to_quarantine() {
        let mut offences = three_in_ten();
        assert_eq!(offences.add(SECOND), None);
        assert_eq!(offences.add(2 * SECOND), None);
        assert_eq!(offences.add(11 * SECOND), None, "the first is too long ago");
        assert_eq!(offences.until(11 * SECOND), None);
        assert_eq!(offences.add(11 * SECOND), Some(5 * SECOND));
        assert_eq!((offences.until(11 * SECOND), offences.count()), (Some(16 * SECOND), 1));
        assert_eq!(offences.until(16 * SECOND), None);
    }

    #[test]
    fn who_offends_again_at_once_is_left_out_for_twice_as_long_and_no_longer_than_ten_minutes() {
        let mut offences = three_in_ten();
        let mut now = SECOND;
        for _ in 0..3 {
            let _ = offences.add(now);
        }
        for expected in [10, 20, 40, 80, 160, 320, 600, 600] {
            now = offences.until(now).unwrap();
            assert_eq!(offences.add(now), Some(expected * SECOND));
        }
        now = offences.until(now).unwrap() + 11 * SECOND;
        assert_eq!(offences.add(now), None, "it was good for long enough");
    }
}
