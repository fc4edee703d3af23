//! One breaker: closed, open, half-open, ramping; `now` as argument, no clock and no backend in sight.
//!
//! Closed lets every call through and watches how they end; open refuses until its time is up; half-open lets a
//! fixed number of probes through and closes when all of them succeed. A probe that fails opens again; one that
//! is dropped without a report frees its slot, so no cancelled call can wedge the breaker. A probe that hangs keeps
//! its slot until its timeout ends it: letting others through meanwhile would be more probes than written.
//! (M. Nygard, "Release It!", 2007, for the pattern.)
//!
//! Ramping is closed for a share of the calls that grows from a tenth to all, so that what has just come back is not
//! buried at once; it trips as closed does.
//!
//! Trips in a row double the pause where that is written. They are in a row as long as it did not stay closed for as long
//! as it was open before.

mod evidence;
mod inner;
mod params;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::peers::Standing;
use super::window::Counts;
use crate::time::Timestamp;
pub use evidence::Evidence;
use inner::Inner;
pub use inner::Report;
pub use params::{Among, BreakerParams, PeerLatency, Rate, SlowCalls, SuccessRate};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerPhase {
    #[default]
    Closed,
    Open,
    HalfOpen,
    /// Closed again, for a growing share of the calls.
    Ramping,
}

#[derive(Debug)]
pub struct Breaker {
    params: BreakerParams,
    /// What its jitter is drawn from.
    seed: u64,
    /// Phase in the two low bits, epoch above: what a call needs to know while the breaker is closed, without a lock.
    gate: AtomicU64,
    /// Of what has an end: when it began and when it ends, in nanoseconds. For an open breaker that is when it starts to
    /// probe, for a ramping one when all calls are let through.
    began: AtomicU64,
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

/// What a report led to.
#[derive(Debug)]
pub enum Recorded {
    Quiet,
    Changed(PhaseChange),
    /// It is to open, if nothing speaks against it.
    Due(Trip),
}

/// A breaker that has a reason to open.
#[derive(Debug)]
pub struct Trip {
    breaker: Arc<Breaker>,
    epoch: u64,
    evidence: Evidence,
    told: Option<Duration>,
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
    pub ramped: u64,
}

/// What is known of a breaker, as of the last call that it judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerView {
    pub phase: BreakerPhase,
    pub since: Timestamp,
    /// Open: when probing starts. Ramping: when all calls are let through.
    pub until: Option<Timestamp>,
    /// While it lets calls through what the window holds; while open or half-open what tripped it.
    pub counts: Counts,
    /// What it tripped on, as long as it is not closed.
    pub evidence: Option<Evidence>,
    /// Why it would be open, if it were allowed to.
    pub spared: Option<Evidence>,
    /// Probes that failed since it tripped.
    pub failed_probes: u32,
    pub transitions: TransitionCounts,
}

/// Where a ramp begins.
const FIRST_SHARE: f64 = 0.1;

impl BreakerPhase {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
        }
    }

    /// Whether calls are kept away, but for probes.
    pub const fn holds_back(self) -> bool {
        matches!(self, Self::Open | Self::HalfOpen)
    }
}

impl Breaker {
    pub fn new(params: BreakerParams, seed: u64) -> Self {
        Self {
            params,
            seed,
            gate: AtomicU64::new(pack(BreakerPhase::Closed, 0)),
            began: AtomicU64::new(0),
            until: AtomicU64::new(0),
            inner: Mutex::new(Inner::new(&params)),
        }
    }

    pub fn phase(&self) -> BreakerPhase {
        unpack(self.gate.load(Ordering::Acquire)).0
    }

    /// Asks to make one call now. While closed this takes no lock. Whether a ramp has room for it, is asked before.
    pub fn admit(self: &Arc<Self>, now: Timestamp) -> Admission {
        let (phase, epoch) = unpack(self.gate.load(Ordering::Acquire));
        match phase {
            BreakerPhase::Closed => Admission::Admitted(self.permit(epoch, false)),
            BreakerPhase::Ramping if self.runs(now) => Admission::Admitted(self.permit(epoch, false)),
            BreakerPhase::Open if self.runs(now) => self.refusal(phase, now),
            _ => self.admit_slowly(now),
        }
    }

