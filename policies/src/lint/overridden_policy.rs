//! A policy that holds nowhere, for more specific ones of its kind hold wherever it would.

use std::collections::BTreeSet;

use super::subject::{Subject, key_of};
use super::{Findings, Lint};
use crate::attach::overriders;
use crate::model::{ResourceName, TargetKind};

pub(super) const LINT: Lint = Lint {
    name: "overridden-policy",
    about: "a policy that holds nowhere, for more specific ones of its kind hold wherever it would",
    explanation: "\
Of several policies of one kind on the way of a request, the one on the most specific target holds, alone:
Namespace < Gateway < ListenerSet < a listener < a route < its rule < Service. A policy that is beaten everywhere can be
deleted, and nothing changes.

    kind: RateLimitPolicy            # on the Gateway
    ---
    kind: RateLimitPolicy            # on the only HTTPRoute of that Gateway: it holds, and the other one does not

A policy on a Namespace alone is not told of: a default is there to be overridden.",
    look,
};

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    let told = |valid: &&super::subject::Valid<'_>| {
        let conditions = subject.resolved.conditions.get(&key_of(valid.policy));
        let overridden = conditions.is_some_and(|all| all.iter().any(|c| c.kind == "Overridden" && c.holds));
        overridden && valid.policy.targets.iter().any(|target| target.kind != TargetKind::Namespace)
    };
    let overridden: Vec<_> = subject.policies.iter().filter(told).map(|valid| valid.policy).collect();
    if overridden.is_empty() {
        return;
    }
    let by = overriders(&subject.attachments, &subject.ways);
    for policy in overridden {
        let nobody = BTreeSet::new();
        let others: &BTreeSet<ResourceName> =
            by.get(&(policy.kind.to_string(), policy.meta.name.clone())).unwrap_or(&nobody);
        let names = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let message =
            format!("this policy holds nowhere: more specific ones hold wherever it would: {names}");
        let finding = findings.tell_policy(policy, "/targetRefs", message);
        finding.help("delete it, or attach it to something more specific");
        for other in others {
            let key = (policy.kind.to_string(), other.clone());
            if let Some(other) = subject.resources().policies.get(&key) {
                finding.related(&other.meta.source, "this one holds instead");
            }
        }
    }
}
