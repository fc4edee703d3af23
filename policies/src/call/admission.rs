//! The questions that one admission asks of a guard, each with its decision.

mod admitting;
mod places;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use smallvec::SmallVec;

use super::healthy::Healthy;
use crate::balance::{Choice, EndpointState};
use crate::decision::{Decision, Decisions, Detail, Outcome, RuleRef};
use crate::health::{
    Admission, BoundBreaker, BreakerPhase, Cap, CircuitGuard, GuardedEndpoint, Permit, Reading,
    SharedEndpoint,
};
use crate::model::Mode;
use crate::pipeline::LocalReply;
use crate::reason::Reason;
use crate::time::{Timestamp, whole_seconds};
use admitting::Admitting;
use places::take;
pub(crate) use places::{CapPermits, connection, connection_cap_reached, pending, retry};

/// A breaker's leave, with the rule that it is reported under.
#[derive(Debug)]
pub(crate) struct HeldPermit {
    pub(crate) bound: Arc<BoundBreaker>,
    pub(crate) permit: Permit,
    /// Of the response, as far as it has come.
    pub(crate) reading: Reading,
}

/// Two breakers (one per scope) fit without an allocation.
pub(crate) type HeldPermits = SmallVec<[HeldPermit; 2]>;

/// What a call has been given for its way.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) permits: HeldPermits,
    /// Under the caps on requests.
    pub(crate) places: CapPermits,
    /// The endpoint, as it is shared with other proxies.
    pub(crate) shared: Option<Arc<SharedEndpoint>>,
}

/// One guard asked at one moment.
pub(crate) struct Asking<'a> {
    guard: &'a CircuitGuard,
    choice: Choice<'a>,
    healthy: Healthy<'a>,
    now: Timestamp,
    decisions: &'a mut Decisions,
    pub(crate) given: Given,
    /// Enforcement would have refused already: nothing further is asked, as it would not have been.
    shadowed: bool,
    /// How many of how many endpoints are left, where that is so few that all are used.
    panic: Option<(u32, u32)>,
}

/// What a breaker said no with.
#[derive(Clone, Copy)]
struct Held<'a> {
    rule: &'a Arc<RuleRef>,
    phase: BreakerPhase,
    retry_in: Duration,
}

impl<'a> Asking<'a> {
    pub(crate) fn new(
        guard: &'a CircuitGuard,
        (choice, healthy): (Choice<'a>, Healthy<'a>),
        now: Timestamp,
        decisions: &'a mut Decisions,
    ) -> Self {
        guard.settle(now);
        let panic = match healthy.left() {
            Some((left, all)) => guard.circuit.ejection.panic(left, all),
            None => guard.panic(),
        };
        let given = Given::default();
        Self { guard, choice, healthy, now, decisions, given, shadowed: false, panic }
    }

    pub(crate) fn backend_breakers(&mut self, rng: &mut fastrand::Rng) -> Result<(), LocalReply> {
        let breakers = self.guard.backend_breakers();
        let left_out = breakers.iter().find(|bound| !bound.breaker.ramp_admits(self.now, rng));
        let taken = match left_out {
            Some(bound) => {
                let phase = BreakerPhase::Ramping;
                Err(Held { rule: &bound.rule.rule, phase, retry_in: Duration::ZERO })
            }
            None => self.take_breakers(breakers, false),
        };
        taken.or_else(|held| self.held_back(Reason::CircuitOpen, held))
    }

    /// The caps on requests that hold whichever endpoint is called.
    pub(crate) fn shared_caps(&mut self) -> Result<(), LocalReply> {
        let (guard, key) = (self.guard, self.choice.wish.counted);
        let told = (&mut self.shadowed, &mut *self.decisions);
        let own = places::of_key((guard, Cap::Requests), key, told)?;
        let told = (&mut self.shadowed, &mut *self.decisions);
        take((guard, Cap::Requests), guard.shared_caps().chain(&own), &mut self.given.places, told)
    }

    /// Picks an endpoint and takes its breakers' leave and a place under its cap.
    pub(crate) fn endpoint(
        &mut self,
        endpoints: &[Arc<EndpointState>],
        rng: &mut fastrand::Rng,
    ) -> Result<usize, LocalReply> {
        match self.guard.circuit.mode {
            Mode::Enforce => self.admitting_endpoint(endpoints, rng),
            Mode::Shadow => self.any_endpoint(endpoints, rng),
        }
    }

