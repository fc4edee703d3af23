//! Session persistence (GEP-1619): once answered, a client goes back to the same endpoint of the same backend.
//!
//! A session is a token that the client brings back: when it began, when it was last seen, and a hash of where it leads,
//! salted with the rule. Nobody has to remember it, and all proxies read it alike, after a restart too. What it leads to
//! is looked up among the endpoints of the rule, so that the worst a made-up token does is to choose one of these, which
//! its maker could do by asking again and again. The hash keeps addresses out of sight, but there is no shared secret in
//! it: whoever knows the rule's name and guesses an address can confirm the guess. A client may also give its session
//! a longer life than the rule does, for itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustc_hash::FxHashMap;

use super::cookie::{self, CookieSettings, SameSite};
use super::{PickContext, hash};
use crate::balance::EndpointState;
use crate::model::{SessionCarrier, SessionPersistence};

/// The first byte of every token.
const VERSION: u8 = 1;
const TOKEN_BYTES: usize = 17;
/// In base64, without padding.
const TOKEN_CHARS: usize = 23;
/// How far another proxy's clock may be ahead of ours, in seconds.
const SKEW: u32 = 300;

/// The sessions of one rule.
#[derive(Debug)]
pub struct Sessions {
    carrier: Carrier,
    absolute: Option<u32>,
    idle: Option<u32>,
    /// What every target is called in the hash of a place.
    names: Box<[Box<str>]>,
    scope: Box<str>,
    /// Where tokens lead: the target, and its endpoint.
    places: FxHashMap<u64, (usize, Arc<EndpointState>)>,
}

#[derive(Debug)]
enum Carrier {
    Cookie { settings: CookieSettings, permanent: bool },
    Header(HeaderName),
}

/// The session that a request brought.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where it leads.
    pub endpoint: Arc<EndpointState>,
    token: Token,
}

/// Times are in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    began: u32,
    seen: u32,
    place: u64,
}

/// One target of the rule: what its backendRef is called, and the endpoints behind it.
pub type Leads<'a> = (&'a str, &'a [Arc<EndpointState>]);

