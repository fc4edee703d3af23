//! One breaker: closed, open, half-open; `now` as argument, no clock and no backend in sight.
//!
//! Closed lets every call through and watches how they end; open refuses until its time is up; half-open lets a
//! fixed number of probes through and closes when all of them succeed. A probe that fails opens again; one that
//! is dropped without a report frees its slot, so no cancelled call can wedge the breaker. A probe that hangs keeps
//! its slot until its timeout ends it: letting others through meanwhile would be more probes than written.
//! (M. Nygard, "Release It!", 2007, for the pattern.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::window::{Counts, Window};
use crate::time::Timestamp;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerPhase {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

/// When a breaker trips and how it recovers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BreakerParams {
    pub failure_rate: Option<FailureRate>,
    pub consecutive_failures: Option<u32>,
    /// How long it refuses before it probes.
    pub open: Duration,
    /// Calls let through when half-open; all must succeed to close.
    pub probes: u32,
}

/// Trips when at least `percent` of the calls within `window` failed and there were at least `minimum_calls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FailureRate {
    pub percent: u8,
    pub minimum_calls: u32,
    pub window: Duration,
}

#[derive(Debug)]
pub struct Breaker {
    params: BreakerParams,
    /// Phase in the two low bits, epoch above: what a call needs to know while the breaker is closed, without a lock.
    gate: AtomicU64,
    /// When an open breaker starts to probe, in nanoseconds.
    until: AtomicU64,
    inner: Mutex<Inner>,
}

/// Leave to make one call. Report its end with [`Permit::record`]; dropping it instead counts for nothing.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    /// A report from before the last change of phase says nothing about the present one.
    epoch: u64,
    probe: bool,
}

#[derive(Debug)]
pub enum Admission {
    Admitted(Permit),
    Refused {
        phase: BreakerPhase,
        /// How long until a call may be let through, as far as is known.
        retry_in: Duration,
    },
}

/// A change of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseChange {
    pub from: BreakerPhase,
    pub to: BreakerPhase,
}

/// How often a breaker entered each phase, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TransitionCounts {
    pub closed: u64,
    pub opened: u64,
    pub half_opened: u64,
}

/// What is known of a breaker, as of the last call that it judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    pub phase: BreakerPhase,
    pub since: Timestamp,
    /// Open: when probing starts.
    pub until: Option<Timestamp>,
    /// While closed what the window holds; while open or half-open what tripped it.
    pub counts: Counts,
    pub transitions: TransitionCounts,
}

#[derive(Debug)]
struct Inner {
    phase: BreakerPhase,
    epoch: u64,
    since: Timestamp,
    last_report: Timestamp,
    window: Window,
    tripped_by: Counts,
    consecutive: u32,
    /// Half-open: probes in flight or succeeded, and how many of them succeeded.
    probes: u32,
    succeeded: u32,
    transitions: TransitionCounts,
}

/// The window that status shows for breakers that count consecutive failures only.
const STATUS_WINDOW: Duration = Duration::from_secs(10);

impl BreakerPhase {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl Breaker {
    pub fn new(params: BreakerParams) -> Self {
        let window = Window::new(params.failure_rate.map_or(STATUS_WINDOW, |rate| rate.window));
        Self {
            params,
            gate: AtomicU64::new(pack(BreakerPhase::Closed, 0)),
            until: AtomicU64::new(0),
            inner: Mutex::new(Inner::new(window)),
        }
    }

    /// Asks to make one call now. While closed this takes no lock.
    pub fn admit(self: &Arc<Self>, now: Timestamp) -> Admission {
        let (phase, epoch) = unpack(self.gate.load(Ordering::Acquire));
        match phase {
            BreakerPhase::Closed => Admission::Admitted(self.permit(epoch, false)),
            BreakerPhase::Open if now < self.probes_from() => self.refusal(phase, now),
            _ => self.admit_probe(now),
        }
    }

    /// Whether [`Breaker::admit`] would let a call through; takes nothing.
    pub fn would_admit(&self, now: Timestamp) -> bool {
        match unpack(self.gate.load(Ordering::Acquire)).0 {
            BreakerPhase::Closed => true,
            BreakerPhase::Open => now >= self.probes_from(),
            BreakerPhase::HalfOpen => {
                let inner = self.inner.lock();
                inner.phase != BreakerPhase::HalfOpen || inner.probes < self.params.probes
            }
        }
    }

    /// How long until an open breaker starts to probe; zero for any other.
    pub fn retry_in(&self, now: Timestamp) -> Duration {
        match unpack(self.gate.load(Ordering::Acquire)).0 {
            BreakerPhase::Open => self.probes_from().since(now),
            _ => Duration::ZERO,
        }
    }

    pub fn view(&self) -> BreakerView {
        let inner = self.inner.lock();
        let closed = inner.phase == BreakerPhase::Closed;
        BreakerView {
            phase: inner.phase,
            since: inner.since,
            until: (inner.phase == BreakerPhase::Open).then(|| self.probes_from()),
            counts: if closed { inner.window.counts(inner.last_report) } else { inner.tripped_by },
            transitions: inner.transitions,
        }
    }

