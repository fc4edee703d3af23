//! `CohortPolicy`: a rule's weights share out users instead of requests.
//!
//! This file checks what was written; [`crate::pick`] picks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::document::crd::rules;
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;
use crate::objects::GepDuration;
use crate::pick::{
    Cohort, CookieSettings, Missing, SameSite, UserKey, UserKeys, is_cookie_name, is_cookie_path,
};

#[derive(Debug)]
pub(super) struct CohortPolicy;

/// A weight of 10 % is 10 % of the users, the same ones on every proxy. Raising it to 20 % moves another 10 % there, and
/// nobody back.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CohortPolicySpec {
    /// What tells users apart. The first that a request has counts, by its value: a user is the same by cookie and by
    /// header.
    #[schemars(length(min = 1, max = 8))]
    key: Vec<KeySpec>,
    /// What becomes of a request that has none of these. Default: Random.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_missing: Option<MissingSpec>,
    /// Rules with one seed have the same cohorts, wherever they are. Default: each rule has its own, so that users who
    /// see one canary are no likelier to see the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    seed: Option<String>,
    /// Gives backends of different Services the same users: `canary` of the front end is `canary` of the cart. Without
    /// an entry here, a backend is a cohort under its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    cohorts: Vec<NamedSpec>,
}

/// One place where a user's key may be. A value of more than 1024 bytes counts as absent.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    rules::only_with("name", "type", &["Cookie", "Header"]),
    rules::needed_with("name", "type", &["Cookie", "Header"]),
]))]
struct KeySpec {
    r#type: KeyType,
    /// Of the cookie or the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum KeyType {
    /// The value of a cookie.
    Cookie,
    /// The value of a request header; of several, the first.
    Header,
    /// The SPIFFE id that mTLS verified.
    PeerIdentity,
    /// The IP address of the other side of the connection; never taken from a header. Everyone has one.
    ClientAddress,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MissingSpec {
    r#type: MissingType,
    /// For type SetCookie only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<CookieSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum MissingType {
    /// A backend by weight and chance, for each request anew.
    Random,
    /// A random key, which the client is given as a cookie with the very first answer.
    SetCookie,
}

/// Always HttpOnly; Secure where the request came over TLS.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CookieSpec {
    #[schemars(length(min = 1, max = 255))]
    name: String,
    /// Default: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    path: Option<String>,
    /// How long clients keep it, 1s to 9600h. Default: 720h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<GepDuration>,
    /// Default: Lax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    same_site: Option<SameSiteSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum SameSiteSpec {
    Strict,
    Lax,
    /// Sets Secure too, for browsers refuse it otherwise.
    None,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NamedSpec {
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// Names of backendRefs.
    #[schemars(length(min = 1, max = 16))]
    backends: Vec<String>,
}

const MOST_KEYS: usize = 8;
const MONTH: Duration = Duration::from_secs(720 * 3600);

impl PolicyKind for CohortPolicy {
    const KIND: &'static str = "CohortPolicy";
    const ABOUT: &'static str =
        "Picks a rule's backend by user: weights are shares of users, who stay where they are.";
    const TARGETS: &'static [TargetKind] =
        &[TargetKind::Gateway, TargetKind::HTTPRoute, TargetKind::GRPCRoute];
    type Spec = CohortPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        if spec.key.is_empty() || spec.key.len() > MOST_KEYS {
            cx.error("/key", format!("{} parts: write 1 to {MOST_KEYS}", spec.key.len()));
        }
        let keys = spec.key.iter().enumerate().map(|(i, key)| key.compile(&format!("/key/{i}"), cx));
        let keys = keys.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
        order(&keys, cx);
        let missing = missing(spec.on_missing.as_ref(), &keys, cx)?;
        if let Some(seed) = &spec.seed {
            check::name(cx, "/seed", seed);
        }
        Some(Compiled::Cohort(Arc::new(Cohort {
            policy: cx.policy().clone(),
            mode: cx.mode(),
            source: cx.rule("", "/key").source.clone(),
            users: UserKeys { keys, missing },
            named: named(&spec, cx),
            seed: spec.seed.map(Into::into),
        })))
    }
}

/// What comes after a key that everyone has is never looked at.
fn order(keys: &[UserKey], cx: &mut CompileContext<'_>) {
    for (i, key) in keys.iter().enumerate() {
        if keys[..i].contains(key) {
            cx.error(format!("/key/{i}"), "the same key is written twice");
        }
    }
    let everyones = keys.iter().position(|key| *key == UserKey::ClientAddress);
    if let Some(at) = everyones.filter(|at| at + 1 < keys.len()) {
        let message =
            "every request has a ClientAddress: what is written after it is never looked at; put it last";
        cx.error(format!("/key/{at}"), message);
    }
}