    /// Whether [`Breaker::admit`] would let a call through; takes nothing.
    pub fn would_admit(&self, now: Timestamp) -> bool {
        match self.phase() {
            BreakerPhase::Closed | BreakerPhase::Ramping => true,
            BreakerPhase::Open => {
                if now.as_nanos() < self.began.load(Ordering::Acquire) {
                    self.begin_again(&mut self.inner.lock(), now);
                }
                !self.runs(now)
            }
            BreakerPhase::HalfOpen => {
                let inner = self.inner.lock();
                inner.phase != BreakerPhase::HalfOpen || inner.probes < self.params.probes
            }
        }
    }

    /// Whether a call is among those that a ramp lets through: by chance, so that of many it is the right share.
    pub fn ramp_admits(&self, now: Timestamp, rng: &mut fastrand::Rng) -> bool {
        self.phase() != BreakerPhase::Ramping || rng.f64() < self.share(now)
    }

    /// How long until an open breaker starts to probe; zero for any other.
    pub fn retry_in(&self, now: Timestamp) -> Duration {
        if self.phase() == BreakerPhase::Open { self.left(now) } else { Duration::ZERO }
    }

    pub fn view(&self) -> BreakerView {
        let inner = self.inner.lock();
        let has_end = matches!(inner.phase, BreakerPhase::Open | BreakerPhase::Ramping);
        let at_work = !inner.phase.holds_back();
        BreakerView {
            phase: inner.phase,
            since: inner.since,
            until: has_end.then(|| Timestamp::from_nanos(self.until.load(Ordering::Acquire))),
            counts: if at_work { inner.failures.counts(inner.last_report) } else { inner.tripped_with },
            evidence: inner.tripped_by,
            spared: inner.spared,
            failed_probes: inner.failed_probes,
            transitions: inner.transitions,
        }
    }

    /// How this endpoint does, for a comparison with others; `None` while it is held back.
    pub(super) fn standing(&self, now: Timestamp) -> Option<Standing> {
        let inner = self.inner.lock();
        let recent = inner.recent.as_ref().filter(|_| !inner.phase.holds_back());
        recent.map(|recent| recent.standing(now))
    }

    /// To open for this reason. `None` where calls are kept away already.
    pub(super) fn trip(self: &Arc<Self>, evidence: Evidence) -> Option<Trip> {
        let inner = self.inner.lock();
        let at_work = !inner.phase.holds_back();
        at_work.then(|| Trip { breaker: Arc::clone(self), epoch: inner.epoch, evidence, told: None })
    }

    /// Lets calls through again, whatever they were kept away for.
    pub(super) fn pardon(&self, now: Timestamp) -> Option<PhaseChange> {
        let mut inner = self.inner.lock();
        inner.phase.holds_back().then(|| self.enter(&mut inner, BreakerPhase::Closed, now))
    }

    /// What has an end is over, or the clock has been set back.
    fn admit_slowly(self: &Arc<Self>, now: Timestamp) -> Admission {
        let mut inner = self.inner.lock();
        if now.as_nanos() < self.began.load(Ordering::Acquire) {
            self.begin_again(&mut inner, now);
        }
        match inner.phase {
            BreakerPhase::Closed => return Admission::Admitted(self.permit(inner.epoch, false)),
            BreakerPhase::Ramping => {
                if !self.runs(now) {
                    self.settle(&mut inner, now);
                }
                return Admission::Admitted(self.permit(inner.epoch, false));
            }
            BreakerPhase::Open if self.runs(now) => return self.refusal(BreakerPhase::Open, now),
            BreakerPhase::Open => _ = self.enter(&mut inner, BreakerPhase::HalfOpen, now),
            BreakerPhase::HalfOpen => {}
        }
        if inner.probes >= self.params.probes {
            return self.refusal(BreakerPhase::HalfOpen, now);
        }
        inner.probes += 1;
        Admission::Admitted(self.permit(inner.epoch, true))
    }

