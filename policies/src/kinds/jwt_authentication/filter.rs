//! WHERE A TOKEN IS JUDGED: found, verified or known from before, and within its time; then its claims are the request's.
//!
//! In Shadow, a token that holds has its claims known all the same, so that what is keyed by them can be tried as well; nobody is
//! refused, and not one byte of the request is changed.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::place::Place;
use super::provider::Provider;
use super::told::Challenges;
use crate::decision::{Decision, Detail, Outcome, RuleRef};
use crate::jwt::{Cache, KeySource, KeysAwaited, Token, TokenFault, Verified};
use crate::model::PolicyRef;
use crate::pipeline::{Effect, Filter, Performed, Phase, RequestContext, Verdict};
use crate::reason::Reason;
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct JwtFilter {
    pub(super) policy: Arc<PolicyRef>,
    pub(super) rule: Arc<RuleRef>,
    pub(super) providers: Arc<[Provider]>,
    pub(super) places: Arc<[Place]>,
    pub(super) allow_missing: bool,
    pub(super) shadow: bool,
    pub(super) challenges: Challenges,
    pub(super) cache: Arc<Cache>,
    /// By provider: where its keys are to be fetched, if they are.
    pub(super) remote: Box<[Option<Arc<KeySource>>]>,
    /// The same without those that are not.
    pub(super) sources: Box<[Arc<KeySource>]>,
}

/// What is wrong, and with whose token if that can be told.
type Fault = (TokenFault, Option<usize>);
/// The token of a request, if it has one.
type Judged<'a> = Result<Option<(&'a Place, Verified)>, Fault>;

impl Filter for JwtFilter {
    fn phase(&self) -> Phase {
        Phase::Authenticate
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        let judged = self.judge(cx);
        if let Err((TokenFault::KeysUnavailable, Some(at))) = judged
            && let Some(awaited) = self.first_keys(at)
        {
            return Verdict::Effect(Effect::Keys(awaited));
        }
        self.conclude(judged, cx)
    }

    /// Whether the keys are there by now or not: nobody waits twice.
    fn on_effect(&self, cx: &mut RequestContext<'_>, _: &Performed) -> Verdict {
        self.conclude(self.judge(cx), cx)
    }

    fn key_sources(&self) -> &[Arc<KeySource>] {
        &self.sources
    }
}

impl JwtFilter {
    fn conclude(&self, judged: Judged<'_>, cx: &mut RequestContext<'_>) -> Verdict {
        if !self.shadow {
            self.providers.iter().for_each(|provider| remove_alike(provider, &mut cx.head.headers));
        }
        match judged {
            Ok(Some((place, verified))) => {
                self.accept(place, &verified, cx);
                Verdict::Continue
            }
            Ok(None) if self.allow_missing => {
                self.decide(Outcome::Allowed, (TokenFault::Missing, self.sole()), cx);
                Verdict::Continue
            }
            Ok(None) => self.refuse((TokenFault::Missing, self.sole()), cx),
            Err(fault) => self.refuse(fault, cx),
        }
    }

    /// What is worth waiting for: keys that were never asked for until now.
    fn first_keys(&self, at: usize) -> Option<KeysAwaited> {
        let source = self.remote[at].as_ref()?;
        let patience = source.at.wait;
        let waits = !self.shadow && !patience.is_zero() && source.is_new();
        waits.then(|| KeysAwaited { source: source.clone(), patience })
    }