    fn admitting_endpoint(
        &mut self,
        endpoints: &[Arc<EndpointState>],
        rng: &mut fastrand::Rng,
    ) -> Result<usize, LocalReply> {
        let (guard, healthy, now) = (self.guard, self.healthy, self.now);
        let choice = self.choice;
        let with_room = || Admitting::healthy(choice, healthy, now).with_room(guard);
        let mut admitting = match self.panic {
            Some(_) => with_room(),
            None => with_room().with_leave(guard, rng),
        };
        let (mut last, mut relaxed, mut full) = (None, false, None);
        loop {
            let Some(index) = self.choice.pick(|i| admitting.has(i), rng) else {
                // A ramp has no room where the rest of the calls would go: it takes them all the same.
                if std::mem::replace(&mut relaxed, true) || self.panic.is_some() {
                    break;
                }
                admitting = with_room().with_leave_whatever_ramps(guard);
                continue;
            };
            // Between the look and the taking another call may get the last probe or place: then look again.
            match self.take_endpoint(index, &endpoints[index]) {
                Ok(true) => return Ok(index),
                Ok(false) => {
                    full = guard.endpoint(index, &endpoints[index]).and_then(|e| e.caps.as_ref()).or(full);
                }
                Err(held) => last = Some(held),
            }
            admitting.bar(index);
        }
        if let Some(cap) = full.or(admitting.full()) {
            places::refused(guard, (cap, Cap::Requests), self.decisions)?;
        }
        if let Some(held) = soonest(guard, (endpoints, healthy), now).or(last) {
            self.held_back(Reason::EndpointsOpen, held)?;
        }
        Err(Reason::NoEndpoint.into())
    }

    /// Whether there was a place under the endpoint's cap.
    fn take_endpoint(&mut self, index: usize, endpoint: &Arc<EndpointState>) -> Result<bool, Held<'a>> {
        let Some(guarded) = self.guard.endpoint(index, endpoint) else { return Ok(true) };
        let before = self.given.permits.len();
        self.take_breakers(&guarded.breakers, self.panic.is_some())?;
        if let Err(held) = self.take_shared(guarded) {
            self.given.permits.truncate(before);
            return Err(held);
        }
        let Some(cap) = &guarded.caps else { return Ok(true) };
        let Some(place) = cap.acquire(Cap::Requests, Mode::Enforce) else {
            self.given.permits.truncate(before);
            return Ok(false);
        };
        self.given.places.push(place);
        Ok(true)
    }

    /// The leave of those who say that it fails.
    fn take_shared(&mut self, guarded: &'a GuardedEndpoint) -> Result<(), Held<'a>> {
        let (Some(rule), Some(shared)) = (self.guard.sharing(), &guarded.shared) else { return Ok(()) };
        if self.panic.is_none() && !shared.admit(&rule.rules, self.now) {
            let retry_in = shared.retry_in(self.now);
            return Err(Held { rule: &rule.rule, phase: BreakerPhase::Open, retry_in });
        }
        self.given.shared = Some(Arc::clone(shared));
        Ok(())
    }

    /// Shadow must not move traffic: the pick ignores the breakers, which are then asked about it.
    fn any_endpoint(
        &mut self,
        endpoints: &[Arc<EndpointState>],
        rng: &mut fastrand::Rng,
    ) -> Result<usize, LocalReply> {
        let (guard, healthy, now) = (self.guard, self.healthy, self.now);
        let index = unguarded(self.choice, healthy, rng).ok_or(Reason::NoEndpoint)?;
        let Some(guarded) = guard.endpoint(index, &endpoints[index]) else { return Ok(index) };
        if !self.shadowed && self.take_breakers(&guarded.breakers, self.panic.is_some()).is_err() {
            let admitting = Admitting::healthy(self.choice, healthy, now).with_leave_whatever_ramps(guard);
            let admits = |i: usize| endpoints[i].weight() > 0 && admitting.has(i);
            if !(0..endpoints.len()).any(admits)
                && let Some(held) = soonest(guard, (endpoints, healthy), now)
            {
                self.held_back(Reason::EndpointsOpen, held)?;
            }
        }
        let (told, capped) = ((&mut self.shadowed, &mut *self.decisions), guarded.caps.iter());
        take((guard, Cap::Requests), capped, &mut self.given.places, told)?;
        Ok(index)
    }

    /// The guard's one word on an admitted call: the probe it is, or that all was well.
    pub(crate) fn allow(&mut self) {
        if self.shadowed {
            return;
        }
        let probe = self.given.permits.iter().find(|held| held.permit.is_probe());
        let rule = probe.map(|held| &held.bound.rule.rule).or_else(|| self.guard.lead_rule());
        let Some(rule) = rule.cloned() else { return };
        let phase = if probe.is_some() { BreakerPhase::HalfOpen } else { BreakerPhase::Closed };
        let state = (!self.guard.circuit.breakers.is_empty()).then_some(Detail::State(phase));
        let panic = self.panic.map(|(left, all)| Detail::Panic { left, all });
        decide(self.guard, self.decisions, &rule, (Outcome::Allowed, panic.or(state)));
    }

    /// All or none of these breakers' leave; in a panic, that of those that give it.
    fn take_breakers(&mut self, breakers: &'a [Arc<BoundBreaker>], panic: bool) -> Result<(), Held<'a>> {
        let before = self.given.permits.len();
        for bound in breakers {
            match bound.breaker.admit(self.now) {
                Admission::Admitted(permit) => {
                    let bound = Arc::clone(bound);
                    self.given.permits.push(HeldPermit { bound, permit, reading: Reading::default() });
                }
                Admission::Refused { .. } if panic => {}
                Admission::Refused { phase, retry_in } => {
                    self.given.permits.truncate(before);
                    return Err(Held { rule: &bound.rule.rule, phase, retry_in });
                }
            }
        }
        Ok(())
    }

    fn held_back(&mut self, reason: Reason, held: Held<'_>) -> Result<(), LocalReply> {
        let detail = Some(Detail::State(held.phase));
        let Some(mut reply) = refuse(self.guard, self.decisions, held.rule, (reason, detail)) else {
            self.shadowed = true;
            // What a refused call holds it gives back at once.
            self.given.permits.clear();
            return Ok(());
        };
        reply.headers.push((RETRY_AFTER, HeaderValue::from(whole_seconds(held.retry_in))));
        Err(reply)
    }
}

/// Picks an endpoint where no breaker is asked.
pub(crate) fn unguarded(choice: Choice<'_>, healthy: Healthy<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    if healthy.are_all() {
        return choice.pick(|_| true, rng);
    }
    let admitting = Admitting::healthy(choice, healthy, Timestamp::ZERO);
    choice.pick(|i| admitting.has(i), rng)
}

