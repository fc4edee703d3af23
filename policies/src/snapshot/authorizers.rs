//! Who may do what, on the way of some traffic: a filter for each target that has a word on that.

use std::sync::Arc;

use super::build::Builder;
use super::policies::Behaviour;
use crate::attach::Chain;
use crate::kinds::authorization::{Authorizer, KIND};
use crate::model::{Policy, PolicyRef};
use crate::pipeline::Filter;

/// See the module.
#[derive(Default)]
pub(super) struct Authorizers {
    /// The least specific first. All of them must let pass.
    pub(super) filters: Vec<Arc<dyn Filter>>,
    /// Place of the kind in the registry.
    pub(super) order: usize,
    pub(super) applied: Vec<Arc<PolicyRef>>,
}

impl Builder<'_> {
    /// Those of all chains together, each target once. `port`: where it arrives that meets them.
    pub(super) fn authorizers(&self, chains: &[Chain], port: Option<u16>) -> Authorizers {
        let (mut found, mut seen) = (Authorizers::default(), Vec::<Vec<*const Policy>>::new());
        for level in chains.iter().flat_map(|chain| self.attachments.levels(chain, KIND)) {
            let same: Vec<_> = level.iter().map(|policy| std::ptr::from_ref(*policy)).collect();
            if seen.contains(&same) {
                continue;
            }
            seen.push(same);
            let mut policies = Vec::new();
            for bound in level.iter().filter_map(|policy| self.policies.get(policy)) {
                let Behaviour::Authorization(authorization) = &bound.behaviour else { continue };
                policies.push(authorization.clone());
                found.order = bound.order;
                if !found.applied.contains(&bound.reference) {
                    found.applied.push(bound.reference.clone());
                }
            }
            found.filters.push(Arc::new(Authorizer::new(policies, port)));
        }
        found
    }
}
