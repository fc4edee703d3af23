//! What a breaker remembers, and how reports change it. Always behind the breaker's lock.

use std::time::Duration;

use super::{BreakerParams, BreakerPhase, Evidence, SlowCalls, TransitionCounts};
use crate::health::peers::Recent;
use crate::health::window::{Counts, Span, Window};
use crate::time::Timestamp;

/// The end of one call, as one breaker judges it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `None`: its end says nothing about the callee, only its length may.
    pub ok: Option<bool>,
    /// Until the response head, or until there was certain to be none.
    pub latency: Duration,
    /// The response asked to be left alone for so long.
    pub told: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) phase: BreakerPhase,
    pub(super) epoch: u64,
    pub(super) since: Timestamp,
    pub(super) last_report: Timestamp,
    pub(super) failures: Window,
    slow: Option<Window>,
    pub(super) recent: Option<Recent>,
    consecutive: u32,
    pub(super) tripped_by: Option<Evidence>,
    pub(super) tripped_with: Counts,
    /// Why it would have tripped, had it been allowed to.
    pub(super) spared: Option<Evidence>,
    /// Half-open: probes in flight or succeeded, and how many of them succeeded.
    pub(super) probes: u32,
    pub(super) succeeded: u32,
    pub(super) failed_probes: u32,
    /// Trips without a healthy time between them.
    pub(super) row: u32,
    /// How long it was open the last time.
    pub(super) pause: Duration,
    /// When the last probe succeeded.
    pub(super) recovered: Timestamp,
    pub(super) transitions: TransitionCounts,
}

/// The window that status shows for breakers that count consecutive failures only.
const STATUS_WINDOW: Span = Span::Time(Duration::from_secs(10));

impl Report {
    pub fn of(ok: bool) -> Self {
        Self { ok: Some(ok), ..Self::default() }
    }
}

impl Inner {
    pub(super) fn new(params: &BreakerParams) -> Self {
        Self {
            phase: BreakerPhase::Closed,
            epoch: 0,
            since: Timestamp::ZERO,
            last_report: Timestamp::ZERO,
            failures: Window::new(params.failure_rate.map_or(STATUS_WINDOW, |rate| rate.window)),
            slow: params.slow_calls.map(|slow| Window::new(slow.rate.window)),
            recent: params.compared_over().map(Recent::new),
            consecutive: 0,
            tripped_by: None,
            tripped_with: Counts::default(),
            spared: None,
            probes: 0,
            succeeded: 0,
            failed_probes: 0,
            row: 0,
            pause: Duration::ZERO,
            recovered: Timestamp::ZERO,
            transitions: TransitionCounts::default(),
        }
    }

    /// Counts a call, and says why to trip if there is a reason.
    pub(super) fn count(
        &mut self,
        params: &BreakerParams,
        report: Report,
        now: Timestamp,
    ) -> Option<Evidence> {
        self.last_report = self.last_report.max(now);
        let slow = self.count_slow(params, report, now);
        let Some(ok) = report.ok else { return slow };
        if let Some(recent) = &mut self.recent {
            recent.record(ok, report.latency, now);
        }
        let counts = self.failures.record(ok, now);
        self.consecutive = if ok { 0 } else { self.consecutive.saturating_add(1) };
        let rate = params.failure_rate.filter(|rate| rate.is_reached(counts));
        let by_rate = rate.map(|rate| Evidence::FailureRate { counts, window: rate.window });
        let in_a_row = params.consecutive_failures.filter(|limit| self.consecutive >= *limit);
        let in_a_row = in_a_row.map(|_| Evidence::Consecutive { failures: self.consecutive });
        in_a_row.or(by_rate).or(slow).or(report.told.map(Evidence::RetryAfter))
    }

    /// A call that says nothing but by its length counts only if it was long.
    fn count_slow(&mut self, params: &BreakerParams, report: Report, now: Timestamp) -> Option<Evidence> {
        let (SlowCalls { rate, slower_than }, window) = (params.slow_calls?, self.slow.as_mut()?);
        let is_slow = report.latency > slower_than;
        if report.ok.is_none() && !is_slow {
            return None;
        }
        let counts = window.record(!is_slow, now);
        rate.is_reached(counts).then_some(Evidence::SlowCalls { counts, window: rate.window, slower_than })
    }

    /// Whether a probe shows that the callee is well. It is not if it still does what it was left alone for.
    pub(super) fn is_well(&self, params: &BreakerParams, ok: bool, latency: Duration) -> bool {
        let slow = params.slow_calls.is_some_and(|slow| latency > slow.slower_than);
        let behind = match self.tripped_by {
            Some(Evidence::Latency { peers, factor, .. }) => latency > peers.mul_f64(factor),
            _ => false,
        };
        ok && !slow && !behind
    }

    pub(super) fn forget_calls(&mut self) {
        self.failures.clear();
        if let Some(slow) = &mut self.slow {
            slow.clear();
        }
        if let Some(recent) = &mut self.recent {
            recent.clear();
        }
        self.consecutive = 0;
        self.spared = None;
    }
}
