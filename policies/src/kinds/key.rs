//! What tells requests apart: parts of them, hashed in place. Nothing is allocated but for expressions.

mod address;
mod spec;
mod template;

use std::borrow::Cow;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use http::{HeaderName, request};
use serde_json::Value;
use smallvec::SmallVec;

use crate::expression::{Expression, Facts};
use crate::jwt::{self, ClaimPath};
use crate::matching::RequestView;
use crate::pick::{cookie_values, hash};
use crate::pipeline::{ConnectionContext, RequestContext};
pub(super) use address::ClientAddress;
pub(super) use spec::{KeySpec, KeyType};
pub(super) use template::Templates;

/// One part of a key, and what becomes of requests that do not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kinds) struct KeyPart {
    pub(super) source: Source,
    missing: Missing,
}

/// Where a part is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    ClientAddress(ClientAddress),
    /// All values of a header, in order.
    Header(HeaderName),
    /// All values of a cookie, in order.
    Cookie(Arc<str>),
    /// The first parameter of that name, percent-decoded.
    QueryParameter(Arc<str>),
    /// Without the query.
    Path,
    /// Which of these the path is like.
    PathTemplate(Templates),
    Method,
    /// The SPIFFE id that mTLS verified.
    PeerIdentity,
    /// Lower case, without the port.
    Host,
    /// The HTTPRoute or GRPCRoute that was matched.
    Route,
    Expression(Arc<Expression>),
    /// A claim of the token that was verified; of a list each text, number and truth value, in order.
    Claim(ClaimPath),
    /// An entry of a rate limit service's descriptor; no request has one.
    Descriptor(Arc<str>),
    /// Whom a client asks for by TLS; of connections only.
    ServerName,
}

/// What becomes of a request that does not have a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Missing {
    /// All such requests share a bucket.
    #[default]
    Share,
    Skip,
    Deny,
}

/// The key of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kinds) enum Key {
    Of(u128),
    /// The limit does not count this request.
    Skip,
    /// The limit lets no request pass that is without this.
    Deny,
}

/// What takes the values of a key.
trait Sink {
    /// With its length, so that no two lists of values look alike.
    fn value(&mut self, bytes: &[u8]);

    fn lower_case(&mut self, bytes: &[u8]);

    /// No value is this long.
    fn end_of_part(&mut self);

    /// Whether there was any.
    fn all<V: AsRef<[u8]>>(&mut self, values: impl IntoIterator<Item = V>) -> bool
    where
        Self: Sized,
    {
        let mut any = false;
        for value in values {
            self.value(value.as_ref());
            any = true;
        }
        any
    }
}

/// Two independent hashes side by side, under a seed that clients do not know.
struct KeyHasher(DefaultHasher, DefaultHasher);

/// One part's values, and whether there was any.
#[derive(Default)]
struct Text(Vec<u8>, bool);

/// The key of a request under a limit.
pub(super) fn of(parts: &[KeyPart], cx: &RequestContext<'_>, seed: [u64; 2]) -> Key {
    of_facts(parts, &Facts::of(cx), seed)
}

/// The same, of what is known of a request.
pub(super) fn of_facts(parts: &[KeyPart], facts: &Facts<'_>, seed: [u64; 2]) -> Key {
    let mut hasher = KeyHasher::new(seed);
    for part in parts {
        match (part.source.write(&mut hasher, facts), part.missing) {
            (true, _) | (false, Missing::Share) => hasher.end_of_part(),
            (false, Missing::Skip) => return Key::Skip,
            (false, Missing::Deny) => return Key::Deny,
        }
    }
    Key::Of(hasher.finish())
}

/// The key of a connection under a limit, whose parts are such as connections have.
pub(super) fn of_connection(parts: &[KeyPart], cx: &ConnectionContext<'_>, seed: [u64; 2]) -> Key {
    let mut hasher = KeyHasher::new(seed);
    for part in parts {
        let has = match (&part.source, cx.server_name) {
            (Source::ClientAddress(address), _) => hasher.all([address.of_connection(cx.peer).bytes()]),
            (Source::ServerName, Some(name)) => {
                hasher.lower_case(name.as_bytes());
                true
            }
            _ => false,
        };
        match (has, part.missing) {
            (true, _) | (false, Missing::Share) => hasher.end_of_part(),
            (false, Missing::Skip) => return Key::Skip,
            (false, Missing::Deny) => return Key::Deny,
        }
    }
    Key::Of(hasher.finish())
}