    fn admit_probe(self: &Arc<Self>, now: Timestamp) -> Admission {
        let mut inner = self.inner.lock();
        match inner.phase {
            BreakerPhase::Closed => return Admission::Admitted(self.permit(inner.epoch, false)),
            BreakerPhase::Open if now < self.probes_from() => return self.refusal(BreakerPhase::Open, now),
            BreakerPhase::Open => _ = self.enter(&mut inner, BreakerPhase::HalfOpen, now),
            BreakerPhase::HalfOpen => {}
        }
        if inner.probes >= self.params.probes {
            return self.refusal(BreakerPhase::HalfOpen, now);
        }
        inner.probes += 1;
        Admission::Admitted(self.permit(inner.epoch, true))
    }

    fn record(&self, permit: &Permit, ok: bool, now: Timestamp) -> Option<PhaseChange> {
        let mut inner = self.inner.lock();
        if inner.epoch != permit.epoch {
            return None;
        }
        match inner.phase {
            BreakerPhase::Closed => {
                inner.last_report = inner.last_report.max(now);
                let counts = inner.window.record(ok, now);
                inner.consecutive = if ok { 0 } else { inner.consecutive.saturating_add(1) };
                if !self.trips(counts, inner.consecutive) {
                    return None;
                }
                inner.tripped_by = counts;
                Some(self.enter(&mut inner, BreakerPhase::Open, now))
            }
            BreakerPhase::HalfOpen if !ok => Some(self.enter(&mut inner, BreakerPhase::Open, now)),
            BreakerPhase::HalfOpen => {
                inner.succeeded += 1;
                let recovered = inner.succeeded >= self.params.probes;
                recovered.then(|| self.enter(&mut inner, BreakerPhase::Closed, now))
            }
            // No permit carries the epoch of an open breaker.
            BreakerPhase::Open => None,
        }
    }

    fn forget_probe(&self, epoch: u64) {
        let mut inner = self.inner.lock();
        if inner.epoch == epoch && inner.phase == BreakerPhase::HalfOpen {
            inner.probes = inner.probes.saturating_sub(1);
        }
    }

    fn trips(&self, counts: Counts, consecutive: u32) -> bool {
        let by_rate = self.params.failure_rate.is_some_and(|rate| {
            counts.calls >= rate.minimum_calls
                && u64::from(counts.failures) * 100 >= u64::from(rate.percent) * u64::from(counts.calls)
        });
        by_rate || self.params.consecutive_failures.is_some_and(|limit| consecutive >= limit)
    }

    fn enter(&self, inner: &mut Inner, to: BreakerPhase, now: Timestamp) -> PhaseChange {
        let from = inner.phase;
        inner.phase = to;
        inner.epoch += 1;
        inner.since = now;
        inner.probes = 0;
        inner.succeeded = 0;
        match to {
            BreakerPhase::Closed => {
                inner.window.clear();
                inner.consecutive = 0;
                inner.transitions.closed += 1;
            }
            BreakerPhase::Open => {
                self.until.store((now + self.params.open).as_nanos(), Ordering::Release);
                inner.transitions.opened += 1;
            }
            BreakerPhase::HalfOpen => inner.transitions.half_opened += 1,
        }
        self.gate.store(pack(to, inner.epoch), Ordering::Release);
        PhaseChange { from, to }
    }

    fn permit(self: &Arc<Self>, epoch: u64, probe: bool) -> Permit {
        Permit { breaker: Arc::clone(self), epoch, probe }
    }

    fn refusal(&self, phase: BreakerPhase, now: Timestamp) -> Admission {
        Admission::Refused { phase, retry_in: self.probes_from().since(now) }
    }

    fn probes_from(&self) -> Timestamp {
        Timestamp::from_nanos(self.until.load(Ordering::Acquire))
    }
}

impl Permit {
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Reports how the call ended, and returns the change of phase that this made, if any.
    pub fn record(mut self, ok: bool, now: Timestamp) -> Option<PhaseChange> {
        let change = self.breaker.record(&self, ok, now);
        self.probe = false;
        change
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.forget_probe(self.epoch);
        }
    }
}

impl Inner {
    fn new(window: Window) -> Self {
        Self {
            phase: BreakerPhase::Closed,
            epoch: 0,
            since: Timestamp::ZERO,
            last_report: Timestamp::ZERO,
            window,
            tripped_by: Counts::default(),
            consecutive: 0,
            probes: 0,
            succeeded: 0,
            transitions: TransitionCounts::default(),
        }
    }
}

fn pack(phase: BreakerPhase, epoch: u64) -> u64 {
    let bits = match phase {
        BreakerPhase::Closed => 0,
        BreakerPhase::Open => 1,
        BreakerPhase::HalfOpen => 2,
    };
    epoch << 2 | bits
}

fn unpack(gate: u64) -> (BreakerPhase, u64) {
    let phase = match gate & 3 {
        0 => BreakerPhase::Closed,
        1 => BreakerPhase::Open,
        _ => BreakerPhase::HalfOpen,
    };
    (phase, gate >> 2)
}

#[cfg(test)]
mod tests;
