//! How traffic is shared out over priorities and zones that come one after the other: the first takes all that it can.
//!
//! Envoy's formula for priorities, for zones within them too. With `healthy` the part of a group's weight whose endpoints are
//! admitted, and `factor` the overprovisioning factor:
//!
//! - `health = min(1, factor * healthy)`;
//! - `load = min(what those before leave, health / min(1, sum of all health))`.
//!
//! With the factor of 1.4, the first takes everything until fewer than 71 % of it are well; from then on, what it lacks
//! goes to the next. Where all together have less than they need, each takes what it is good for.
//!
//! Who is well is looked up at most ten times a second; in between, calls find a group by what was known then, and
//! another one if nobody there is admitted.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Timestamp;

/// See the module.
#[derive(Debug)]
pub(super) struct Spill {
    factor: f64,
    /// Running sums of the loads, in parts of [`ALL`].
    sums: Box<[AtomicU32]>,
    looked: AtomicU64,
}

const ALL: u32 = 1 << 16;
const EVERY: Duration = Duration::from_millis(100);

impl Spill {
    /// Over so many groups, at least one.
    pub(super) fn new(groups: usize, factor: f64) -> Self {
        let sums = (0..groups).map(|_| AtomicU32::new(ALL)).collect();
        Self { factor, sums, looked: AtomicU64::new(0) }
    }

    /// The group of a call that has drawn `lot`. `healthy` says how much of a group is, from 0 to 1.
    pub(super) fn group(&self, lot: u16, now: Timestamp, healthy: impl Fn(usize) -> f64) -> usize {
        self.look(now, healthy);
        let is_in = |sum: &AtomicU32| u32::from(lot) < sum.load(Ordering::Relaxed);
        self.sums.iter().position(is_in).unwrap_or(0)
    }

    /// One thread does it, the others go on with what there is.
    fn look(&self, now: Timestamp, healthy: impl Fn(usize) -> f64) {
        let looked = self.looked.load(Ordering::Relaxed);
        if looked > 0 && now.since(Timestamp::from_nanos(looked)) < EVERY {
            return;
        }
        let moment = now.as_nanos().max(1);
        if self.looked.compare_exchange(looked, moment, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let health = |group| (self.factor * healthy(group)).min(1.0);
        let total: f64 = (0..self.sums.len()).map(health).sum();
        if total <= 0.0 {
            self.sums.iter().for_each(|sum| sum.store(ALL, Ordering::Relaxed));
            return;
        }
        let mut taken = 0.0;
        for (group, sum) in self.sums.iter().enumerate() {
            taken = (taken + health(group) / total.min(1.0)).min(1.0);
            // Rounded, so that a whole is a whole.
            sum.store((taken * f64::from(ALL)).round() as u32, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1);

    /// In percent.
    fn loads(healthy: &[f64]) -> Vec<f64> {
        let spill = Spill::new(healthy.len(), 1.4);
        let mut counts = vec![0_u32; healthy.len()];
        (0..=u16::MAX).for_each(|lot| counts[spill.group(lot, NOW, |group| healthy[group])] += 1);
        counts.iter().map(|count| (f64::from(*count) / 655.36).round()).collect()
    }

    /// The table in Envoy's documentation on priority levels.
    #[test]
    fn traffic_spills_as_envoy_documents_it() {
        for (healthy, want) in [
            (&[1.0, 1.0][..], &[100.0, 0.0][..]),
            (&[0.72, 1.0], &[100.0, 0.0]),
            (&[0.71, 0.71], &[99.0, 1.0]),
            (&[0.5, 0.5], &[70.0, 30.0]),
            (&[0.25, 1.0], &[35.0, 65.0]),
            (&[0.0, 1.0], &[0.0, 100.0]),
            (&[0.25, 0.25], &[50.0, 50.0]),
            (&[0.05, 0.15, 0.15], &[14.0, 43.0, 43.0]),
            (&[0.2, 0.2, 1.0], &[28.0, 28.0, 44.0]),
            (&[0.0, 0.0], &[100.0, 0.0]),
        ] {
            assert_eq!(loads(healthy), want, "{healthy:?}");
        }
    }

    #[test]
    fn who_is_well_is_looked_up_ten_times_a_second() {
        let spill = Spill::new(2, 1.4);
        let at = |millis, first| {
            let healthy = |group| if group == 0 { first } else { 1.0 };
            spill.group(0, Timestamp::from_millis(millis), healthy)
        };
        assert_eq!(at(1, 1.0), 0);
        assert_eq!(at(100, 0.0), 0);
        assert_eq!(at(101, 0.0), 1);
        assert_eq!(at(150, 1.0), 1);
    }

    proptest! {
        #[test]
        fn all_traffic_goes_somewhere_and_none_to_those_who_are_down(
            healthy in prop::collection::vec(prop_oneof![Just(0.0), 0.0..=1.0], 1..6),
        ) {
            let loads = loads(&healthy);
            prop_assert!((loads.iter().sum::<f64>() - 100.0).abs() <= healthy.len() as f64);
            if healthy.iter().any(|healthy| *healthy > 0.001) {
                for (load, healthy) in loads.iter().zip(&healthy) {
                    prop_assert!(*load == 0.0 || *healthy > 0.0);
                }
            }
        }
    }
}