    fn record(self: &Arc<Self>, permit: &Permit, report: Report, now: Timestamp) -> Recorded {
        let mut inner = self.inner.lock();
        if inner.epoch != permit.epoch {
            return Recorded::Quiet;
        }
        match (inner.phase, report.ok) {
            (BreakerPhase::Closed | BreakerPhase::Ramping, _) => {
                let Some(evidence) = inner.count(&self.params, report, now) else {
                    // Who left before the end has shown nothing better.
                    inner.spared = inner.spared.filter(|_| report.ok.is_none());
                    return Recorded::Quiet;
                };
                Recorded::Due(Trip {
                    breaker: Arc::clone(self),
                    epoch: inner.epoch,
                    evidence,
                    told: report.told,
                })
            }
            (BreakerPhase::HalfOpen, Some(ok)) => {
                if report.told.is_none() && inner.is_well(&self.params, ok, report.latency) {
                    return self.probe_succeeded(&mut inner, now);
                }
                let failed = !inner.is_well(&self.params, ok, report.latency);
                inner.failed_probes = inner.failed_probes.saturating_add(1);
                inner.pause = self.pause(&mut inner, (failed, report.told), now);
                Recorded::Changed(self.enter(&mut inner, BreakerPhase::Open, now))
            }
            // A probe that tells nothing is as one that was dropped; and no permit carries the epoch of an open breaker.
            (BreakerPhase::HalfOpen, None) => {
                inner.probes = inner.probes.saturating_sub(1);
                Recorded::Quiet
            }
            (BreakerPhase::Open, _) => Recorded::Quiet,
        }
    }

    fn probe_succeeded(&self, inner: &mut Inner, now: Timestamp) -> Recorded {
        inner.succeeded += 1;
        if inner.succeeded < self.params.probes {
            return Recorded::Quiet;
        }
        inner.recovered = now;
        let to = if self.params.ramp.is_zero() { BreakerPhase::Closed } else { BreakerPhase::Ramping };
        Recorded::Changed(self.enter(inner, to, now))
    }

    fn forget_probe(&self, epoch: u64) {
        let mut inner = self.inner.lock();
        if inner.epoch == epoch && inner.phase == BreakerPhase::HalfOpen {
            inner.probes = inner.probes.saturating_sub(1);
        }
    }

