//! Asks the gate for each request, and tells who is shed.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use rustc_hash::FxHashMap;

use super::Class;
use crate::decision::{Decision, Detail, Outcome};
use crate::kinds::key::{self, Key, KeyPart};
use crate::kinds::rate_limit::holds;
use crate::model::PolicyRef;
use crate::overload::{Arrival, Gate, Kin, Load, Ticket};
use crate::pipeline::{Effect, Filter, LocalReply, Performed, Phase, RequestContext, Verdict};
use crate::reason::Reason;

/// What whoever is shed is told. By then, who waited has been served or has gone.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct OverloadFilter {
    pub(super) policy: Arc<PolicyRef>,
    pub(super) shadow: bool,
    /// By importance. The last takes all.
    pub(super) classes: Arc<[Class]>,
    pub(super) tenant: Arc<[KeyPart]>,
    /// Of those that do not weigh 1, by the hash of their key.
    pub(super) weights: FxHashMap<u128, u32>,
    pub(super) gate: Arc<Gate>,
    pub(super) seed: [u64; 2],
}

impl Filter for OverloadFilter {
    fn phase(&self) -> Phase {
        Phase::Overload
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        let class = self.class(cx);
        let kin = match key::of(&self.tenant, cx, self.seed) {
            Key::Of(tenant) => Kin { class, tenant, weight: self.weight(tenant) },
            Key::Skip => return Verdict::Continue,
            Key::Deny => return self.refuse(class, self.gate.load(), cx),
        };
        if self.shadow {
            let (place, fits, load) = self.gate.count(kin, cx.now);
            cx.held.push(Box::new(place));
            let would = Outcome::WouldRefuse(Reason::Overloaded);
            self.explain(class, if fits.is_ok() { Outcome::Allowed } else { would }, load, cx);
            return Verdict::Continue;
        }
        match self.gate.arrive(kin, cx.now) {
            (Arrival::Admitted(place), load) => {
                cx.held.push(Box::new(place));
                self.explain(class, Outcome::Allowed, load, cx);
                Verdict::Continue
            }
            (Arrival::Waits(place, ticket), _) => {
                cx.held.push(Box::new(place));
                Verdict::Effect(Effect::Turn(ticket))
            }
            (Arrival::Shed, load) => self.refuse(class, load, cx),
        }
    }

    fn on_effect(&self, cx: &mut RequestContext<'_>, performed: &Performed) -> Verdict {
        let class = self.class(cx);
        let load = self.gate.load();
        match performed {
            Performed::Turned(ticket) if self.has_come(ticket, cx) => {
                self.explain(class, Outcome::Allowed, load, cx);
                Verdict::Continue
            }
            _ => self.refuse(class, load, cx),
        }
    }

    fn load(&self) -> Option<(&Arc<PolicyRef>, Load)> {
        Some((&self.policy, self.gate.load()))
    }
}

impl OverloadFilter {
    fn has_come(&self, ticket: &Ticket, cx: &RequestContext<'_>) -> bool {
        Arc::ptr_eq(ticket.gate(), &self.gate) && ticket.begin(cx.now)
    }

    fn weight(&self, tenant: u128) -> u32 {
        self.weights.get(&tenant).copied().unwrap_or(1)
    }

    fn class(&self, cx: &RequestContext<'_>) -> usize {
        let fits = |class: &Class| holds(class.when.as_deref(), cx);
        self.classes.iter().position(fits).unwrap_or(self.classes.len() - 1)
    }

    fn refuse(&self, class: usize, load: Load, cx: &mut RequestContext<'_>) -> Verdict {
        if self.shadow {
            self.explain(class, Outcome::WouldRefuse(Reason::Overloaded), load, cx);
            return Verdict::Continue;
        }
        self.explain(class, Outcome::Refused(Reason::Overloaded), load, cx);
        let headers = vec![(RETRY_AFTER, HeaderValue::from(AGAIN.as_secs()))];
        Verdict::Reply(LocalReply { headers, again: Some(AGAIN), ..Reason::Overloaded.into() })
    }

    fn explain(&self, class: usize, outcome: Outcome, load: Load, cx: &mut RequestContext<'_>) {
        let Some(class) = self.classes.get(class) else { return };
        let (policy, rule) = (Arc::clone(&self.policy), Arc::clone(&class.rule));
        cx.decisions.push(Decision { policy, rule, outcome, detail: Some(Detail::Load(load)) });
    }
}
