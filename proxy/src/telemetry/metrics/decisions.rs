//! What the policies said, counted per rule; and, per rule, where it was written.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use tidegate_policy::decision::RuleRef;
use tidegate_policy::{Decision, Outcome};

use super::labels::{OutcomeLabels, PolicyName, RuleLabels, SourceLabels};
use super::series::{OTHER, Series};

/// A source line moves with every edit of its file, so it is no label of the counters: it is told by an info
/// metric, for the last rule seen under a name.
#[derive(Debug)]
pub(super) struct DecisionCounts(Series<RuleLabels, RuleCounts>);

#[derive(Debug, Default)]
struct RuleCounts {
    allowed: Counter,
    audited: Counter,
    refused: Counter,
    would_refuse: Counter,
    picked: Counter,
    would_pick: Counter,
    retried: Counter,
    hedged: Counter,
    not_retried: Counter,
    would_retry: Counter,
    injected: Counter,
    would_inject: Counter,
    rule: ArcSwapOption<RuleRef>,
}

impl DecisionCounts {
    pub(super) fn new(cap: usize) -> Self {
        Self(Series::new(cap, RuleCounts::default))
    }

    pub(super) fn count(&self, decision: &Decision) {
        let labels = RuleLabels {
            kind: decision.policy.kind.clone(),
            policy: PolicyName(decision.policy.name.clone()),
            rule: decision.rule.name.clone(),
        };
        self.0.with(&labels, |counts| counts.count(decision));
    }
}

impl RuleCounts {
    fn count(&self, decision: &Decision) {
        let counter = match decision.outcome {
            Outcome::Allowed => &self.allowed,
            Outcome::Audited => &self.audited,
            Outcome::Refused(_) => &self.refused,
            Outcome::WouldRefuse(_) => &self.would_refuse,
            Outcome::Picked => &self.picked,
            Outcome::WouldPick => &self.would_pick,
            Outcome::Retried => &self.retried,
            Outcome::Hedged => &self.hedged,
            Outcome::NotRetried => &self.not_retried,
            Outcome::WouldRetry => &self.would_retry,
            Outcome::Injected => &self.injected,
            Outcome::WouldInject => &self.would_inject,
        };
        counter.inc();
        let known = self.rule.load();
        if !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, &decision.rule)) {
            self.rule.store(Some(decision.rule.clone()));
        }
    }

    /// What a rule of this kind can decide: to let pass or not, to audit, to pick or not, or to send again or not; and to inject, where
    /// it has.
    fn each(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        let judges =
            [("allowed", &self.allowed), ("refused", &self.refused), ("would_refuse", &self.would_refuse)];
        let picks = [("picked", &self.picked), ("would_pick", &self.would_pick)];
        let retries = [
            ("retried", &self.retried),
            ("hedged", &self.hedged),
            ("not_retried", &self.not_retried),
            ("would_retry", &self.would_retry),
        ];
        let has_picked = picks.iter().any(|(_, counter)| counter.get() > 0);
        let has_retried = retries.iter().any(|(_, counter)| counter.get() > 0);
        let has_audited = self.audited.get() > 0;
        let judges = judges.into_iter().filter(move |_| !has_picked && !has_retried && !has_audited);
        let audits = [("audited", &self.audited)].into_iter().filter(move |_| has_audited);
        let picks = picks.into_iter().filter(move |_| has_picked);
        let injects = [("injected", &self.injected), ("would_inject", &self.would_inject)];
        let injects = injects.into_iter().filter(|(_, counter)| counter.get() > 0);
        judges
            .chain(audits)
            .chain(picks)
            .chain(retries.into_iter().filter(move |_| has_retried))
            .chain(injects)
    }
}

impl Collector for DecisionCounts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut counters = encoder.encode_descriptor(
            "tidegate_policy_decisions",
            "Decisions of policies, by rule and outcome",
            None,
            MetricType::Counter,
        )?;
        self.0.each(|labels, counts| {
            counts.each().try_for_each(|(outcome, counter)| {
                let RuleLabels { kind, policy, rule } = labels.clone();
                counter.encode(counters.encode_family(&OutcomeLabels { kind, policy, rule, outcome })?)
            })
        })?;
        let mut infos = encoder.encode_descriptor(
            "tidegate_policy_rule",
            "Where the rule that decided last under this name is written",
            None,
            MetricType::Info,
        )?;
        self.0.each(|labels, counts| {
            let Some(source) = counts.rule.load().as_ref().map(|rule| rule.source.to_string()) else {
                return Ok(());
            };
            let RuleLabels { kind, policy, rule } = labels.clone();
            // Many rules share the overflow labels; no line is theirs.
            if &*rule == OTHER {
                return Ok(());
            }
            infos.encode_info(&SourceLabels { kind, policy, rule, source })
        })?;
        Ok(())
    }
}
