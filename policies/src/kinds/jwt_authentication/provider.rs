//! One issuer of tokens: as it is written, and as it is used.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::{JwksSpec, Keys, Remote};
use super::place::{FromSpec, Location};
use crate::decision::RuleRef;
use crate::jwt::{Algorithm, ClaimPath, Claims, Issuer, Jwks, plain};
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::objects::GepDuration;

/// Who issues tokens, and what becomes of them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ProviderSpec {
    /// For logs, traces and metrics; unique in the policy.
    #[schemars(length(min = 1, max = 63))]
    name: String,
    /// `iss` of its tokens, letter by letter.
    #[schemars(length(min = 1, max = 2048))]
    issuer: String,
    /// One of them must be in `aud`. Default: tokens for whomever are taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 2048)))]
    audiences: Vec<String>,
    /// Its keys.
    jwks: JwksSpec,
    /// Where its tokens are. Default: `[{header: Authorization, prefix: "Bearer "}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    from: Vec<FromSpec>,
    /// By which its tokens may be signed. Default: all with a public key. HS256, HS384 and HS512 only where they are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    algorithms: Vec<Algorithm>,
    /// By how much clocks may differ. Default: 30s; at most 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leeway: Option<GepDuration>,
    /// Whether a token must have an end (`exp`). Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    require_expiration: Option<bool>,
    /// Whether the backend gets the token. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forward: Option<bool>,
    /// Claims that the backend is told in headers. What a client sends under these names is removed, with a token or without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    claim_to_headers: Vec<ClaimHeaderSpec>,
}

/// Write one of `claim` and `path`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ClaimHeaderSpec {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    claim: Option<String>,
    /// Its name within another, from the outside in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    path: Vec<String>,
    /// Texts, numbers and truth values are told as they are, lists and objects as JSON.
    #[schemars(length(min = 1, max = 256))]
    header: String,
}

/// A provider that has passed validation.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) rule: Arc<RuleRef>,
    pub(super) issuer: Issuer,
    /// Where its keys are to be fetched, if they are.
    pub(super) remote: Option<Remote>,
    pub(super) from: Vec<Location>,
    pub(super) leeway: Duration,
    pub(super) forward: bool,
    headers: Vec<(HeaderName, ClaimPath)>,
}

