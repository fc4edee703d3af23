//! What stands before every question, whoever it is for: a bound on those that are open, the breaker, the timeout, and the
//! counters of what became of them.

use std::time::Duration;

use tidegate_policy::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::NoAnswer;
use super::breaker::Breaker;
use super::counts::{Counted, Counts};

/// Questions that are open at one time.
const MOST_OPEN: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Gate {
    breaker: Breaker,
    places: Semaphore,
    counts: Counts,
    start: Instant,
}

/// What became of a question.
#[derive(Debug)]
pub(super) struct Asked<T> {
    pub(super) result: Result<T, NoAnswer>,
    /// For this, nobody is asked from now on.
    pub(super) given_up: bool,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            breaker: Breaker::default(),
            places: Semaphore::new(MOST_OPEN),
            counts: Counts::default(),
            start: Instant::now(),
        }
    }

    pub(super) fn counted(&self) -> Counted {
        self.counts.now()
    }

    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Waits for the answer to `question`, no longer than `timeout`; or does not ask at all.
    pub(super) async fn ask<T>(
        &self,
        timeout: Duration,
        question: impl Future<Output = Result<T, NoAnswer>>,
    ) -> Asked<T> {
        let asked = self.pass(timeout, question).await;
        self.counts.told(&asked.result);
        asked
    }

    async fn pass<T>(
        &self,
        timeout: Duration,
        question: impl Future<Output = Result<T, NoAnswer>>,
    ) -> Asked<T> {
        let turned_away = |why| Asked { result: Err(why), given_up: false };
        let Ok(_place) = self.places.try_acquire() else { return turned_away(NoAnswer::Busy) };
        let Some(permit) = self.breaker.admit(self.now()) else { return turned_away(NoAnswer::Open) };
        self.counts.asked();
        let answer = tokio::time::timeout(timeout, question).await;
        let result = answer.unwrap_or(Err(NoAnswer::TimedOut));
        let given_up = match &result {
            Ok(_) => {
                permit.succeeded();
                false
            }
            Err(_) => permit.failed(self.now()),
        };
        Asked { result, given_up }
    }

    fn now(&self) -> Timestamp {
        self.start.elapsed().into()
    }
}
