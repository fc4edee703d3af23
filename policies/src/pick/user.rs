//! Who asks: the part of a request that stands for its user, hashed where it is found and kept nowhere.

use http::{HeaderName, request};

use super::hash;
use super::{CookieSettings, PickContext, cookie};
use crate::model::Peer;

/// A longer value is not read as a user's key: it would cost time to hash, and is no identifier.
pub(super) const LONGEST_KEY: usize = 1024;

/// Where a key may be found, in the order in which it is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserKeys {
    pub keys: Vec<UserKey>,
    pub missing: Missing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserKey {
    Cookie(Box<str>),
    Header(HeaderName),
    /// The SPIFFE id that mTLS verified.
    PeerIdentity,
    /// The IP address of the other side of the connection.
    ClientAddress,
}

/// What becomes of a request without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A backend by weight and chance, for each request anew.
    Random,
    /// A new user, who is told their key.
    SetCookie(CookieSettings),
}

/// Where a request's key was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    Cookie,
    Header,
    PeerIdentity,
    ClientAddress,
    /// Made for a new user.
    New,
    /// Nowhere.
    Missing,
}

impl KeySource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Header => "header",
            Self::PeerIdentity => "peer_identity",
            Self::ClientAddress => "client_address",
            Self::New => "new",
            Self::Missing => "missing",
        }
    }
}

impl UserKeys {
    /// The hash of the first key that the request has, and where that was. The value alone counts: a user is the same
    /// by cookie and by header.
    pub(super) fn find(&self, cx: &PickContext<'_>) -> Option<(u64, KeySource)> {
        let set = match &self.missing {
            Missing::SetCookie(settings) => cookie::value(&cx.head.headers, &settings.name)
                .and_then(digest)
                .map(|user| (user, KeySource::Cookie)),
            Missing::Random => None,
        };
        self.keys.iter().find_map(|key| key.find(cx.head, cx.peer)).or(set)
    }
}

impl UserKey {
    fn find(&self, head: &request::Parts, peer: &Peer) -> Option<(u64, KeySource)> {
        let (value, source) = match self {
            Self::Cookie(name) => (digest(cookie::value(&head.headers, name)?), KeySource::Cookie),
            Self::Header(name) => (digest(head.headers.get(name)?.as_bytes()), KeySource::Header),
            Self::PeerIdentity => (digest(peer.identity.as_ref()?.0.as_bytes()), KeySource::PeerIdentity),
            Self::ClientAddress => {
                let address = match peer.address.ip().to_canonical() {
                    std::net::IpAddr::V4(ip) => digest(&ip.octets()),
                    std::net::IpAddr::V6(ip) => digest(&ip.octets()),
                };
                (address, KeySource::ClientAddress)
            }
        };
        Some((value?, source))
    }
}

/// `None` for what cannot stand for a user: nothing, or too much.
pub(super) fn digest(value: &[u8]) -> Option<u64> {
    (1..=LONGEST_KEY).contains(&value.len()).then(|| hash::of(hash::USER, &[value]))
}
