//! The questions that one admission asks of a guard, each with its decision.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use smallvec::SmallVec;

use super::healthy::Healthy;
use crate::balance::p2c::Wish;
use crate::balance::{EndpointState, p2c};
use crate::decision::{Decision, Decisions, Detail, Outcome, RuleRef};
use crate::health::{Admission, BoundBreaker, BreakerPhase, Cap, CapPermit, CircuitGuard, Permit};
use crate::model::Mode;
use crate::pipeline::LocalReply;
use crate::reason::Reason;
use crate::time::{Timestamp, whole_seconds};

/// A breaker's leave, with the rule that it is reported under.
#[derive(Debug)]
pub(crate) struct HeldPermit {
    pub(crate) rule: Arc<RuleRef>,
    /// Whether the breaker guards the endpoint and not the whole backend.
    pub(crate) of_endpoint: bool,
    pub(crate) permit: Permit,
}

/// Two breakers (one per scope) fit without an allocation.
pub(crate) type HeldPermits = SmallVec<[HeldPermit; 2]>;

/// One guard asked at one moment.
pub(crate) struct Asking<'a> {
    pub(crate) guard: &'a CircuitGuard,
    wish: Wish<'a>,
    healthy: Healthy<'a>,
    pub(crate) now: Timestamp,
    pub(crate) decisions: &'a mut Decisions,
    pub(crate) permits: HeldPermits,
    /// Enforcement would have refused already: nothing further is asked, as it would not have been.
    shadowed: bool,
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
        (wish, healthy): (Wish<'a>, Healthy<'a>),
        now: Timestamp,
        decisions: &'a mut Decisions,
    ) -> Self {
        Self { guard, wish, healthy, now, decisions, permits: HeldPermits::new(), shadowed: false }
    }

    pub(crate) fn backend_breakers(&mut self) -> Result<(), LocalReply> {
        let guard = self.guard;
        match self.take(guard.backend_breakers(), false) {
            Ok(()) => Ok(()),
            Err(held) => self.held_back(Reason::CircuitOpen, held),
        }
    }

    pub(crate) fn request_cap(&mut self) -> Result<Option<CapPermit>, LocalReply> {
        if self.shadowed {
            return Ok(Some(self.guard.count_excess(Cap::Requests)));
        }
        let permit = take_cap(self.guard, Cap::Requests, self.decisions)?;
        self.shadowed = permit.as_ref().is_some_and(CapPermit::is_excess);
        Ok(permit)
    }

    /// Picks an endpoint and takes its breakers' leave.
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
        let admits = |i| healthy.admits(i, &endpoints[i]) && guard.endpoint_admits(i, &endpoints[i], now);
        let mut last = None;
        // Between the look and the taking another call may get the last probe: then look again.
        for _ in 0..=endpoints.len() {
            let Some(index) = p2c::pick_other(endpoints, self.wish, admits, rng) else { break };
            match self.take(guard.endpoint_breakers(index, &endpoints[index]), true) {
                Ok(()) => return Ok(index),
                Err(held) => last = Some(held),
            }
        }
        if let Some(held) = soonest(guard, endpoints, now).or(last) {
            self.held_back(Reason::EndpointsOpen, held)?;
        }
        Err(Reason::NoEndpoint.into())
    }

    /// Shadow must not move traffic: the pick ignores the breakers, which are then asked about it.
    fn any_endpoint(
        &mut self,
        endpoints: &[Arc<EndpointState>],
        rng: &mut fastrand::Rng,
    ) -> Result<usize, LocalReply> {
        let (guard, healthy, now) = (self.guard, self.healthy, self.now);
        let healthy = |i: usize| healthy.admits(i, &endpoints[i]);
        let index = p2c::pick_other(endpoints, self.wish, healthy, rng).ok_or(Reason::NoEndpoint)?;
        if self.shadowed || self.take(guard.endpoint_breakers(index, &endpoints[index]), true).is_ok() {
            return Ok(index);
        }
        let admits = |i: usize| {
            endpoints[i].weight() > 0 && healthy(i) && guard.endpoint_admits(i, &endpoints[i], now)
        };
        if !(0..endpoints.len()).any(admits)
            && let Some(held) = soonest(guard, endpoints, now)
        {
            self.held_back(Reason::EndpointsOpen, held)?;
        }
        Ok(index)
    }

    /// The guard's one word on an admitted call: the probe it is, or that all was well.
    pub(crate) fn allow(&mut self) {
        if self.shadowed {
            return;
        }
        let probe = self.permits.iter().find(|held| held.permit.is_probe());
        let rule = probe.map(|held| &held.rule).or_else(|| self.guard.lead_rule());
        let Some(rule) = rule.cloned() else { return };
        let phase = if probe.is_some() { BreakerPhase::HalfOpen } else { BreakerPhase::Closed };
        let has_breakers = !self.guard.circuit.breakers.is_empty();
        let detail = has_breakers.then_some(Detail::State(phase));
        decide(self.guard, self.decisions, &rule, Outcome::Allowed, detail);
    }

    /// All or none of these breakers' leave.
    fn take(&mut self, breakers: &'a [BoundBreaker], of_endpoint: bool) -> Result<(), Held<'a>> {
        let before = self.permits.len();
        for BoundBreaker { rule, breaker } in breakers {
            match breaker.admit(self.now) {
                Admission::Admitted(permit) => {
                    self.permits.push(HeldPermit { rule: Arc::clone(rule), of_endpoint, permit });
                }
                Admission::Refused { phase, retry_in } => {
                    self.permits.truncate(before);
                    return Err(Held { rule, phase, retry_in });
                }
            }
        }
        Ok(())
    }

    fn held_back(&mut self, reason: Reason, held: Held<'_>) -> Result<(), LocalReply> {
        let detail = Some(Detail::State(held.phase));
        let Some(mut reply) = refuse(self.guard, self.decisions, held.rule, reason, detail) else {
            self.shadowed = true;
            // What a refused call holds it gives back at once.
            self.permits.clear();
            return Ok(());
        };
        reply.headers.push((RETRY_AFTER, HeaderValue::from(whole_seconds(held.retry_in))));
        Err(reply)
    }
}

