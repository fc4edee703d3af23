//! A policy that is only tried, in the place of one that held.

use std::collections::BTreeSet;

use super::subject::Subject;
use super::{Findings, Lint};
use crate::kind::Merge;
use crate::kinds::find;
use crate::model::{Mode, Policy};

pub(super) const LINT: Lint = Lint {
    name: "shadow-replaces-enforced",
    about: "a policy in Shadow that takes the place of one that is enforced",
    explanation: "\
The most specific policy of a kind holds, whatever its mode. So one in Shadow on a route switches off the enforced one
on its Gateway for that route: it only tells whom it would have refused, and nobody is refused any more.

    kind: RateLimitPolicy
    spec: {targetRefs: [{kind: Gateway, name: public}], ...}
    ---
    kind: RateLimitPolicy
    spec: {targetRefs: [{kind: HTTPRoute, name: shop}], mode: Shadow, ...}   # shop has no limit while this is tried

To try a limit beside one that holds, write it into the same policy with a mode of its own, or copy what held into the new
policy until it is enforced.",
    look,
};

fn look(subject: &Subject<'_>, findings: &mut Findings) {
    let mut told = BTreeSet::new();
    for (chain, effective) in &subject.ways {
        for shadow in effective.iter().filter(|policy| policy.mode == Mode::Shadow) {
            if find(&shadow.kind).is_none_or(|entry| entry.merge == Merge::AddUp) {
                continue;
            }
            let beaten = chain.targets().filter_map(|target| {
                let rivals = subject.attachments.rivals(target, &shadow.kind);
                rivals.first().copied().filter(|rival| rival.meta.name != shadow.meta.name)
            });
            let Some(enforced) = beaten.filter(|policy| policy.mode == Mode::Enforce).last() else {
                continue;
            };
            if told.insert((shadow.key(), enforced.key())) {
                tell(shadow, enforced, findings);
            }
        }
    }
}

fn tell(shadow: &Policy, enforced: &Policy, findings: &mut Findings) {
    let name = &enforced.meta.name;
    let message = format!(
        "while it is in Shadow, this policy takes the place of {} {name}, which is enforced",
        shadow.kind
    );
    findings
        .tell_policy(shadow, "/mode", message)
        .help("enforce it, or try it beside what holds, as rules of the same policy")
        .related(&enforced.meta.source, "what held without it");
}
