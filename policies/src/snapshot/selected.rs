//! The target of one request, and what it goes by there.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, request};

use super::{Rule, Selected, Target};
use crate::balance::{Asker, EndpointState, HashKey};
use crate::expression::Facts;
use crate::health::{CapKey, KeyedCap};
use crate::jwt::Claims;
use crate::model::Peer;
use crate::pick::{PickContext, Session};
use crate::reason::Reason;

impl Selected {
    /// Picks a target of the rule for the one who asks.
    ///
    /// # Errors
    /// [`Reason::NoBackend`] where no target has a weight.
    pub fn pick(rule: &Arc<Rule>, cx: &mut PickContext<'_>) -> Result<Self, Reason> {
        if let Some((target, session)) = rule.sessions.as_ref().and_then(|sessions| sessions.find(cx)) {
            return Ok(Self::of(rule, target, Some(session), cx));
        }
        let target = match &rule.cohort {
            Some(cohort) => cohort.pick(cx, |rng| rule.draw(rng))?,
            None => rule.draw(cx.rng)?,
        };
        Ok(Self::of(rule, target, None, cx))
    }

    fn of(rule: &Arc<Rule>, target: usize, session: Option<Session>, cx: &PickContext<'_>) -> Self {
        let facts = Facts { head: cx.head, peer: cx.peer, route: rule.route.as_deref(), claims: None };
        let to = &rule.targets[target];
        let key = to.hash_key().and_then(|key| key.of(Asker(&facts)));
        let counted = to.key_caps().map_or(CapKey::Uncounted, |caps| caps.key(Asker(&facts)));
        Self { rule: rule.clone(), target, session, key, counted }
    }

    /// Looks for the key again, where it goes by what the token claims that the policies have verified since.
    pub fn identified(&mut self, head: &request::Parts, peer: &Peer, claims: &Claims) {
        let Some(key) = self.target().hash_key().filter(|key| key.asks_claims()) else { return };
        let facts = Facts { head, peer, route: self.rule.route.as_deref(), claims: Some(claims) };
        self.key = key.of(Asker(&facts));
    }

    /// Picks a target of the rule by weight, whoever asks.
    pub(super) fn by_chance(rule: &Arc<Rule>, rng: &mut fastrand::Rng) -> Result<Self, Reason> {
        Ok(Self {
            rule: rule.clone(),
            target: rule.draw(rng)?,
            session: None,
            key: None,
            counted: CapKey::Uncounted,
        })
    }

    /// Where the rule has sessions, tells the client by `headers` that it was answered by this endpoint, if it does not
    /// know. `at`: whether by TLS, and the time since the Unix epoch; asked for only then.
    pub fn remember(
        &self,
        endpoint: &Arc<EndpointState>,
        at: impl FnOnce() -> (bool, Duration),
        headers: &mut HeaderMap,
    ) {
        if let Some(sessions) = &self.rule.sessions {
            sessions.tell((self.target, endpoint), self.session.as_ref(), at(), headers);
        }
    }

    /// The place of the target in its rule.
    pub(crate) fn position(&self) -> usize {
        self.target
    }

    pub fn target(&self) -> &Target {
        &self.rule.targets[self.target]
    }

    /// The hash by which a connection goes that is carried as a whole, where its target goes by one.
    pub fn key_of(&self, peer: &Peer) -> Option<u64> {
        self.target().hash_key()?.of_connection(peer)
    }

    /// Whom such a connection is counted with.
    pub fn counted_of(&self, peer: &Peer) -> CapKey {
        self.target().key_caps().map_or(CapKey::Uncounted, |caps| caps.key_of_connection(peer))
    }
}

impl Target {
    fn hash_key(&self) -> Option<&Arc<dyn HashKey>> {
        self.balancer.as_ref()?.settings.key.as_ref()
    }

    fn key_caps(&self) -> Option<&KeyedCap> {
        self.guard.as_ref()?.key_caps()
    }
}
