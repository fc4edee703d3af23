//! Target refs -> the effective policy per scope, and what to tell each policy's author about it.
//!
//! The control plane asks for conditions, the proxy for effects; both come from [`Attachments`], so what a status
//! says is what a request meets. Nothing here looks into a policy's spec.

mod chain;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kind::Merge;
use crate::kinds::find;
use crate::model::{Policy, PolicyKey, TargetRef};

pub use chain::{Chain, Place};
pub(crate) use standing::overriders;
pub use standing::{Conflict, Known, Standing, standings};

/// Policies by what they are attached to and by kind; where several of one kind meet on one target, the winner
/// first.
#[derive(Clone, Debug, Default)]
pub struct Attachments<'a> {
    by_target: BTreeMap<TargetRef, BTreeMap<Arc<str>, Vec<&'a Policy>>>,
    by_key: BTreeMap<PolicyKey, &'a Policy>,
}

impl<'a> Attachments<'a> {
    pub fn new(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut by_target = BTreeMap::<TargetRef, BTreeMap<Arc<str>, Vec<&Policy>>>::new();
        let mut by_key = BTreeMap::new();
        for policy in policies {
            by_key.insert(policy.key(), policy);
            for target in &policy.targets {
                let kinds = by_target.entry(target.clone()).or_default();
                let rivals = kinds.entry(policy.kind.clone()).or_default();
                if !rivals.iter().any(|rival| std::ptr::eq(*rival, policy)) {
                    rivals.push(policy);
                }
            }
        }
        for rivals in by_target.values_mut().flat_map(BTreeMap::values_mut) {
            rivals.sort_by(|a, b| a.meta.precedence().cmp(&b.meta.precedence()));
        }
        Self { by_target, by_key }
    }

    /// The policies that hold where `chain` leads: per kind the winner of the most specific target that has one
    /// (GEP-713, the more specific target overrides). What the route itself names takes the place of its kind, and all
    /// of it holds, the rule's before the backendRef's. Kinds that add up hold wherever they are attached or named.
    /// Ordered by kind.
    pub fn effective(&self, chain: &Chain) -> Vec<&'a Policy> {
        let mut winners = BTreeMap::<&Arc<str>, Vec<&Policy>>::new();
        for target in chain.targets() {
            for (kind, rivals) in self.by_target.get(target).into_iter().flatten() {
                if adds_up(kind) {
                    rivals.iter().for_each(|policy| add(winners.entry(kind).or_default(), policy));
                } else if let Some(winner) = rivals.first() {
                    winners.insert(kind, vec![*winner]);
                }
            }
        }
        let mut named = BTreeMap::<_, Vec<&Policy>>::new();
        for policy in self.named(chain) {
            add(named.entry(&policy.kind).or_default(), policy);
        }
        for (kind, named) in named {
            if adds_up(kind) {
                named.into_iter().for_each(|policy| add(winners.entry(kind).or_default(), policy));
            } else {
                winners.insert(kind, named);
            }
        }
        winners.into_values().flatten().collect()
    }

    /// The policies of a kind that adds up, by what they are attached to, from the least specific; each target once. What
    /// the route itself names is the last.
    pub fn levels(&self, chain: &Chain, kind: &str) -> Vec<Vec<&'a Policy>> {
        let (mut seen, mut levels) = (Vec::new(), Vec::new());
        for target in chain.targets() {
            if !seen.contains(&target) {
                seen.push(target);
                levels.push(self.rivals(target, kind).to_vec());
            }
        }
        let mut named = Vec::new();
        self.named(chain).filter(|policy| *policy.kind == *kind).for_each(|policy| add(&mut named, policy));
        levels.push(named);
        levels.retain(|level| !level.is_empty());
        levels
    }

    fn named<'s>(&'s self, chain: &'s Chain) -> impl Iterator<Item = &'a Policy> + 's {
        chain.extensions().filter_map(|key| self.by_key.get(key).copied())
    }

    /// The policies of one kind on one target, winner first.
    pub fn rivals(&self, target: &TargetRef, kind: &str) -> &[&'a Policy] {
        self.by_target.get(target).and_then(|kinds| kinds.get(kind)).map_or(&[], Vec::as_slice)
    }
}

/// Each once.
fn add<'a>(to: &mut Vec<&'a Policy>, policy: &'a Policy) {
    if !to.iter().any(|known| std::ptr::eq(*known, policy)) {
        to.push(policy);
    }
}

fn adds_up(kind: &str) -> bool {
    find(kind).is_some_and(|entry| entry.merge == Merge::AddUp)
}
