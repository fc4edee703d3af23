//! Attempts that the request has no time for.

use std::collections::BTreeSet;
use std::time::Duration;

use super::subject::{Subject, of_rule};
use super::{Findings, Lint};
use crate::call::{CallPlan, Condition, Limit, RetryRule};
use crate::snapshot::Rule;

pub(super) const LINT: Lint = Lint {
    name: "retries-exceed-timeout",
    about: "retries for which the request has no time left",
    explanation: "\
The request timeout holds for all attempts together. Where each of them may take its full time, the last ones are never
made, or are cut short.

    kind: TimeoutPolicy
    spec: {request: 5s, perTry: 2s}
    ---
    kind: RetryPolicy
    spec: {attempts: 3, retryOn: {conditions: [Timeout]}}    # with the first one 4 times 2s: 8s

What is not made again after a timeout is not told: it fails early. Shorten the time of one attempt, write fewer attempts, or give the request longer. The waits between attempts are not
counted here: they come on top.",
    look,
};

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    let mut told = BTreeSet::new();
    for rule in subject.rules() {
        for target in &rule.targets {
            let Some(found) = Found::of(&target.plan) else { continue };
            let place = format!("{:?} {:?} {:?}", found.retry.said, found.per_try, found.request);
            let own = found.retry.said.is_none().then(|| rule.source.clone());
            if told.insert((place, own.map(|own| format!("{own:?}")))) {
                tell(subject, rule, &found, findings);
            }
        }
    }
}

/// What does not fit.
struct Found<'a> {
    retry: &'a RetryRule,
    per_try: &'a Limit,
    request: &'a Limit,
    /// So many attempts fit, with the first one.
    fit: u128,
}

impl<'a> Found<'a> {
    fn of(plan: &'a CallPlan) -> Option<Self> {
        let retry =
            plan.retry.as_deref().filter(|retry| retry.attempts > 0 && retry.on.has(Condition::Timeout))?;
        let (per_try, request) = (plan.times.per_try.as_ref()?, plan.times.request.as_ref()?);
        let all = per_try.after.checked_mul(retry.attempts + 1).unwrap_or(Duration::MAX);
        // Hedges run beside each other.
        let fit = request.after.as_nanos().div_ceil(per_try.after.as_nanos().max(1));
        (all > request.after && retry.hedge.is_none()).then_some(Self { retry, per_try, request, fit })
    }
}

fn tell(subject: &Subject<'_>, rule: &Rule, found: &Found<'_>, findings: &mut Findings) {
    let Found { retry, per_try, request, fit } = found;
    let attempts = retry.attempts + 1;
    let (each, whole) = (per_try.after, request.after);
    let message = if *fit >= u128::from(attempts) {
        format!(
            "{attempts} attempts of {each:?} take longer than the request may ({whole:?}): the last is cut short"
        )
    } else if *fit <= 1 {
        format!(
            "one attempt may take {each:?} and the whole request {whole:?}: an attempt that times out is never made again"
        )
    } else {
        format!(
            "{attempts} attempts of {each:?} take longer than the request may ({whole:?}): {fit} of them are begun at most"
        )
    };
    let policy = retry.said.as_ref().and_then(|said| subject.policy(&said.policy));
    let finding = match policy {
        Some(policy) => findings.tell_policy(policy, "/attempts", message),
        None => {
            let Some((key, at)) = of_rule(subject, rule, "/retry") else { return };
            findings.tell(key, at, message)
        }
    };
    let most = whole / attempts;
    finding.help(format!("let one attempt take {most:?} at most, or write fewer attempts"));
    for (limit, what) in [(per_try, "one attempt"), (request, "the whole request")] {
        match &limit.said {
            Some(said) => drop(finding.related(&said.rule.source, format!("the time for {what}"))),
            None => {
                if let Some(source) = &rule.source {
                    finding.related(source, format!("the time for {what}"));
                }
            }
        }
    }
}
