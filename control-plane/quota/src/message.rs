//! What clients and servers tell each other.

use std::fmt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::Rate;

/// The domain that our own proxies ask by.
pub const MESH_DOMAIN: &str = "tidegate.io/mesh";

/// A client, in one of its lives: one that restarts must take another.
pub type ClientId = u64;

/// One bucket of one limit, equal at every proxy. A hash, since values of keys may be secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketId(pub [u8; 16]);

/// A part of a limit, in billionths: of its rate and of its burst alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u64);

/// Which assignment is the later one: by the life of its server, then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub epoch: u64,
    pub number: u64,
}

/// How long an assignment may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Until a client that hears nothing counts as cut off.
    pub ttl: Duration,
    /// How long it keeps its last share from then on.
    pub reuse: Duration,
}

/// A bucket's limit and how long shares of it are lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub rate: Rate,
    pub terms: Terms,
}

/// A number of requests, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tokens(pub u64);

/// Requests since the report before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub allowed: u64,
    pub denied: u64,
    pub elapsed: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub version: Version,
    pub share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub client: ClientId,
    pub bucket: BucketId,
    /// The client's clock. Only it reads this; the server hands it back.
    pub stamp: Duration,
    pub held: Option<Held>,
    pub usage: Usage,
    /// What the client has no room for any more, or leaves behind. Others may have it.
    pub returned: Tokens,
    /// The client has dropped the bucket: it takes no assignment that answers this report or an earlier one.
    pub leaves: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub client: ClientId,
    pub bucket: BucketId,
    pub version: Version,
    pub share: Share,
    pub terms: Terms,
    /// To be spent at once, by whoever takes this version for the first time.
    pub tokens: Tokens,
    /// Of the latest report that the server had when it sent this.
    pub stamp: Duration,
    /// Only lengthens the lease of a client that still holds this version: the server knows of it by hearsay.
    pub renews: bool,
}

impl BucketId {
    /// The first sixteen bytes of SHA-256 over every part, each after its length in eight bytes, big endian: what all proxies
    /// agree on without a shared secret, and what nobody can aim at another's bucket.
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Self(id)
    }

    /// The bucket of these names in this domain, as Envoy's protocol names buckets.
    pub fn named<'a>(domain: &'a str, names: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let texts = names.into_iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        Self::of([domain.as_bytes()].into_iter().chain(texts))
    }
}

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl Share {
    pub const NONE: Self = Self(0);
    pub const WHOLE: Self = Self(1_000_000_000);

    /// At most the whole.
    pub fn billionths(parts: u64) -> Self {
        Self(parts.min(Self::WHOLE.0))
    }

    pub const fn as_billionths(self) -> u64 {
        self.0
    }
}

impl Tokens {
    pub const NONE: Self = Self(0);
}

impl Terms {
    /// From the report that an assignment answers to the moment at which its share is certainly gone.
    pub fn lease(self) -> Duration {
        self.ttl.saturating_add(self.reuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_id_never_changes_and_tells_parts_apart() {
        let id = |parts: &[&str]| BucketId::of(parts.iter().map(|part| part.as_bytes()));
        assert_eq!(u128::from_be_bytes(id(&["ab", "c"]).0), 0x601d_5476_e2cc_fe2c_87a2_bba7_a322_6597);
        assert_ne!(id(&["ab", "c"]), id(&["a", "bc"]));
        assert_ne!(id(&["ab"]), id(&["ab", ""]));
    }
}
