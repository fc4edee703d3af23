//! What a limit counts apart: parts of the request, hashed in place, without an allocation.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, request};

use crate::model::Peer;
use crate::pipeline::RequestContext;

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyPart {
    /// The address of the other side of the connection, never what a header claims it to be.
    ClientAddress,
    /// All values of a header, in order.
    Header(HeaderName),
    /// Without the query.
    Path,
    Method,
    /// The SPIFFE id that mTLS verified.
    PeerIdentity,
    /// Lower case, without the port.
    Host,
    /// An entry of a rate limit service's descriptor; no request has one.
    Descriptor(Arc<str>),
}

/// Two independent hashes side by side, under a seed that clients do not know.
struct KeyHasher(DefaultHasher, DefaultHasher);

/// The key of a request. A part that the request does not have is a value of its own: all requests without it share
/// a bucket.
pub(super) fn hash(parts: &[KeyPart], cx: &RequestContext<'_>, seed: [u64; 2]) -> u128 {
    let mut hasher = KeyHasher::new(seed);
    for part in parts {
        part.write(&mut hasher, cx.head, cx.peer);
    }
    hasher.finish()
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

/// Names the parts, for the place of the limit's state.
pub(super) fn describe(parts: &[KeyPart]) -> String {
    let mut text = String::new();
    for part in parts {
        // Writing to a String cannot fail.
        let _ = match part {
            KeyPart::Header(name) => write!(text, "|header:{name}"),
            KeyPart::Descriptor(name) => write!(text, "|descriptor:{}:{name}", name.len()),
            other => write!(text, "|{other:?}"),
        };
    }
    text
}

impl KeyPart {
    fn write(&self, hasher: &mut KeyHasher, head: &request::Parts, peer: &Peer) {
        match self {
            Self::ClientAddress => match peer.address.ip().to_canonical() {
                IpAddr::V4(ip) => hasher.value(&ip.octets()),
                IpAddr::V6(ip) => hasher.value(&ip.octets()),
            },
            Self::Header(name) => {
                for value in head.headers.get_all(name) {
                    hasher.value(value.as_bytes());
                }
            }
            Self::Path => hasher.value(head.uri.path().as_bytes()),
            Self::Descriptor(_) => {}
            Self::Method => hasher.value(head.method.as_str().as_bytes()),
            Self::PeerIdentity => {
                if let Some(identity) = &peer.identity {
                    hasher.value(identity.0.as_bytes());
                }
            }
            Self::Host => {
                if let Some(host) = host(head) {
                    hasher.lower_case(host);
                }
            }
        }
        hasher.end_of_part();
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

    /// With its length, so that no two lists of values look alike.
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

    /// No value is this long.
    fn end_of_part(&mut self) {
        self.both(|h| h.write_usize(usize::MAX));
    }

    fn both(&mut self, f: impl Fn(&mut DefaultHasher)) {
        f(&mut self.0);
        f(&mut self.1);
    }

    fn finish(&self) -> u128 {
        u128::from(self.0.finish()) << 64 | u128::from(self.1.finish())
    }
}
