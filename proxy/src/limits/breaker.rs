//! Stops asking who does not answer, and asks again now and then. Sans-I/O: time comes in.
//!
//! After some failures in a row nobody is asked for a while; then one question goes through, and its answer decides.
//! Each failed probe doubles the wait, up to a bound, so that a store that is away costs next to nothing.

use std::time::Duration;

use parking_lot::Mutex;
use tidegate_policy::Timestamp;

/// Failures in a row until nobody is asked any more.
pub const MOST_FAILURES: u32 = 5;
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Set while nobody is asked.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: Timestamp,
    pause: Duration,
    /// The one question is on its way.
    probing: bool,
}

/// The right to ask one question. One that is dropped without a word, because its request went away, says nothing of
/// the other side.
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Breaker {
    /// `None`: do not ask.
    pub fn admit(&self, now: Timestamp) -> Option<Permit<'_>> {
        let mut state = self.0.lock();
        let probe = match &mut state.open {
            None => false,
            Some(open) if open.probing || now < open.until => return None,
            Some(open) => {
                open.probing = true;
                true
            }
        };
        Some(Permit { breaker: self, probe, told: false })
    }

    pub fn is_open(&self) -> bool {
        self.0.lock().open.is_some()
    }
}

impl Permit<'_> {
    pub fn succeeded(mut self) {
        self.told = true;
        let mut state = self.breaker.0.lock();
        // An answer to an older question says nothing of whoever is being probed now.
        if state.open.is_none() || self.probe {
            *state = State::default();
        }
    }

    /// Whether nobody is to be asked from now on.
    pub fn failed(mut self, now: Timestamp) -> bool {
        self.told = true;
        let mut state = self.breaker.0.lock();
        state.failures = state.failures.saturating_add(1);
        let pause = match state.open {
            Some(open) if self.probe => (open.pause * 2).min(LONGEST_PAUSE),
            None if state.failures >= MOST_FAILURES => FIRST_PAUSE,
            Some(_) => return true,
            None => return false,
        };
        state.open = Some(Open { until: now + pause, pause, probing: false });
        true
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.told || !self.probe {
            return;
        }
        if let Some(open) = &mut self.breaker.0.lock().open {
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        (0..MOST_FAILURES).for_each(|_| {
            breaker.admit(at(0)).unwrap().failed(at(0));
        });
        breaker
    }

    #[test]
    fn failures_in_a_row_stop_the_questions_and_an_answer_between_starts_the_count_anew() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            (1..MOST_FAILURES).for_each(|_| assert!(!breaker.admit(at(0)).unwrap().failed(at(0))));
            breaker.admit(at(0)).unwrap().succeeded();
        }
        (1..MOST_FAILURES).for_each(|_| assert!(!breaker.admit(at(0)).unwrap().failed(at(0))));
        assert!(breaker.admit(at(0)).unwrap().failed(at(0)));
        assert!(breaker.admit(at(99)).is_none());
    }

    #[test]
    fn after_the_pause_one_question_goes_through_and_its_answer_opens_the_way() {
        let breaker = opened();
        let probe = breaker.admit(at(100)).unwrap();
        assert!(breaker.admit(at(5000)).is_none(), "one is on its way");
        probe.succeeded();
        assert!(!breaker.is_open());
        assert!(breaker.admit(at(100)).is_some() && breaker.admit(at(100)).is_some());
    }

    #[test]
    fn a_probe_that_fails_doubles_the_pause_up_to_a_bound() {
        let breaker = opened();
        let mut now = 100;
        for pause in [200, 400, 800, 1600, 3200, 5000, 5000] {
            assert!(breaker.admit(at(now)).unwrap().failed(at(now)));
            assert!(breaker.admit(at(now + pause - 1)).is_none(), "{pause}");
            now += pause;
        }
        assert!(breaker.admit(at(now)).is_some());
    }

    #[test]
    fn a_probe_whose_request_went_away_leaves_its_place_to_the_next() {
        let breaker = opened();
        drop(breaker.admit(at(100)).unwrap());
        assert!(breaker.admit(at(100)).is_some());
    }

    #[test]
    fn a_late_answer_from_before_does_not_close_it() {
        let breaker = Breaker::default();
        let early = breaker.admit(at(0)).unwrap();
        (0..MOST_FAILURES).for_each(|_| {
            breaker.admit(at(0)).unwrap().failed(at(0));
        });
        early.succeeded();
        assert!(breaker.admit(at(1)).is_none());
    }

    proptest! {
        #[test]
        fn somebody_who_never_answers_is_asked_ever_less_often(steps in prop::collection::vec(1_u64..50, 1..500)) {
            let (breaker, mut now, mut asked) = (Breaker::default(), 0, 0_u64);
            for step in steps {
                now += step;
                if let Some(permit) = breaker.admit(at(now)) {
                    permit.failed(at(now));
                    asked += 1;
                }
            }
            // Pauses double: 100 ms, 200 ms, … and after the first few questions one more per pause.
            let doublings = u64::from((now / 100 + 1).ilog2());
            let probes = doublings + 1 + now / 5000;
            prop_assert!(asked <= u64::from(MOST_FAILURES) + probes);
        }
    }
}
