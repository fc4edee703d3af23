//! Draws faults for a request and injects them.
//!
//! A delay is an effect: the shell waits, and drops the wait with its client. What comes after it was drawn before it and
//! stands in the decisions, so nothing else has to be kept of the request.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Fault;
use super::active::{Active, Place};
use crate::decision::{Decision, Detail, Outcome};
use crate::kinds::rate_limit::holds;
use crate::model::PolicyRef;
use crate::pipeline::{Effect, Filter, Held, LocalReply, Performed, Phase, RequestContext, Verdict};
use crate::reason::Reason;

#[derive(Debug)]
pub(super) struct FaultFilter {
    pub(super) policy: Arc<PolicyRef>,
    pub(super) shadow: bool,
    pub(super) faults: Box<[BoundFault]>,
}

/// A fault joined to its count.
#[derive(Clone, Debug)]
pub(super) struct BoundFault {
    pub(super) fault: Arc<Fault>,
    pub(super) active: Arc<Active>,
}

/// A fault that a request is under, until its answer is out.
#[derive(Debug)]
struct Injected {
    _place: Place,
    bytes_per_second: Option<NonZeroU32>,
}

impl Filter for FaultFilter {
    fn phase(&self) -> Phase {
        Phase::Fault
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        let (mut wait, mut end) = (Duration::ZERO, None);
        for bound in &self.faults {
            if !bound.fault.hits(cx) {
                continue;
            }
            let Some(place) = bound.active.take(bound.fault.most) else {
                self.explain(&bound.fault, (Outcome::Allowed, bound.fault.most.map(Detail::Cap)), cx);
                continue;
            };
            let delay = self.inject(&bound.fault, place, cx);
            wait = wait.saturating_add(delay.unwrap_or_default());
            if bound.fault.end.is_some() {
                end = Some(&bound.fault);
                break;
            }
        }
        match end {
            _ if self.shadow => Verdict::Continue,
            _ if !wait.is_zero() => Verdict::Effect(Effect::Wait(wait)),
            Some(fault) => fault.reply(),
            None => Verdict::Continue,
        }
    }

    fn on_effect(&self, cx: &mut RequestContext<'_>, _performed: &Performed) -> Verdict {
        let ends = |decision: &&Decision| {
            Arc::ptr_eq(&decision.policy, &self.policy)
                && decision.outcome == Outcome::Refused(Reason::FaultInjected)
        };
        let ended = cx.decisions.iter().rev().find(ends);
        let named = |rule| self.faults.iter().find(|bound| Arc::ptr_eq(&bound.fault.rule, rule));
        match ended.and_then(|decision| named(&decision.rule)) {
            Some(bound) => bound.fault.reply(),
            None => Verdict::Continue,
        }
    }

    fn at_gateway(&self) -> Option<Arc<dyn Filter>> {
        let stays = |bound: &&BoundFault| bound.fault.asked.as_ref().is_none_or(|asked| asked.at_gateways);
        if self.faults.iter().all(|bound| stays(&bound)) {
            return None;
        }
        let faults = self.faults.iter().filter(stays).cloned().collect();
        Some(Arc::new(Self { policy: Arc::clone(&self.policy), shadow: self.shadow, faults }))
    }
}

impl FaultFilter {
    /// How long the request is to wait.
    fn inject(&self, fault: &Fault, place: Place, cx: &mut RequestContext<'_>) -> Option<Duration> {
        let delay = fault.delay.map(|delay| delay.draw(cx.rng));
        let outcome = match (fault.end.is_some(), self.shadow) {
            (true, false) => Outcome::Refused(Reason::FaultInjected),
            (true, true) => Outcome::WouldRefuse(Reason::FaultInjected),
            (false, false) => Outcome::Injected,
            (false, true) => Outcome::WouldInject,
        };
        let throttled = fault.bytes_per_second.map(|rate| Detail::BytesPerSecond(rate.get()));
        self.explain(fault, (outcome, delay.map(Detail::Delayed).or(throttled)), cx);
        let bytes_per_second = fault.bytes_per_second.filter(|_| !self.shadow);
        cx.held.push(Box::new(Injected { _place: place, bytes_per_second }));
        delay
    }

    fn explain(&self, fault: &Fault, said: (Outcome, Option<Detail>), cx: &mut RequestContext<'_>) {
        let (policy, rule, (outcome, detail)) = (Arc::clone(&self.policy), Arc::clone(&fault.rule), said);
        cx.decisions.push(Decision { policy, rule, outcome, detail });
    }
}

impl Fault {
    fn hits(&self, cx: &mut RequestContext<'_>) -> bool {
        self.is_asked_for(cx) && holds(self.when.as_deref(), cx) && cx.rng.f64() < self.share
    }

    fn is_asked_for(&self, cx: &RequestContext<'_>) -> bool {
        let Some(asked) = &self.asked else { return true };
        let values = cx.head.headers.get_all(&asked.header).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|name| name.trim() == &*self.rule.name)
    }

    fn reply(&self) -> Verdict {
        Verdict::Reply(LocalReply { written: self.end.clone(), ..Reason::FaultInjected.into() })
    }
}

impl Held for Injected {
    fn bytes_per_second(&self) -> Option<NonZeroU32> {
        self.bytes_per_second
    }
}
