//! One check of one endpoint as a state machine: findings and the time go in; a verdict, and when to ask again, come out.
//!
//! A verdict turns after as many findings in a row as written, none between them that says otherwise. A check that was
//! begun and never reported is due again after its timeout and a wait, so nothing that is lost can end the checks. No
//! check is ever planned further away than the longest wait: what was planned by a clock that has jumped back since, or
//! under an interval that has been shortened, is planned anew.

use std::time::Duration;

use super::{Cause, CheckTiming, Finding, Initial};
use crate::time::Timestamp;

/// The first check of an endpoint that serves nobody before it comes at most this late.
const LATEST_FIRST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Machine {
    healthy: bool,
    /// Whether anything has been found yet.
    judged: bool,
    /// Findings in a row that speak against the verdict.
    against: u32,
    since: Option<Timestamp>,
    failed: Option<(Cause, Timestamp)>,
    begun: Option<Timestamp>,
    due: Option<Timestamp>,
}

/// A verdict turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub healthy: bool,
    /// What the endpoint failed with, now or before it recovered.
    pub cause: Option<Cause>,
}

/// What is known of one endpoint by one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckView {
    pub healthy: bool,
    /// Whether it has been checked at all.
    pub judged: bool,
    /// When the verdict last turned; `None` while it is the initial one.
    pub since: Option<Timestamp>,
    pub failed: Option<(Cause, Timestamp)>,
    /// `None` as long as nobody has planned one.
    pub due: Option<Timestamp>,
}

impl Machine {
    pub(super) fn new(initial: Initial) -> Self {
        Self {
            healthy: initial == Initial::Healthy,
            judged: false,
            against: 0,
            since: None,
            failed: None,
            begun: None,
            due: None,
        }
    }

    pub(super) fn view(&self) -> CheckView {
        let Self { healthy, judged, since, failed, due, .. } = *self;
        CheckView { healthy, judged, since, failed, due }
    }

    /// When the next check is due, in the past if it is overdue.
    pub(super) fn due(&mut self, timing: &CheckTiming, now: Timestamp, rng: &mut fastrand::Rng) -> Timestamp {
        let latest = now + timing.longest();
        let due = self.due.map_or_else(|| now + self.first(timing, rng), |due| due.min(latest));
        self.due = Some(due);
        due
    }

    /// Begins a check if one is due.
    pub(super) fn begin(&mut self, timing: &CheckTiming, now: Timestamp, rng: &mut fastrand::Rng) -> bool {
        if self.due(timing, now, rng) > now {
            return false;
        }
        self.begun = Some(now);
        self.due = Some(now + (timing.timeout + timing.wait(self.healthy, rng)));
        true
    }

    pub(super) fn report(
        &mut self,
        timing: &CheckTiming,
        finding: Finding,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) -> Option<Turn> {
        if let Some(cause) = finding.cause() {
            self.failed = Some((cause, now));
        }
        let turned = self.judge(timing, finding);
        if turned {
            self.since = Some(now);
        }
        let begun = self.begun.take().unwrap_or(now);
        self.due = Some((begun + timing.wait(self.healthy, rng)).max(now));
        turned.then(|| Turn { healthy: self.healthy, cause: self.failed.map(|(cause, _)| cause) })
    }

    /// Takes one finding into account: whether the verdict turned.
    fn judge(&mut self, timing: &CheckTiming, finding: Finding) -> bool {
        let first = !std::mem::replace(&mut self.judged, true);
        let passed = finding == Finding::Passed;
        if passed == self.healthy {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let needed = match finding {
            // Nothing was known against it.
            Finding::Passed if first => 1,
            Finding::Passed => timing.healthy_threshold,
            Finding::Failed(_) => timing.unhealthy_threshold,
            Finding::Draining(_) => 1,
        };
        if self.against < needed {
            return false;
        }
        self.healthy = passed;
        self.against = 0;
        true
    }

    /// Spread, so that proxies that began together do not ask together.
    fn first(&self, timing: &CheckTiming, rng: &mut fastrand::Rng) -> Duration {
        let within = if self.healthy { timing.interval } else { timing.interval.min(LATEST_FIRST) };
        within.mul_f64(rng.f64())
    }
}

impl CheckTiming {
    /// From the beginning of a check to the next one.
    fn wait(&self, healthy: bool, rng: &mut fastrand::Rng) -> Duration {
        let interval = if healthy { self.interval } else { self.unhealthy_interval };
        let jitter = f64::from(self.jitter_percent) / 100.0;
        interval.mul_f64((1.0 + jitter * (2.0 * rng.f64() - 1.0)).max(0.0))
    }

    /// No check may be further away.
    pub(super) fn longest(&self) -> Duration {
        let interval = self.interval.max(self.unhealthy_interval);
        self.timeout + interval.mul_f64(1.0 + f64::from(self.jitter_percent) / 100.0)
    }
}

#[cfg(test)]
mod tests;