impl KeySpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<UserKey> {
        let plain = match self.r#type {
            KeyType::Cookie => {
                let name = self.named(at, "Cookie", cx)?;
                return cookie_name(&format!("{at}/name"), name, cx).map(UserKey::Cookie);
            }
            KeyType::Header => {
                let name = self.named(at, "Header", cx)?;
                let header = HeaderName::try_from(name).ok().map(UserKey::Header);
                if header.is_none() {
                    cx.error(format!("{at}/name"), format!("`{name}` is not the name of a header"));
                }
                return header;
            }
            KeyType::PeerIdentity => UserKey::PeerIdentity,
            KeyType::ClientAddress => UserKey::ClientAddress,
        };
        if self.name.is_some() {
            cx.error(format!("{at}/name"), "`name` goes with the types Cookie and Header only");
        }
        Some(plain)
    }

    fn named(&self, at: &str, kind: &str, cx: &mut CompileContext<'_>) -> Option<&str> {
        if self.name.is_none() {
            cx.error(at, format!("type {kind} needs a `name`"));
        }
        self.name.as_deref()
    }
}

fn cookie_name(at: &str, name: &str, cx: &mut CompileContext<'_>) -> Option<Box<str>> {
    if !is_cookie_name(name) {
        cx.error(at, format!("`{name}` is not the name of a cookie"));
        return None;
    }
    Some(name.into())
}

fn missing(written: Option<&MissingSpec>, keys: &[UserKey], cx: &mut CompileContext<'_>) -> Option<Missing> {
    let Some(written) = written else { return Some(Missing::Random) };
    if keys.contains(&UserKey::ClientAddress) {
        cx.error(
            "/onMissing",
            "every request has a ClientAddress: nothing is ever missing; remove one of the two",
        );
    }
    match (written.r#type, &written.cookie) {
        (MissingType::Random, None) => Some(Missing::Random),
        (MissingType::Random, Some(_)) => {
            cx.error("/onMissing/cookie", "`cookie` goes with type SetCookie only");
            None
        }
        (MissingType::SetCookie, Some(cookie)) => {
            cookie.compile("/onMissing/cookie", cx).map(Missing::SetCookie)
        }
        (MissingType::SetCookie, None) => {
            cx.error("/onMissing", "type SetCookie needs the `cookie` to set");
            None
        }
    }
}

impl CookieSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<CookieSettings> {
        let name = cookie_name(&format!("{at}/name"), &self.name, cx)?;
        let path = self.path.as_deref().unwrap_or("/");
        if !is_cookie_path(path) {
            cx.error(
                format!("{at}/path"),
                format!("`{path}` is not the path of a cookie: it begins with `/`"),
            );
        } else if name.starts_with("__Host-") && path != "/" {
            cx.error(format!("{at}/path"), "browsers take a cookie `__Host-…` only with the path `/`");
        }
        let ttl = self.ttl.map(|ttl| check::duration_within(cx, &format!("{at}/ttl"), ttl, ("1s", "9600h")));
        let same_site = match self.same_site {
            Some(SameSiteSpec::Strict) => SameSite::Strict,
            Some(SameSiteSpec::Lax) | None => SameSite::Lax,
            Some(SameSiteSpec::None) => SameSite::None,
        };
        Some(CookieSettings { name, path: path.into(), max_age: Some(ttl.unwrap_or(MONTH)), same_site })
    }
}

fn named(spec: &CohortPolicySpec, cx: &mut CompileContext<'_>) -> BTreeMap<Box<str>, Box<str>> {
    let mut named = BTreeMap::<Box<str>, Box<str>>::new();
    if spec.seed.is_none() && !spec.cohorts.is_empty() {
        cx.error(
            "/cohorts",
            "cohorts are named to be the same on several rules: write a `seed` that these share",
        );
    }
    check::unique(cx, "/cohorts", spec.cohorts.iter().map(|cohort| Some(cohort.name.as_str())));
    for (i, cohort) in spec.cohorts.iter().enumerate() {
        check::name(cx, &format!("/cohorts/{i}/name"), &cohort.name);
        for (j, backend) in cohort.backends.iter().enumerate() {
            if let Some(other) = named.insert(backend.as_str().into(), cohort.name.as_str().into()) {
                let message = format!("`{backend}` is in the cohort `{other}` already");
                cx.error(format!("/cohorts/{i}/backends/{j}"), message);
            }
        }
    }
    named
}

#[cfg(test)]
mod tests;