    /// The token of a request; `None` where it has none.
    fn judge(&self, cx: &RequestContext<'_>) -> Judged<'_> {
        let mut found: Option<(&Place, Cow<'_, [u8]>)> = None;
        for place in self.places.iter() {
            let blame = |fault| (fault, place.only_provider());
            let Some(token) = place.location.find(cx.head).map_err(blame)? else { continue };
            if found.is_some() {
                // RFC 6750, 2: one method to send a token in each request.
                return Err((TokenFault::Several, self.sole()));
            }
            found = Some((place, token));
        }
        let Some((place, token)) = found else { return Ok(None) };
        let verified = self.verify(&token, place, (cx.now, (cx.unix)()))?;
        Ok(Some((place, verified)))
    }

    fn verify(
        &self,
        text: &[u8],
        place: &Place,
        (clock, now): (Timestamp, Duration),
    ) -> Result<Verified, Fault> {
        let blame = |fault| (fault, place.only_provider());
        if Token::is_too_long(text) {
            return Err(blame(TokenFault::TooLong));
        }
        let digest = Cache::digest(text);
        let holds = |known: &Verified| {
            let number = |source: &Arc<KeySource>| source.number(clock);
            place.providers.contains(&known.provider)
                && self.remote[known.provider].as_ref().map_or(Some(0), number) == Some(known.keys)
        };
        if let Some(known) = self.cache.get(&digest).filter(holds) {
            return self.within_time(known, now);
        }
        let token = Token::read(text).map_err(blame)?;
        let named = |at: &&usize| token.issuer() == Some(&*self.providers[**at].issuer.name);
        let at = *place.providers.iter().find(named).ok_or((TokenFault::Issuer, None))?;
        let keys = self.verify_by(at, &token, clock).map_err(|fault| (fault, Some(at)))?;
        let verified = self.within_time(Verified::new(at, keys, token), now)?;
        self.cache.insert(digest, verified.clone());
        Ok(verified)
    }

    /// By the keys of a provider; the number of their set.
    fn verify_by(&self, at: usize, token: &Token<'_>, now: Timestamp) -> Result<u64, TokenFault> {
        let issuer = &self.providers[at].issuer;
        let Some(source) = &self.remote[at] else { return issuer.verify(token).map(|()| 0) };
        let (keys, number) = source.keys(now).ok_or(TokenFault::KeysUnavailable)?;
        let verified = issuer.verify_by(&keys, token);
        if verified == Err(TokenFault::Key) {
            source.misses(now);
        }
        verified.map(|()| number)
    }

    fn within_time(&self, verified: Verified, now: Duration) -> Result<Verified, Fault> {
        let leeway = self.providers[verified.provider].leeway;
        let at = verified.provider;
        verified.times.check(now, leeway).map(|()| verified).map_err(|fault| (fault, Some(at)))
    }

    fn accept(&self, place: &Place, verified: &Verified, cx: &mut RequestContext<'_>) {
        let provider = &self.providers[verified.provider];
        if !self.shadow {
            if !provider.forward {
                place.location.remove(cx.head);
            }
            provider.tell(&verified.claims, &mut cx.head.headers);
        }
        *cx.claims = Some(verified.claims.clone());
        let (policy, rule) = (self.policy.clone(), provider.rule.clone());
        cx.decisions.push(Decision { policy, rule, outcome: Outcome::Allowed, detail: None });
    }

    fn refuse(&self, fault: Fault, cx: &mut RequestContext<'_>) -> Verdict {
        let reason = match fault.0 {
            TokenFault::KeysUnavailable => Reason::KeysUnavailable,
            _ => Reason::Unauthenticated,
        };
        if self.shadow {
            self.decide(Outcome::WouldRefuse(reason), fault, cx);
            return Verdict::Continue;
        }
        self.decide(Outcome::Refused(reason), fault, cx);
        Verdict::Reply(self.challenges.refusal(fault.0))
    }

    fn decide(&self, outcome: Outcome, (fault, at): Fault, cx: &mut RequestContext<'_>) {
        let rule = at.map_or(&self.rule, |at| &self.providers[at].rule).clone();
        let detail = Some(Detail::Token(fault));
        cx.decisions.push(Decision { policy: self.policy.clone(), rule, outcome, detail });
    }

    /// The provider, where there is one.
    fn sole(&self) -> Option<usize> {
        (self.providers.len() == 1).then_some(0)
    }
}

impl Place {
    fn only_provider(&self) -> Option<usize> {
        match *self.providers {
            [only] => Some(only),
            _ => None,
        }
    }
}

/// What only we may say of a request. Many an application server takes `x_user` for `x-user`.
fn remove_alike(provider: &Provider, headers: &mut HeaderMap) {
    for name in provider.header_names() {
        headers.remove(name);
    }
    let same = |a: u8, b: u8| a == b || (matches!(a, b'-' | b'_') && matches!(b, b'-' | b'_'));
    let alike = |name: &HeaderName, own: &HeaderName| {
        let (name, own) = (name.as_str().as_bytes(), own.as_str().as_bytes());
        name.len() == own.len() && name.iter().zip(own).all(|(a, b)| same(*a, *b))
    };
    if provider.header_names().next().is_none() || !headers.keys().any(|name| name.as_str().contains('_')) {
        return;
    }
    let impostors: Vec<_> =
        headers.keys().filter(|name| provider.header_names().any(|own| alike(name, own))).cloned().collect();
    for name in impostors {
        headers.remove(name);
    }
}
