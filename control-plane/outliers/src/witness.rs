//! What a proxy remembers of one endpoint for others.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::{Failing, Statement};

/// Told of every call by any thread, without a lock; asked now and then. A statement that is taken while another thread
/// tells of a call may be of before or after it, and may mix the two: the next one does not.
#[derive(Debug)]
pub struct Witness {
    /// Nanoseconds of the clock; `NEVER` for none.
    success: AtomicU64,
    failures: AtomicU32,
    since: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Default for Witness {
    fn default() -> Self {
        Self { success: AtomicU64::new(NEVER), failures: AtomicU32::new(0), since: AtomicU64::new(0) }
    }
}

impl Witness {
    /// A call ended; `now` is the time of any clock that goes on.
    pub fn record(&self, ok: bool, now: Duration) {
        let now = nanos(now);
        if ok {
            self.success.store(now, Ordering::Relaxed);
            // A write to what all threads read costs more than a look.
            if self.failures.load(Ordering::Relaxed) != 0 {
                self.failures.store(0, Ordering::Relaxed);
            }
        } else if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since.store(now, Ordering::Relaxed);
        }
    }

    /// Whether there is something that others should hear unasked.
    pub fn is_failing(&self) -> bool {
        self.failures.load(Ordering::Relaxed) != 0
    }

    /// `ejected`: the proxy's own breaker holds the endpoint back, since so long.
    pub fn statement(&self, ejected: Option<Duration>, now: Duration) -> Statement {
        let now = nanos(now);
        let ago = |then: u64| Duration::from_nanos(now.saturating_sub(then));
        let success = Some(self.success.load(Ordering::Relaxed)).filter(|at| *at != NEVER).map(ago);
        let failures = self.failures.load(Ordering::Relaxed);
        let run = (failures != 0).then(|| ago(self.since.load(Ordering::Relaxed)));
        let age = run.into_iter().chain(ejected).max();
        let failing = age.map(|age| Failing { failures, age, ejected: ejected.is_some() });
        Statement { success, failing }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn failures_count_from_the_last_success() {
        let witness = Witness::default();
        assert_eq!(witness.statement(None, at(1)), Statement::default());
        witness.record(true, at(10));
        witness.record(false, at(20));
        witness.record(false, at(30));
        let said = witness.statement(None, at(50));
        assert_eq!(said.success, Some(at(40)));
        assert_eq!(said.failing, Some(Failing { failures: 2, age: at(30), ejected: false }));
        witness.record(true, at(60));
        assert_eq!(witness.statement(None, at(60)), Statement { success: Some(at(0)), failing: None });
    }

    #[test]
    fn what_is_ejected_fails_whatever_its_last_call_said() {
        let witness = Witness::default();
        witness.record(true, at(10));
        let said = witness.statement(Some(at(5)), at(20)).failing;
        assert_eq!(said, Some(Failing { failures: 0, age: at(5), ejected: true }));
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_old() {
        let witness = Witness::default();
        witness.record(false, at(100));
        assert_eq!(witness.statement(None, at(50)).failing.map(|failing| failing.age), Some(at(0)));
    }
}
