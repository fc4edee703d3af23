//! What health checks let calls go to.

use std::sync::Arc;

use crate::balance::EndpointState;
use crate::decision::{Decision, Decisions, Detail, Outcome, RuleRef};
use crate::health::check::{HealthGuard, Standing};
use crate::model::Mode;
use crate::pipeline::LocalReply;
use crate::reason::Reason;
use crate::snapshot::Target;
use crate::time::Timestamp;

/// Which endpoints are healthy enough for one call; all, without a guard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Healthy<'a>(Option<&'a HealthGuard>);

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
        let Some(guard) = target.health.as_deref() else { return Ok(Self(None)) };
        guard.note_call(now);
        let standing = guard.standing();
        if standing.is_panic(guard.health.panic_percent) {
            decide(guard, decisions, (&guard.health.panic_rule, standing), Outcome::Allowed);
            return Ok(Self(None));
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
        Ok(Self(enforced.then_some(guard)))
    }

    pub(super) fn admits(self, index: usize, endpoint: &Arc<EndpointState>) -> bool {
        self.0.is_none_or(|guard| guard.admits(index, endpoint))
    }
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