impl Sessions {
    /// `scope`: what tells the rule from every other; two rules never share a session.
    pub fn bind<'a>(
        settings: &SessionPersistence,
        scope: &str,
        targets: impl Iterator<Item = Leads<'a>>,
    ) -> Self {
        let mut met = BTreeMap::<&str, usize>::new();
        let (mut names, mut places) = (Vec::new(), FxHashMap::default());
        for (target, (identity, endpoints)) in targets.enumerate() {
            // A backend may be there twice, with other filters.
            let before = met.entry(identity).or_default();
            let name: Box<str> = format!("{identity}#{before}").into();
            *before += 1;
            for endpoint in endpoints {
                let place = place(scope, &name, endpoint);
                places.entry(place).or_insert_with(|| (target, endpoint.clone()));
            }
            names.push(name);
        }
        Self {
            carrier: Carrier::of(&settings.carrier, scope),
            absolute: settings.absolute_timeout.map(seconds),
            idle: settings.idle_timeout.map(seconds),
            names: names.into(),
            scope: scope.into(),
            places,
        }
    }

    /// What carries the session, for people.
    pub fn describe(&self) -> String {
        match &self.carrier {
            Carrier::Cookie { settings, .. } => format!("cookie {}", settings.name),
            Carrier::Header(name) => format!("header {name}"),
        }
    }

    /// The target and the session that a request brings, if it brings one that is valid and its endpoint is there. Of
    /// several cookies of the name, the first that is.
    pub fn find(&self, cx: &PickContext<'_>) -> Option<(usize, Session)> {
        let now = seconds((cx.unix)());
        let of = |value: &[u8]| {
            let token = Token::read(value).filter(|token| self.is_valid(*token, now))?;
            let (target, endpoint) = self.places.get(&token.place)?;
            Some((*target, Session { endpoint: endpoint.clone(), token }))
        };
        let headers = &cx.head.headers;
        match &self.carrier {
            Carrier::Cookie { settings, .. } => cookie::values(headers, &settings.name).find_map(of),
            Carrier::Header(name) => headers.get_all(name).iter().find_map(|value| of(value.as_bytes())),
        }
    }

    fn is_valid(&self, Token { began, seen, .. }: Token, now: u32) -> bool {
        let past = began.max(seen) <= now.saturating_add(SKEW);
        let young = self.absolute.is_none_or(|limit| now < began.saturating_add(limit));
        past && young && self.idle.is_none_or(|limit| now < seen.saturating_add(limit))
    }

    /// Tells the client where it was answered from, if it does not know: a new session, or one that was about to be
    /// forgotten for idleness.
    pub fn tell(
        &self,
        (target, endpoint): (usize, &Arc<EndpointState>),
        brought: Option<&Session>,
        (secure, unix): (bool, Duration),
        headers: &mut HeaderMap,
    ) {
        let now = seconds(unix);
        let kept = brought.filter(|session| Arc::ptr_eq(&session.endpoint, endpoint));
        let began = match kept {
            Some(Session { token, .. }) if !self.is_stale(*token, now) => return,
            Some(Session { token, .. }) => token.began,
            None => now,
        };
        let Some(name) = self.names.get(target) else { return };
        let token = Token { began, seen: now, place: place(&self.scope, name, endpoint) }.write();
        match &self.carrier {
            Carrier::Header(name) => {
                if let Ok(value) = HeaderValue::try_from(token) {
                    headers.insert(name.clone(), value);
                }
            }
            Carrier::Cookie { settings, permanent } => {
                let left = self
                    .absolute
                    .filter(|_| *permanent)
                    .map(|limit| limit.saturating_sub(now - began.min(now)));
                let max_age = left.map(|left| Duration::from_secs(left.into()));
                let settings = CookieSettings { max_age, ..settings.clone() };
                if let Some(value) = settings.render(&token, secure) {
                    headers.append(SET_COOKIE, value);
                }
            }
        }
    }

    /// Not with every answer: an eighth of the time that a client may be idle is exact enough.
    fn is_stale(&self, token: Token, now: u32) -> bool {
        self.idle.is_some_and(|limit| now.saturating_sub(token.seen) >= (limit / 8).max(1))
    }
}

impl Carrier {
    fn of(written: &SessionCarrier, scope: &str) -> Self {
        match written {
            SessionCarrier::Header(name) => Self::Header(name.clone()),
            SessionCarrier::Cookie { name, path, permanent } => {
                let own =
                    || format!("tidegate-session-{:08x}", hash::of(hash::SESSION, &[scope.as_bytes()]) >> 32);
                let name = name.as_ref().map_or_else(own, ToString::to_string).into();
                // GEP-1619: secure by default.
                let same_site = SameSite::Strict;
                let settings = CookieSettings { name, path: (&**path).into(), max_age: None, same_site };
                Self::Cookie { settings, permanent: *permanent }
            }
        }
    }
}

impl Token {
    fn write(self) -> String {
        let mut bytes = Vec::with_capacity(TOKEN_BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.began.to_be_bytes());
        bytes.extend_from_slice(&self.seen.to_be_bytes());
        bytes.extend_from_slice(&self.place.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read(text: &[u8]) -> Option<Self> {
        if text.len() != TOKEN_CHARS {
            return None;
        }
        let bytes: [u8; TOKEN_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let [VERSION, rest @ ..] = bytes else { return None };
        let (began, rest) = rest.split_first_chunk()?;
        let (seen, rest) = rest.split_first_chunk()?;
        let (place, _) = rest.split_first_chunk()?;
        Some(Self {
            began: u32::from_be_bytes(*began),
            seen: u32::from_be_bytes(*seen),
            place: u64::from_be_bytes(*place),
        })
    }
}

/// What a token is written as that is read from `text`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn token_again(text: &[u8]) -> Option<String> {
    Token::read(text).map(Token::write)
}

/// The hash of an endpoint of a target of a rule.
fn place(scope: &str, target: &str, endpoint: &EndpointState) -> u64 {
    hash::of(hash::SESSION, &[scope.as_bytes(), target.as_bytes(), endpoint.label.as_bytes()])
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
