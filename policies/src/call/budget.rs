//! How many retries a backend is asked to bear: a failing backend must not be buried under second attempts.
//!
//! Words and defaults are those of the Gateway API's `XBackendTrafficPolicy` (GEP-3388): at most 20 % of the requests
//! of the last ten seconds, and in any case ten in each second, so that a quiet client can retry at all. Hedges are taken from
//! it too.

use parking_lot::Mutex;

use crate::time::Timestamp;

/// What is remembered, in seconds: the longest interval that a rule may name.
pub const MAX_INTERVAL: u64 = 60;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// How much of a backend's traffic may be retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetShare {
    /// Retries per hundred requests.
    pub percent: u32,
    /// Retries that are allowed in each second of the clock, whatever the share.
    pub min_per_second: u32,
    /// What the share is taken of, in seconds: 1 to [`MAX_INTERVAL`].
    pub interval: u64,
}

/// The requests and retries of one backend through one proxy; shared by every rule that leads there and retries, each
/// within its own share of all of them.
#[derive(Debug, Default)]
pub struct RetryBudget(Mutex<Vec<Slot>>);

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    requests: u32,
    retries: u32,
}

impl Default for BudgetShare {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 10, interval: 10 }
    }
}

impl RetryBudget {
    /// Counts a request (its first attempt).
    pub fn request(&self, now: Timestamp) {
        let mut slots = self.0.lock();
        let slot = current(&mut slots, now);
        slot.requests = slot.requests.saturating_add(1);
    }

    /// Leave for one retry, which is counted where it is given.
    pub fn retry(&self, share: BudgetShare, now: Timestamp) -> bool {
        let mut slots = self.0.lock();
        let slot = *current(&mut slots, now);
        let recent = slots.iter().filter(|s| s.second + share.interval > slot.second);
        let (requests, retries) = recent.fold((0, 0), |(requests, retries), slot| {
            (requests + u64::from(slot.requests), retries + u64::from(slot.retries))
        });
        let within_share = (retries + 1) * 100 <= requests * u64::from(share.percent);
        let granted = within_share || slot.retries < share.min_per_second;
        if granted {
            let slot = current(&mut slots, now);
            slot.retries = slot.retries.saturating_add(1);
        }
        granted
    }
}

/// Another thread may have come with a later `now` first: its slot is as good.
fn current(slots: &mut Vec<Slot>, now: Timestamp) -> &mut Slot {
    if slots.is_empty() {
        // Only where somebody retries.
        slots.resize(MAX_INTERVAL as usize, Slot::default());
    }
    let second = now.as_nanos() / NANOS_PER_SECOND;
    let slot = &mut slots[usize::try_from(second % MAX_INTERVAL).unwrap_or(0)];
    if slot.second < second {
        *slot = Slot { second, ..Slot::default() };
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn granted(budget: &RetryBudget, now: Timestamp) -> usize {
        (0..10_000).take_while(|_| budget.retry(BudgetShare::default(), now)).count()
    }

    #[test]
    fn a_quiet_backend_gets_ten_retries_in_each_second() {
        let budget = RetryBudget::default();
        assert_eq!(granted(&budget, at(0)), 10);
        assert_eq!(granted(&budget, at(0)), 0);
        assert_eq!(granted(&budget, at(1)), 10);
    }

    #[test]
    fn a_busy_one_gets_a_fifth_of_its_requests() {
        let budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.request(at(3)));
        assert_eq!(granted(&budget, at(3)), 200);
    }

    #[test]
    fn requests_count_for_ten_seconds() {
        let budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.request(at(3)));
        assert_eq!(granted(&budget, at(12)), 200);
        let budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.request(at(3)));
        assert_eq!(granted(&budget, at(13)), 10);
    }

    proptest! {
        /// The law that keeps a retry storm away: whatever the order of events, the retries are that share of the requests,
        /// or that many a second.
        #[test]
        fn retries_never_exceed_share_and_minimum(
            steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..2000),
            (percent, min_per_second, interval) in (0_u32..=100, 0_u32..20, 1_u64..=MAX_INTERVAL),
        ) {
            let (budget, share) = (RetryBudget::default(), BudgetShare { percent, min_per_second, interval });
            let (mut now, mut requests, mut retries) = (0, 0_u64, 0_u64);
            for (pause, request) in steps {
                now += pause / 100;
                if request {
                    budget.request(Timestamp::from_millis(now));
                    requests += 1;
                } else if budget.retry(share, Timestamp::from_millis(now)) {
                    retries += 1;
                }
                let least = (now / 1000 + 1) * u64::from(min_per_second);
                let most = requests * u64::from(percent) / 100 + least;
                prop_assert!(retries <= most, "{retries} of {requests} by {now} ms");
            }
        }

        /// What lies longer back than the interval gives no leave.
        #[test]
        fn of_old_requests_there_is_no_share(interval in 1_u64..=MAX_INTERVAL, later in 0_u64..120) {
            let share = BudgetShare { percent: 100, min_per_second: 0, interval };
            let budget = RetryBudget::default();
            budget.request(at(100));
            prop_assert_eq!(budget.retry(share, at(100 + later)), later < interval);
        }
    }
}
