//! Asks for the plugin, and takes what it says for its own word.

use std::sync::Arc;

use crate::decision::{Decision, Decisions, Outcome, RuleRef};
use crate::pipeline::{Cut, Effect, Filter, Performed, Phase, RequestContext, Verdict};
use crate::plugin::{Carried, Failure, Plugged, Plugin};
use crate::reason::Reason;

#[derive(Debug)]
pub(super) struct PluginFilter {
    pub(super) plugin: Arc<Plugin>,
    pub(super) rule: Arc<RuleRef>,
    pub(super) phase: Phase,
    pub(super) order: i32,
}

impl Filter for PluginFilter {
    fn phase(&self) -> Phase {
        self.phase
    }

    fn on_request(&self, _cx: &mut RequestContext<'_>) -> Verdict {
        Verdict::Effect(Effect::Plugin(self.plugin.clone()))
    }

    fn on_effect(&self, cx: &mut RequestContext<'_>, performed: &Performed) -> Verdict {
        match performed {
            Performed::Plugged(Plugged::Passed) => self.pass(Outcome::Allowed, cx),
            Performed::Plugged(Plugged::Skipped) => self.pass(Outcome::Allowed, cx),
            Performed::Plugged(Plugged::Answered(_)) if self.plugin.shadow => {
                self.pass(Outcome::WouldRefuse(Reason::PluginAnswered), cx)
            }
            Performed::Plugged(Plugged::Answered(reply)) => {
                self.decide(Outcome::Refused(reply.reason), cx);
                Verdict::Reply(reply.clone())
            }
            // A plugin that nobody could ask is one that failed.
            _ if self.plugin.shadow => self.pass(Outcome::WouldRefuse(Reason::PluginFailed), cx),
            Performed::Plugged(Plugged::Failed) => self.fail(cx),
            _ if self.plugin.failure == Failure::Open => self.pass(Outcome::Allowed, cx),
            _ => self.fail(cx),
        }
    }

    /// As Envoy fails open, bytes go on without a plugin that has failed where that is written: a connection may be of use for
    /// days, and there is no other one to come, as there is of requests.
    fn on_carried(&self, carried: Carried, decisions: &mut Decisions) -> Result<(), Cut> {
        let cut = match carried {
            Carried::Passed | Carried::Skipped => None,
            Carried::Failed if self.plugin.failure == Failure::Open => None,
            Carried::Closed => Some(Cut { reason: Reason::PluginClosed, reset: false }),
            Carried::TooLarge => Some(Cut { reason: Reason::PluginBodyTooLarge, reset: true }),
            Carried::Failed => Some(Cut { reason: Reason::PluginFailed, reset: true }),
        };
        let outcome = match cut {
            None => Outcome::Allowed,
            Some(cut) if self.plugin.shadow => Outcome::WouldRefuse(cut.reason),
            Some(cut) => Outcome::Refused(cut.reason),
        };
        decisions.push(self.decision(outcome));
        cut.filter(|_| !self.plugin.shadow).map_or(Ok(()), Err)
    }

    fn plugin(&self) -> Option<&Arc<Plugin>> {
        Some(&self.plugin)
    }

    fn order(&self) -> i32 {
        self.order
    }
}

impl PluginFilter {
    fn pass(&self, outcome: Outcome, cx: &mut RequestContext<'_>) -> Verdict {
        self.decide(outcome, cx);
        Verdict::Continue
    }

    fn fail(&self, cx: &mut RequestContext<'_>) -> Verdict {
        self.decide(Outcome::Refused(Reason::PluginFailed), cx);
        Verdict::Reply(Reason::PluginFailed.into())
    }

    fn decide(&self, outcome: Outcome, cx: &mut RequestContext<'_>) {
        cx.decisions.push(self.decision(outcome));
    }

    fn decision(&self, outcome: Outcome) -> Decision {
        Decision { policy: self.plugin.policy.clone(), rule: self.rule.clone(), outcome, detail: None }
    }
}
