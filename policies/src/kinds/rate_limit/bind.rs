//! Joins what was compiled to the counters that outlive it.

use std::sync::Arc;

use super::filter::{BoundLimit, RateLimitFilter};
use super::overrides::Override;
use super::scope::{Place, Sharing};
use super::{Limit, RateLimit, exact};
use crate::kind::{BindFilter, Idle};
use crate::kinds::key;
use crate::model::PolicyRef;
use crate::pipeline::Filter;
use crate::state::StateStore;

impl BindFilter for RateLimit {
    fn bind(&self, state: &StateStore) -> Arc<dyn Filter> {
        let owner: Arc<str> = format!("{}/{}", self.policy.kind, self.policy.name).into();
        let percent = self.sharing.exact().map(exact::Exact::percent);
        let limits =
            self.limits.iter().map(|limit| limit.bind(&owner, &self.policy, self.sharing, state)).collect();
        Arc::new(RateLimitFilter {
            policy: Arc::clone(&self.policy),
            when: self.when.clone(),
            limits,
            concurrent: self.concurrent.iter().map(|one| one.bind(&owner, state)).collect(),
            quotas: self.quotas.iter().map(|quota| quota.bind(&owner, percent, state)).collect(),
            connections: self.connections.iter().map(|one| one.bind(&owner, &self.policy, state)).collect(),
            policy_field: self.policy_field.clone(),
            told: self.told,
            exact: self.sharing.exact(),
            on_limit: self.on_limit.clone(),
            seed: state.hash_seed(),
        })
    }

    fn idle(&self) -> Vec<Idle> {
        self.idle_rules()
    }
}

impl Limit {
    pub(super) fn bind(
        &self,
        owner: &Arc<str>,
        policy: &PolicyRef,
        sharing: Sharing,
        store: &StateStore,
    ) -> BoundLimit {
        let (limit, mut parts) = (&self.rule.name, key::describe(&self.key));
        let mut rate = sharing.rate(self.written, self.rate);
        // Times of another kind, for whoever finds them.
        if self.from.is_some() {
            parts.push_str("|from");
            rate = self.rate;
        }
        let policy = policy.name.to_string();
        let place = Place { owner, policy: &policy, limit, parts: &parts, own: None };
        BoundLimit {
            rule: Arc::clone(&self.rule),
            written: self.written,
            from: self.from.as_ref().map(|from| from.shared(sharing.exact())),
            member: self.member.as_str().into(),
            own: Override::bind((&self.overrides, &self.key), place, sharing, store),
            key: Arc::clone(&self.key),
            when: self.when.clone(),
            cost: self.cost.clone(),
            response_cost: self.response_cost.clone(),
            shadow: self.shadow,
            counters: sharing.counters(place, (self.written, rate), !self.key.is_empty(), store),
        }
    }
}