/// The values of a key that is [`Key::Of`], one after the other: the same at every proxy.
pub(super) fn bytes(parts: &[KeyPart], cx: &RequestContext<'_>) -> Vec<u8> {
    let (mut bytes, facts) = (Vec::new(), Facts::of(cx));
    for part in parts {
        part.source.write(&mut bytes, &facts);
        bytes.end_of_part();
    }
    bytes
}

/// The hash by which a request goes to an endpoint: the same at every proxy. `None` for one that is without some part.
pub(super) fn steady(parts: &[KeyPart], facts: &Facts<'_>) -> Option<u64> {
    let mut hasher = hash::Hasher::new(hash::REQUEST);
    for part in parts {
        if !part.source.write(&mut hasher, facts) {
            return None;
        }
        hasher.end_of_part();
    }
    Some(hasher.finish())
}

/// The value of one part of a key that is [`Key::Of`], as text; several values of a header or cookie are joined by commas.
pub(super) fn text(part: &KeyPart, cx: &RequestContext<'_>) -> String {
    text_of(part, &Facts::of(cx))
}

/// The same, of what is known of a request.
pub(super) fn text_of(part: &KeyPart, facts: &Facts<'_>) -> String {
    if let Source::ClientAddress(address) = &part.source {
        return address.text(facts.head, facts.peer);
    }
    let mut text = Text::default();
    part.source.write(&mut text, facts);
    String::from_utf8(text.0).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The key of values that were found elsewhere, in the order of the parts.
pub(super) fn hash_values<'a>(values: impl Iterator<Item = &'a str>, seed: [u64; 2]) -> u128 {
    let mut hasher = KeyHasher::new(seed);
    for value in values {
        hasher.value(value.as_bytes());
        hasher.end_of_part();
    }
    hasher.finish()
}

/// The key of values as they are written in a policy; see [`KeySpec::is_text`].
pub(super) fn hash_written(parts: &[KeyPart], values: &[String], seed: [u64; 2]) -> u128 {
    let mut hasher = KeyHasher::new(seed);
    for (part, value) in parts.iter().zip(values) {
        match part.source {
            Source::Host => hasher.lower_case(value.as_bytes()),
            _ => hasher.value(value.as_bytes()),
        }
        hasher.end_of_part();
    }
    hasher.finish()
}

/// Names the parts, for the place of the limit's state: what is counted apart in another way, is counted elsewhere.
pub(super) fn describe(parts: &[KeyPart]) -> String {
    let mut text = String::new();
    for part in parts {
        // Writing to a String cannot fail.
        let _ = match &part.source {
            Source::Header(name) => write!(text, "|header:{name}"),
            Source::Descriptor(name) => write!(text, "|descriptor:{}:{name}", name.len()),
            Source::ClientAddress(address) if *address == ClientAddress::default() => {
                write!(text, "|ClientAddress")
            }
            other => write!(text, "|{other:?}"),
        };
    }
    text
}

impl KeyPart {
    /// Whether a request without it is refused.
    pub(super) fn denies(&self) -> bool {
        self.missing == Missing::Deny
    }

    /// Whether it is read in the claims of a token.
    pub(super) fn asks_claims(&self) -> bool {
        match &self.source {
            Source::Claim(_) => true,
            Source::Expression(expression) => expression.asks_claims(),
            _ => false,
        }
    }

    /// Whether a connection has it, before any request.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self.source, Source::ClientAddress(_) | Source::PeerIdentity)
    }
}

