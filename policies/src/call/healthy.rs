//! What health checks let calls go to.

use std::sync::Arc;

use crate::balance::EndpointState;
use crate::decision::{Decision, Decisions, Detail, Outcome, RuleRef};
use crate::health::check::{HealthGuard, Standing};
use crate::health::{Cap, GuardedEndpoint};
use crate::model::Mode;
use crate::pipeline::LocalReply;
use crate::reason::Reason;
use crate::snapshot::Target;
use crate::time::Timestamp;

/// Which endpoints are healthy enough for one call; all, without a guard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Healthy<'a> {
    asked: Option<&'a HealthGuard>,
    /// How endpoints stand, breakers included, where somebody is asked.
    standing: Standing,
}

impl<'a> Healthy<'a> {
    /// Says a word where health decides about the call and not only about an endpoint: nothing is healthy, or so little
    /// that health is ignored.
    ///
    /// # Errors
    /// [`Reason::Unhealthy`].
    pub(super) fn consult(
        target: &'a Target,
        now: Timestamp,
        decisions: &mut Decisions,
    ) -> Result<Self, LocalReply> {
        let Some(guard) = target.health.as_deref() else { return Ok(Self::all()) };
        guard.note_call(now);
        let standing = target.together.standing(guard, target.guard.as_deref());
        let ejects = target.guard.as_ref().is_some_and(|guard| guard.circuit.mode == Mode::Enforce);
        let available = if ejects { standing.available } else { standing.healthy };
        if (Standing { available, ..standing }).is_panic(guard.health.panic_percent) {
            let told = Standing { healthy: available, ..standing };
            decide(guard, decisions, (&guard.health.panic_rule, told), Outcome::Allowed);
            return Ok(Self::all());
        }
        let enforced = guard.health.mode == Mode::Enforce;
        if standing.healthy == 0 && standing.all > 0 {
            let rule = guard.failing().unwrap_or(&guard.health.panic_rule);
            if enforced {
                decide(guard, decisions, (rule, standing), Outcome::Refused(Reason::Unhealthy));
                return Err(Reason::Unhealthy.into());
            }
            decide(guard, decisions, (rule, standing), Outcome::WouldRefuse(Reason::Unhealthy));
        }
        Ok(Self { asked: enforced.then_some(guard), standing })
    }

    fn all() -> Self {
        Self { asked: None, standing: Standing::default() }
    }

    /// Whether nobody is asked.
    pub(super) fn are_all(self) -> bool {
        self.asked.is_none()
    }

    /// How many endpoints are neither ejected nor unhealthy, and of how many; `None` where health is not asked.
    pub(super) fn left(self) -> Option<(u32, u32)> {
        self.asked.map(|_| (self.standing.available, self.standing.all))
    }

    pub(super) fn admits(self, index: usize, endpoint: &Arc<EndpointState>) -> bool {
        self.asked.is_none_or(|guard| guard.admits(index, endpoint))
    }
}

/// Whether a call that is not needed may go there: nothing that is enforced keeps calls away, and no panic brings them back.
pub(super) fn is_well(target: &Target, index: usize, endpoint: &Arc<EndpointState>, now: Timestamp) -> bool {
    let checks = target.health.as_ref().filter(|guard| guard.health.mode == Mode::Enforce);
    let guard = target.guard.as_ref().filter(|guard| guard.circuit.mode == Mode::Enforce);
    let guarded = guard.and_then(|guard| guard.endpoint(index, endpoint));
    let has_room =
        |guarded: &GuardedEndpoint| guarded.caps.as_ref().is_none_or(|cap| !cap.is_full(Cap::Requests));
    checks.is_none_or(|checks| checks.admits(index, endpoint))
        && guarded.is_none_or(|guarded| guarded.would_admit(now) && has_room(guarded))
}

fn decide(
    guard: &HealthGuard,
    decisions: &mut Decisions,
    (rule, Standing { healthy, all, .. }): (&Arc<RuleRef>, Standing),
    outcome: Outcome,
) {
    let (policy, rule) = (Arc::clone(&guard.health.policy), Arc::clone(rule));
    decisions.push(Decision { policy, rule, outcome, detail: Some(Detail::Healthy { healthy, all }) });
}

#[cfg(test)]
mod tests;