/// A place under one cap; `None` where the guard has no caps.
pub(crate) fn take_cap(
    guard: &CircuitGuard,
    cap: Cap,
    decisions: &mut Decisions,
) -> Result<Option<CapPermit>, LocalReply> {
    let permit = guard.acquire(cap);
    if permit.as_ref().is_none_or(CapPermit::is_excess) {
        cap_reached(guard, cap, decisions)?;
    }
    Ok(permit)
}

/// Writes down that `cap` is reached: the reply, unless the policy is in Shadow.
pub(crate) fn cap_reached(
    guard: &CircuitGuard,
    cap: Cap,
    decisions: &mut Decisions,
) -> Result<(), LocalReply> {
    let reason = match cap {
        Cap::Connections => Reason::ConnectionCap,
        Cap::Pending => Reason::PendingCap,
        Cap::Requests => Reason::RequestCap,
    };
    let Some(caps) = &guard.circuit.caps else { return Ok(()) };
    refuse(guard, decisions, &caps.rule, reason, guard.limit(cap).map(Detail::Cap)).map_or(Ok(()), Err)
}

/// Writes the refusal down; `None` in Shadow, where nothing follows from it.
fn refuse(
    guard: &CircuitGuard,
    decisions: &mut Decisions,
    rule: &Arc<RuleRef>,
    reason: Reason,
    detail: Option<Detail>,
) -> Option<LocalReply> {
    let (outcome, reply) = match guard.circuit.mode {
        Mode::Enforce => (Outcome::Refused(reason), Some(reason.into())),
        Mode::Shadow => (Outcome::WouldRefuse(reason), None),
    };
    decide(guard, decisions, rule, outcome, detail);
    reply
}

fn decide(
    guard: &CircuitGuard,
    decisions: &mut Decisions,
    rule: &Arc<RuleRef>,
    outcome: Outcome,
    detail: Option<Detail>,
) {
    let policy = Arc::clone(&guard.circuit.policy);
    decisions.push(Decision { policy, rule: Arc::clone(rule), outcome, detail });
}

/// The breaker that will be the first to let a call through to any endpoint.
fn soonest<'a>(
    guard: &'a CircuitGuard,
    endpoints: &[Arc<EndpointState>],
    now: Timestamp,
) -> Option<Held<'a>> {
    let of_endpoint = |(i, endpoint)| {
        let holding = guard.endpoint_breakers(i, endpoint).iter().filter(|b| !b.breaker.would_admit(now));
        holding.map(|b| (b, b.breaker.retry_in(now))).max_by_key(|(_, retry_in)| *retry_in)
    };
    let takes_calls = |(_, endpoint): &(usize, &Arc<EndpointState>)| endpoint.weight() > 0;
    let holding = endpoints.iter().enumerate().filter(takes_calls).filter_map(of_endpoint);
    let (bound, retry_in) = holding.min_by_key(|(_, retry_in)| *retry_in)?;
    Some(Held { rule: &bound.rule, phase: bound.breaker.view().phase, retry_in })
}