const MOST_PLACES: usize = 8;
const MOST_HEADERS: usize = 32;
const MOST_AUDIENCES: usize = 32;
const LEEWAY: Duration = Duration::from_secs(30);
/// What else the names of headers are for.
const NOT_FOR_CLAIMS: [HeaderName; 7] =
    [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

impl ProviderSpec {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Provider> {
        check::name(cx, &format!("{at}/name"), &self.name);
        if self.issuer.is_empty() {
            cx.error(format!("{at}/issuer"), "an empty issuer is nobody's");
        }
        at_most(self.audiences.len(), MOST_AUDIENCES, &format!("{at}/audiences"), cx);
        if let Some(i) = self.audiences.iter().position(String::is_empty) {
            cx.error(format!("{at}/audiences/{i}"), "an empty audience is nobody's");
        }
        let leeway =
            self.leeway.map(|it| check::duration_within(cx, &format!("{at}/leeway"), it, ("0s", "10m")));
        let algorithms = self.algorithms(at, cx);
        let keys = self.jwks.compile(&format!("{at}/jwks"), cx);
        if let Some(Keys::Written(keys)) = &keys {
            self.keys_fit(keys, &algorithms, at, cx);
        }
        let (keys, remote) = match keys {
            Some(Keys::Written(keys)) => (Some(keys), None),
            // Nothing is believed until they are there.
            Some(Keys::Lost) => (Some(Jwks::empty()), None),
            Some(Keys::Remote(remote)) => (Some(Jwks::empty()), Some(remote)),
            None => (None, None),
        };
        let (from, headers) = (self.from(at, cx), self.headers(at, cx));
        Some(Provider {
            rule: cx.rule(&self.name, at),
            issuer: Issuer {
                name: self.issuer.as_str().into(),
                audiences: self.audiences.iter().map(|audience| audience.as_str().into()).collect(),
                algorithms,
                keys: keys?,
                ends: self.require_expiration.unwrap_or(true),
            },
            remote,
            from: from?,
            leeway: leeway.unwrap_or(LEEWAY),
            forward: self.forward.unwrap_or(true),
            headers: headers?,
        })
    }

    fn algorithms(&self, at: &str, cx: &mut CompileContext<'_>) -> Box<[Algorithm]> {
        for (i, algorithm) in self.algorithms.iter().enumerate() {
            if self.algorithms[..i].contains(algorithm) {
                cx.error(format!("{at}/algorithms/{i}"), format!("{algorithm:?} is written twice"));
            }
        }
        match self.algorithms.is_empty() {
            true => Algorithm::ASYMMETRIC.into(),
            false => self.algorithms.as_slice().into(),
        }
    }

    fn keys_fit(&self, keys: &Jwks, allowed: &[Algorithm], at: &str, cx: &mut CompileContext<'_>) {
        if !keys.any_for(allowed) {
            let message = "no key in it is for any of the algorithms; those with a secret (HS256, HS384, HS512) are only \
                           taken where `algorithms` lists them";
            cx.error(format!("{at}/jwks"), message);
        }
    }

    fn from(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Vec<Location>> {
        at_most(self.from.len(), MOST_PLACES, &format!("{at}/from"), cx);
        if self.from.is_empty() {
            return Some(vec![Location::bearer()]);
        }
        let each = self.from.iter().enumerate();
        let places: Vec<_> = each.map(|(i, from)| from.compile(&format!("{at}/from/{i}"), cx)).collect();
        let places: Vec<Location> = places.into_iter().collect::<Option<_>>()?;
        for (i, place) in places.iter().enumerate() {
            if places[..i].contains(place) {
                cx.error(format!("{at}/from/{i}"), "the same place is written twice");
            }
        }
        Some(places)
    }

    fn headers(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Vec<(HeaderName, ClaimPath)>> {
        at_most(self.claim_to_headers.len(), MOST_HEADERS, &format!("{at}/claimToHeaders"), cx);
        let each = self.claim_to_headers.iter().enumerate();
        let headers: Vec<_> =
            each.map(|(i, header)| header.compile(&format!("{at}/claimToHeaders/{i}"), cx)).collect();
        let headers: Vec<(HeaderName, ClaimPath)> = headers.into_iter().collect::<Option<_>>()?;
        let mut seen = HashSet::new();
        for (i, (name, _)) in headers.iter().enumerate() {
            if !seen.insert(name) {
                let message = format!("`{name}` is written twice: one header tells of one claim");
                cx.error(format!("{at}/claimToHeaders/{i}/header"), message);
            }
        }
        Some(headers)
    }
}

impl ClaimHeaderSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<(HeaderName, ClaimPath)> {
        let name = HeaderName::try_from(&self.header).ok().filter(|name| !NOT_FOR_CLAIMS.contains(name));
        if name.is_none() {
            let message = format!("`{}` is not the name of a header that can tell of a claim", self.header);
            cx.error(format!("{at}/header"), message);
        }
        let path = check::claim(cx, at, ("claim", self.claim.as_deref()), &self.path);
        Some((name?, path?))
    }
}

impl Provider {
    /// The headers that tell of its claims.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.iter().map(|(name, _)| name)
    }

    /// What a claim says that fits in no header is not told.
    pub(super) fn tell(&self, claims: &Claims, headers: &mut HeaderMap) {
        for (name, path) in &self.headers {
            let Some(value) = claims.get(path) else { continue };
            let text = match value {
                serde_json::Value::Null => continue,
                value => plain(value).unwrap_or_else(|| value.to_string().into()),
            };
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                headers.insert(name.clone(), value);
            }
        }
    }
}

fn at_most(count: usize, most: usize, at: &str, cx: &mut CompileContext<'_>) {
    if count > most {
        cx.error(at, format!("{count} of them: write at most {most}"));
    }
}
