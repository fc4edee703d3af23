//! How many retries a backend is asked to bear: a failing backend must not be buried under second attempts.
//!
//! Numbers and words are those of the Gateway API's `XBackendTrafficPolicy` (GEP-3388): at most 20 % of the requests
//! of the last ten seconds, and in any case ten in each second, so that a quiet client can retry at all.

use parking_lot::Mutex;

use crate::time::Timestamp;

/// Retries per hundred requests.
const PERCENT: u64 = 20;
/// What the share is taken of, in seconds.
const INTERVAL: u64 = 10;
/// Retries that are allowed in each second of the clock, whatever the share.
const MIN_PER_SECOND: u32 = 10;
const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// The requests and retries of one backend through one proxy; shared by every rule that leads there and retries.
#[derive(Debug, Default)]
pub struct RetryBudget(Mutex<[Slot; INTERVAL as usize]>);

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// Counts a request (its first attempt).
    pub fn request(&self, now: Timestamp) {
        let mut slots = self.0.lock();
        let slot = current(&mut slots, now);
        slot.requests = slot.requests.saturating_add(1);
    }

    /// Leave for one retry, which is counted where it is given.
    pub fn retry(&self, now: Timestamp) -> bool {
        let mut slots = self.0.lock();
        let slot = *current(&mut slots, now);
        let recent = slots.iter().filter(|s| s.second + INTERVAL > slot.second);
        let (requests, retries) = recent.fold((0, 0), |(requests, retries), slot| {
            (requests + u64::from(slot.requests), retries + u64::from(slot.retries))
        });
        let within_share = (retries + 1) * 100 <= requests * PERCENT;
        let granted = within_share || slot.retries < MIN_PER_SECOND;
        if granted {
            let slot = current(&mut slots, now);
            slot.retries = slot.retries.saturating_add(1);
        }
        granted
    }
}

/// Another thread may have come with a later `now` first: its slot is as good.
fn current(slots: &mut [Slot; INTERVAL as usize], now: Timestamp) -> &mut Slot {
    let second = now.as_nanos() / NANOS_PER_SECOND;
    let slot = &mut slots[usize::try_from(second % INTERVAL).unwrap_or(0)];
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
        (0..10_000).take_while(|_| budget.retry(now)).count()
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
        /// The law that keeps a retry storm away: whatever the order of events, the retries of ten seconds are a
        /// fifth of their requests, or ten a second.
        #[test]
        fn retries_never_exceed_share_and_minimum(steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..2000)) {
            let budget = RetryBudget::default();
            let (mut now, mut requests, mut retries) = (0, 0_u64, 0_u64);
            for (pause, request) in steps {
                now += pause / 100;
                if request {
                    budget.request(Timestamp::from_millis(now));
                    requests += 1;
                } else if budget.retry(Timestamp::from_millis(now)) {
                    retries += 1;
                }
                let seconds = now / 1000 + 1;
                prop_assert!(retries <= requests / 5 + seconds * 10, "{retries} of {requests} in {seconds} s");
            }
        }
    }
}
