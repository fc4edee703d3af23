//! What became of the questions, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::NoAnswer;

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Counts {
    asked: AtomicU64,
    answered: AtomicU64,
    timed_out: AtomicU64,
    failed: AtomicU64,
    fell_back: AtomicU64,
}

/// [`Counts`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Questions that were sent, or that tried to.
    pub asked: u64,
    pub answered: u64,
    pub timed_out: u64,
    pub failed: u64,
    /// Requests that were judged without an answer, asked or not.
    pub fell_back: u64,
}

impl Counts {
    pub fn now(&self) -> Counted {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counted {
            asked: get(&self.asked),
            answered: get(&self.answered),
            timed_out: get(&self.timed_out),
            failed: get(&self.failed),
            fell_back: get(&self.fell_back),
        }
    }

    pub(super) fn asked(&self) {
        add(&self.asked);
    }

    pub(super) fn told<T>(&self, result: &Result<T, NoAnswer>) {
        match result {
            Ok(_) => return add(&self.answered),
            Err(NoAnswer::TimedOut) => add(&self.timed_out),
            Err(NoAnswer::Failed | NoAnswer::Unreachable) => add(&self.failed),
            Err(NoAnswer::Open | NoAnswer::Busy) => {}
        }
        add(&self.fell_back);
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}