/// Writes the refusal down; `None` in Shadow, where nothing follows from it.
fn refuse(
    guard: &CircuitGuard,
    decisions: &mut Decisions,
    rule: &Arc<RuleRef>,
    (reason, detail): (Reason, Option<Detail>),
) -> Option<LocalReply> {
    let (outcome, reply) = match guard.circuit.mode {
        Mode::Enforce => (Outcome::Refused(reason), Some(reason.into())),
        Mode::Shadow => (Outcome::WouldRefuse(reason), None),
    };
    decide(guard, decisions, rule, (outcome, detail));
    reply
}

fn decide(
    guard: &CircuitGuard,
    decisions: &mut Decisions,
    rule: &Arc<RuleRef>,
    (outcome, detail): (Outcome, Option<Detail>),
) {
    let policy = Arc::clone(&guard.circuit.policy);
    decisions.push(Decision { policy, rule: Arc::clone(rule), outcome, detail });
}

/// The breaker that will be the first to let a call through to any healthy endpoint.
fn soonest<'a>(
    guard: &'a CircuitGuard,
    (endpoints, healthy): (&[Arc<EndpointState>], Healthy<'_>),
    now: Timestamp,
) -> Option<Held<'a>> {
    let of_endpoint = |(i, endpoint)| {
        let guarded = guard.endpoint(i, endpoint)?;
        let holding = guarded.breakers.iter().filter(|b| !b.breaker.would_admit(now)).map(|b| Held {
            rule: &b.rule.rule,
            phase: b.breaker.phase(),
            retry_in: b.breaker.retry_in(now),
        });
        let shared = guarded.shared.as_ref().filter(|shared| !shared.would_admit(now));
        let shared = guard.sharing().zip(shared).map(|(rule, shared)| Held {
            rule: &rule.rule,
            phase: BreakerPhase::Open,
            retry_in: shared.retry_in(now),
        });
        holding.chain(shared).max_by_key(|held| held.retry_in)
    };
    let takes_calls =
        |(i, endpoint): &(usize, &Arc<EndpointState>)| endpoint.weight() > 0 && healthy.admits(*i, endpoint);
    let holding = endpoints.iter().enumerate().filter(takes_calls).filter_map(of_endpoint);
    holding.min_by_key(|held| held.retry_in)
}
