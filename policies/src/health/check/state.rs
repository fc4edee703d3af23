//! A check's state as threads share it: calls look at the verdict, and the shell at the time, without a lock.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::machine::Machine;
use super::{Cause, CheckTiming, CheckView, Finding, Initial, Turn};
use crate::time::Timestamp;

/// Nobody has planned a check yet.
const UNPLANNED: u64 = u64::MAX;
/// How exactly is known when a backend was called last: a call writes no more often than this.
const GRAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct CheckState {
    healthy: AtomicBool,
    judged: AtomicBool,
    due: AtomicU64,
    machine: Mutex<Machine>,
}

/// When a backend was called last, and whether its checks are made.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// In nanoseconds, plus one; 0 for never.
    last: AtomicU64,
    awake: AtomicBool,
}

/// How checks of one backend have ended, since the first of them.
#[derive(Debug, Default)]
pub(super) struct CheckCounts {
    passed: AtomicU64,
    failed: [AtomicU64; Cause::WORDS.len()],
}

impl CheckState {
    pub(super) fn new(initial: Initial) -> Self {
        Self {
            healthy: AtomicBool::new(initial == Initial::Healthy),
            judged: AtomicBool::new(false),
            due: AtomicU64::new(UNPLANNED),
            machine: Mutex::new(Machine::new(initial)),
        }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    pub(super) fn is_judged(&self) -> bool {
        self.judged.load(Ordering::Acquire)
    }

    pub(super) fn view(&self) -> CheckView {
        self.machine.lock().view()
    }

    /// When the next check is due. Takes a lock only where it has to be planned anew.
    pub(super) fn due(&self, timing: &CheckTiming, now: Timestamp, rng: &mut fastrand::Rng) -> Timestamp {
        let due = self.due.load(Ordering::Acquire);
        if due <= (now + timing.longest()).as_nanos() {
            return Timestamp::from_nanos(due);
        }
        self.with(|machine| machine.due(timing, now, rng)).0
    }

    pub(super) fn begin(&self, timing: &CheckTiming, now: Timestamp, rng: &mut fastrand::Rng) -> bool {
        self.with(|machine| machine.begin(timing, now, rng)).0
    }

    /// Also whether it is judged otherwise than before.
    pub(super) fn report(
        &self,
        timing: &CheckTiming,
        finding: Finding,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> (Option<Turn>, bool) {
        self.with(|machine| machine.report(timing, finding, now, rng))
    }

    /// What is not checked any more is not known. Whether anything was.
    pub(super) fn forget(&self, initial: Initial) -> bool {
        self.with(|machine| *machine = Machine::new(initial)).1
    }

    /// Also whether it is judged otherwise than before.
    fn with<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> (T, bool) {
        let mut machine = self.machine.lock();
        let done = change(&mut machine);
        let CheckView { healthy, judged, due, .. } = machine.view();
        let was = (self.judged.swap(judged, Ordering::AcqRel), self.healthy.swap(healthy, Ordering::AcqRel));
        self.due.store(due.map_or(UNPLANNED, Timestamp::as_nanos), Ordering::Release);
        (done, was != (judged, healthy))
    }
}

impl Usage {
    /// A call was made, or asked for.
    pub(super) fn note(&self, now: Timestamp) {
        let stamp = now.as_nanos().saturating_add(1);
        let last = self.last.load(Ordering::Relaxed);
        let grain = Timestamp::from(GRAIN).as_nanos();
        if last == 0 || stamp.abs_diff(last) >= grain {
            self.last.store(stamp, Ordering::Relaxed);
        }
    }

    /// Whether there was a call within `idle_after`.
    pub(super) fn is_recent(&self, idle_after: Duration, now: Timestamp) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        last > 0 && now.since(Timestamp::from_nanos(last - 1)) < idle_after
    }

    /// Whether the checks fall asleep with this.
    pub(super) fn falls_asleep(&self, awake: bool) -> bool {
        self.awake.swap(awake, Ordering::Relaxed) && !awake
    }
}

impl CheckCounts {
    pub(super) fn count(&self, finding: Finding) {
        let counter = finding.cause().map_or(&self.passed, |cause| &self.failed[cause.number()]);
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// By word, those that have happened.
    pub(super) fn told(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let failed = Cause::WORDS.into_iter().zip(&self.failed);
        let all = std::iter::once(("passed", &self.passed)).chain(failed);
        all.map(|(word, count)| (word, count.load(Ordering::Relaxed))).filter(|(_, count)| *count > 0)
    }
}
