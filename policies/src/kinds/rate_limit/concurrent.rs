//! `concurrent`: how many requests of a key are under way at one time, from their judgement to the end of their answer.

mod places;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::idle::{self, Counted};
use super::key::{self, Key, KeyPart, KeySpec};
use super::{LimitMode, condition, key_parts};
use crate::decision::{Decision, Detail, Outcome, RuleRef};
use crate::expression::Expression;
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::model::PolicyRef;
use crate::pipeline::RequestContext;
use crate::reason::Reason;
use crate::state::{StateKey, StateStore};
use places::{Place, Places};

/// At most so many requests at one time, in each proxy.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ConcurrentSpec {
    /// For logs, traces and metrics; unique in the policy, its limits included.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// At least 1.
    #[schemars(range(min = 1))]
    at_most: u32,
    /// What is counted apart. Default: nothing, one count for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    key: Vec<KeySpec>,
    /// The requests that are counted, as `when` of a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    when: Option<String>,
    /// Shadow: only tells whom it would have refused. Default: the mode of the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<LimitMode>,
}

/// The same, valid.
#[derive(Debug)]
pub(super) struct Concurrent {
    rule: Arc<RuleRef>,
    most: u32,
    key: Arc<[KeyPart]>,
    when: Option<Arc<Expression>>,
    shadow: bool,
}

/// Joined to its count.
#[derive(Debug)]
pub(super) struct BoundConcurrent {
    rule: Arc<RuleRef>,
    most: u32,
    key: Arc<[KeyPart]>,
    when: Option<Arc<Expression>>,
    shadow: bool,
    places: Arc<Places>,
}

impl ConcurrentSpec {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn key(&self) -> &[KeySpec] {
        &self.key
    }

    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Concurrent> {
        check::name(cx, &format!("{at}/name"), &self.name);
        if self.at_most == 0 {
            cx.error(format!("{at}/atMost"), "0 is out of range: use at least 1");
        }
        let key = key_parts(&self.key, KeySpec::compile, &format!("{at}/key"), cx);
        let when = condition(self.when.as_deref(), &format!("{at}/when"), cx);
        Some(Concurrent {
            rule: cx.rule(&self.name, at),
            most: self.at_most,
            key: key?,
            when,
            shadow: LimitMode::is_shadow(self.mode, cx),
        })
    }
}

impl idle::Written for Concurrent {
    fn rule(&self) -> &Arc<RuleRef> {
        &self.rule
    }
}

impl Concurrent {
    /// Whether it refuses whomever `other` would, and before.
    pub(super) fn beats(&self, other: &Self) -> bool {
        self.most <= other.most && self.counted().includes(other.counted())
    }

    fn counted(&self) -> Counted<'_> {
        Counted { key: &self.key, when: self.when.as_ref(), shadow: self.shadow }
    }

    /// Another `atMost` finds the same count.
    pub(super) fn bind(&self, owner: &Arc<str>, store: &StateStore) -> BoundConcurrent {
        let part = format!("{}{}|concurrent", self.rule.name, key::describe(&self.key));
        BoundConcurrent {
            rule: Arc::clone(&self.rule),
            most: self.most,
            key: Arc::clone(&self.key),
            when: self.when.clone(),
            shadow: self.shadow,
            places: store.get_or_insert(StateKey::new(Arc::clone(owner), part), Places::default),
        }
    }
}

impl BoundConcurrent {
    /// Its rule, and what it counts apart.
    pub(super) fn counts_by(&self) -> (&Arc<RuleRef>, &Arc<[KeyPart]>) {
        (&self.rule, &self.key)
    }

    /// Takes a place for the request, if it is counted, until its answer is out.
    ///
    /// # Errors
    /// All are taken, or the request does not have what it must have.
    pub(super) fn take(
        &self,
        policy: &Arc<PolicyRef>,
        seed: [u64; 2],
        cx: &mut RequestContext<'_>,
    ) -> Result<Option<Place>, ()> {
        if !super::filter::holds(self.when.as_deref(), cx) {
            return Ok(None);
        }
        let place = match key::of(&self.key, cx, seed) {
            Key::Of(key) => self.places.take(key, self.most),
            Key::Skip => return Ok(None),
            Key::Deny => None,
        };
        let outcome = match (&place, self.shadow) {
            (Some(_), _) => Outcome::Allowed,
            (None, false) => Outcome::Refused(Reason::RateLimited),
            (None, true) => Outcome::WouldRefuse(Reason::RateLimited),
        };
        let (policy, rule) = (Arc::clone(policy), Arc::clone(&self.rule));
        cx.decisions.push(Decision { policy, rule, outcome, detail: Some(Detail::Cap(self.most)) });
        if place.is_none() && !self.shadow { Err(()) } else { Ok(place) }
    }
}