impl Source {
    /// Whether the request has it.
    fn write(&self, hasher: &mut impl Sink, facts: &Facts<'_>) -> bool {
        let head = facts.head;
        match self {
            Self::ClientAddress(address) => hasher.all([address.of(head, facts.peer).bytes()]),
            Self::Header(name) => {
                hasher.all(head.headers.get_all(name).iter().map(http::HeaderValue::as_bytes))
            }
            Self::Cookie(name) => hasher.all(cookie_values(&head.headers, name)),
            Self::QueryParameter(name) => hasher.all(RequestView::new(head).query(name).map(str::as_bytes)),
            Self::Path => hasher.all([head.uri.path().as_bytes()]),
            Self::PathTemplate(templates) => hasher.all(templates.of(head.uri.path()).map(str::as_bytes)),
            Self::Method => hasher.all([head.method.as_str().as_bytes()]),
            Self::PeerIdentity => {
                hasher.all(facts.peer.identity.iter().map(|identity| identity.0.as_bytes()))
            }
            Self::Host => host(head).is_some_and(|host| {
                hasher.lower_case(host);
                true
            }),
            Self::Route => hasher.all(facts.route.map(str::as_bytes)),
            Self::Expression(expression) => {
                hasher.all(expression.value(facts).ok().iter().map(|value| value.as_bytes()))
            }
            Self::Claim(path) => hasher.all(claimed(path, facts).iter().map(|text| text.as_bytes())),
            Self::Descriptor(_) | Self::ServerName => false,
        }
    }
}

/// What a claim says, if it says no more than texts.
fn claimed<'c>(path: &ClaimPath, facts: &Facts<'c>) -> SmallVec<[Cow<'c, str>; 2]> {
    let value = facts.claims.and_then(|claims| claims.get(path));
    match value {
        Some(Value::Array(list)) => list.iter().map(jwt::plain).collect::<Option<_>>().unwrap_or_default(),
        value => value.and_then(jwt::plain).into_iter().collect(),
    }
}

/// The request's host: of the target (HTTP/2, absolute form) before the `Host` header (RFC 9112, 3.2.2).
fn host(head: &request::Parts) -> Option<&[u8]> {
    if let Some(host) = head.uri.host() {
        return Some(host.as_bytes());
    }
    let value = head.headers.get(http::header::HOST)?.as_bytes();
    let port = value.iter().rposition(|b| *b == b':').filter(|at| !value[*at..].contains(&b']'));
    Some(&value[..port.unwrap_or(value.len())])
}

impl KeyHasher {
    fn new([a, b]: [u64; 2]) -> Self {
        let (mut left, mut right) = (DefaultHasher::new(), DefaultHasher::new());
        for word in [a, b, 1] {
            left.write_u64(word);
        }
        for word in [b, a, 2] {
            right.write_u64(word);
        }
        Self(left, right)
    }

    fn both(&mut self, f: impl Fn(&mut DefaultHasher)) {
        f(&mut self.0);
        f(&mut self.1);
    }

    fn finish(&self) -> u128 {
        u128::from(self.0.finish()) << 64 | u128::from(self.1.finish())
    }
}

impl Sink for KeyHasher {
    fn value(&mut self, bytes: &[u8]) {
        self.both(|h| {
            h.write_usize(bytes.len());
            h.write(bytes);
        });
    }

    fn lower_case(&mut self, bytes: &[u8]) {
        self.both(|h| {
            h.write_usize(bytes.len());
            bytes.iter().for_each(|b| h.write_u8(b.to_ascii_lowercase()));
        });
    }

    fn end_of_part(&mut self) {
        self.both(|h| h.write_usize(usize::MAX));
    }
}

impl Sink for hash::Hasher {
    fn value(&mut self, bytes: &[u8]) {
        self.part(bytes);
    }

    fn lower_case(&mut self, bytes: &[u8]) {
        self.part_of(bytes.len(), bytes.iter().map(u8::to_ascii_lowercase));
    }

    fn end_of_part(&mut self) {
        self.part_of(usize::MAX, std::iter::empty());
    }
}

impl Sink for Text {
    fn value(&mut self, bytes: &[u8]) {
        if self.1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(bytes);
        self.1 = true;
    }

    fn lower_case(&mut self, bytes: &[u8]) {
        self.value(&bytes.to_ascii_lowercase());
    }

    fn end_of_part(&mut self) {}
}

impl Sink for Vec<u8> {
    fn value(&mut self, bytes: &[u8]) {
        self.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.extend_from_slice(bytes);
    }

    fn lower_case(&mut self, bytes: &[u8]) {
        self.value(&bytes.to_ascii_lowercase());
    }

    fn end_of_part(&mut self) {
        self.extend_from_slice(&[u8::MAX; 8]);
    }
}
