//! A second attempt that is due when the first one is over.

use std::collections::BTreeSet;
use std::time::Duration;

use super::subject::Subject;
use super::{Findings, Lint};
use crate::call::{HedgeAfter, Limit};
use crate::model::Policy;

pub(super) const LINT: Lint = Lint {
    name: "hedge-too-late",
    about: "a hedge that is never made, for its attempt has timed out by then",
    explanation: "\
A hedge is a second attempt beside one that has not answered for so long. If that one may not even take so long, there is
nothing left beside which it could be made.

    kind: RetryPolicy
    spec: {perTryTimeout: 500ms, hedge: {after: 1s}}

Hedge earlier: at what most answers take, and well before the timeout.",
    look,
};

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    let mut told = BTreeSet::new();
    for target in subject.rules().into_iter().flat_map(|rule| rule.targets.iter()) {
        let plan = &target.plan;
        let Some((retry, hedge)) = plan.retry.as_ref().and_then(|retry| Some((retry, retry.hedge.as_ref()?)))
        else {
            continue;
        };
        let (HedgeAfter::Fixed(after), Some(said)) = (hedge.after, &retry.said) else { continue };
        let limits = [plan.times.per_try.as_ref(), plan.times.request.as_ref()];
        let Some(limit) = limits.into_iter().flatten().find(|limit| limit.after <= after) else { continue };
        let Some(policy) = subject.policy(&said.policy) else { continue };
        if told.insert((policy.key(), limit.after)) {
            tell((policy, after), limit, findings);
        }
    }
}

fn tell((policy, after): (&Policy, Duration), limit: &Limit, findings: &mut Findings) {
    let ends = limit.after;
    let message =
        format!("there is never a hedge: it is due after {after:?}, and an attempt ends after {ends:?}");
    let finding = findings.tell_policy(policy, "/hedge/after", message);
    finding.help(format!("hedge well before {ends:?}"));
    if let Some(said) = &limit.said {
        finding.related(&said.rule.source, "what ends an attempt");
    }
}
