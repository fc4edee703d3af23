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

use crate::model::{Policy, PolicyKey, TargetRef};

pub use chain::{Chain, Place};
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
    /// of it holds, the rule's before the backendRef's. Ordered by kind.
    pub fn effective(&self, chain: &Chain) -> Vec<&'a Policy> {
        let mut winners = BTreeMap::<&Arc<str>, Vec<&Policy>>::new();
        for target in chain.targets() {
            for (kind, rivals) in self.by_target.get(target).into_iter().flatten() {
                if let Some(winner) = rivals.first() {
                    winners.insert(kind, vec![*winner]);
                }
            }
        }
        let mut named = BTreeMap::<_, Vec<&Policy>>::new();
        for policy in chain.extensions().filter_map(|key| self.by_key.get(key).copied()) {
            let of_kind = named.entry(&policy.kind).or_default();
            if !of_kind.iter().any(|known| std::ptr::eq(*known, policy)) {
                of_kind.push(policy);
            }
        }
        winners.extend(named);
        winners.into_values().flatten().collect()
    }

    /// The policies of one kind on one target, winner first.
    pub fn rivals(&self, target: &TargetRef, kind: &str) -> &[&'a Policy] {
        self.by_target.get(target).and_then(|kinds| kinds.get(kind)).map_or(&[], Vec::as_slice)
    }
}