    /// How long to stay open, counting this trip. What a response only asked for is no trip in a row.
    fn pause(&self, inner: &mut Inner, (failed, told): (bool, Option<Duration>), now: Timestamp) -> Duration {
        let told = told.unwrap_or_default();
        if !failed {
            return told;
        }
        let healthy = inner.phase == BreakerPhase::Closed && now.since(inner.recovered) >= inner.pause;
        if healthy {
            inner.row = 0;
        }
        let chance = fraction(self.seed ^ inner.transitions.opened);
        let pause = self.params.pause(inner.row, chance);
        inner.row = inner.row.saturating_add(1);
        pause.max(told)
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
                inner.forget_calls();
                inner.tripped_by = None;
                inner.transitions.closed += 1;
            }
            BreakerPhase::Ramping => {
                inner.forget_calls();
                self.runs_from(now, self.params.ramp);
                inner.transitions.ramped += 1;
            }
            BreakerPhase::Open => {
                self.runs_from(now, inner.pause);
                inner.transitions.opened += 1;
            }
            BreakerPhase::HalfOpen => inner.transitions.half_opened += 1,
        }
        self.gate.store(pack(to, inner.epoch), Ordering::Release);
        PhaseChange { from, to }
    }

    /// The end of a ramp: what was counted on it still counts.
    fn settle(&self, inner: &mut Inner, now: Timestamp) {
        inner.phase = BreakerPhase::Closed;
        inner.since = now;
        inner.tripped_by = None;
        inner.transitions.closed += 1;
        self.gate.store(pack(BreakerPhase::Closed, inner.epoch), Ordering::Release);
    }

    fn runs_from(&self, now: Timestamp, length: Duration) {
        self.until.store((now + length).as_nanos(), Ordering::Release);
        self.began.store(now.as_nanos(), Ordering::Release);
    }

    /// The clock was set back to before the phase began: it begins now, for as long as it was to last, so that nobody
    /// waits for a time that is far away.
    fn begin_again(&self, inner: &mut Inner, now: Timestamp) {
        let (began, until) = (self.began.load(Ordering::Acquire), self.until.load(Ordering::Acquire));
        inner.since = inner.since.min(now);
        inner.recovered = inner.recovered.min(now);
        self.runs_from(now, Duration::from_nanos(until.saturating_sub(began)));
    }

    /// Whether what has an end has begun and is not over.
    fn runs(&self, now: Timestamp) -> bool {
        let now = now.as_nanos();
        now >= self.began.load(Ordering::Acquire) && now < self.until.load(Ordering::Acquire)
    }

    fn share(&self, now: Timestamp) -> f64 {
        let ramp = self.params.ramp.as_secs_f64();
        let began = Timestamp::from_nanos(self.began.load(Ordering::Acquire));
        let passed = now.since(began).as_secs_f64() / ramp.max(f64::MIN_POSITIVE);
        FIRST_SHARE + (1.0 - FIRST_SHARE) * passed.min(1.0)
    }

    fn left(&self, now: Timestamp) -> Duration {
        Timestamp::from_nanos(self.until.load(Ordering::Acquire)).since(now)
    }

    fn permit(self: &Arc<Self>, epoch: u64, probe: bool) -> Permit {
        Permit { breaker: Arc::clone(self), epoch, probe }
    }

    fn refusal(&self, phase: BreakerPhase, now: Timestamp) -> Admission {
        Admission::Refused { phase, retry_in: self.left(now) }
    }
}

impl Permit {
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Reports how the call ended.
    pub fn record(mut self, report: Report, now: Timestamp) -> Recorded {
        let recorded = self.breaker.record(&self, report, now);
        self.probe = false;
        recorded
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.forget_probe(self.epoch);
        }
    }
}

impl Trip {
    /// Opens the breaker, unless another call was first.
    pub fn open(self, now: Timestamp) -> Option<PhaseChange> {
        let Self { breaker, epoch, evidence, told } = self;
        let mut inner = breaker.inner.lock();
        if inner.epoch != epoch || inner.phase.holds_back() {
            return None;
        }
        inner.tripped_with = inner.failures.counts(now);
        inner.tripped_by = Some(evidence);
        inner.spared = None;
        inner.failed_probes = 0;
        let failed = !matches!(evidence, Evidence::RetryAfter(_));
        inner.pause = breaker.pause(&mut inner, (failed, told), now);
        Some(breaker.enter(&mut inner, BreakerPhase::Open, now))
    }

    /// Leaves it closed, and remembers why it should not be.
    pub fn spare(self) {
        let mut inner = self.breaker.inner.lock();
        if inner.epoch == self.epoch {
            inner.spared = Some(self.evidence);
        }
    }
}

/// From 0 to 1, by a hash (splitmix64: G. Steele, D. Lea, C. Flood, 2014).
fn fraction(seed: u64) -> f64 {
    let mut word = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(((word ^ word >> 31) >> 32) as u32) / f64::from(u32::MAX)
}

fn pack(phase: BreakerPhase, epoch: u64) -> u64 {
    let bits = match phase {
        BreakerPhase::Closed => 0,
        BreakerPhase::Open => 1,
        BreakerPhase::HalfOpen => 2,
        BreakerPhase::Ramping => 3,
    };
    epoch << 2 | bits
}

fn unpack(gate: u64) -> (BreakerPhase, u64) {
    let phase = match gate & 3 {
        0 => BreakerPhase::Closed,
        1 => BreakerPhase::Open,
        2 => BreakerPhase::HalfOpen,
        _ => BreakerPhase::Ramping,
    };
    (phase, gate >> 2)
}

#[cfg(test)]
mod tests;
