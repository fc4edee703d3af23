//! Asks for the plugin, and takes what it says for its own word.

use std::sync::Arc;

use crate::decision::{Decision, Outcome, RuleRef};
use crate::pipeline::{Effect, Filter, Performed, Phase, RequestContext, Verdict};
use crate::plugin::{Failure, Plugged, Plugin};
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
        let (policy, rule) = (self.plugin.policy.clone(), self.rule.clone());
        cx.decisions.push(Decision { policy, rule, outcome, detail: None });
    }
}
