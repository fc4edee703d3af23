//! `key` of a cap: what of a request decides with whom it is counted. The parts are those of limits.

use std::sync::Arc;

use http::Request;

use crate::balance::Asker;
use crate::expression::Facts;
use crate::health::{CapKey, CountedBy};
use crate::kind::CompileContext;
use crate::kinds::key::{self, Key, KeyPart, KeySpec, KeyType};
use crate::kinds::rate_limit::key_parts;
use crate::model::Peer;

/// See the module.
#[derive(Debug)]
struct RequestKey {
    parts: Arc<[KeyPart]>,
    /// Whether connections have it too.
    of_connections: bool,
}

pub(super) fn compile(
    written: &[KeySpec],
    at: &str,
    cx: &mut CompileContext<'_>,
) -> Option<Arc<dyn CountedBy>> {
    for (i, part) in written.iter().enumerate() {
        let message = match part.r#type {
            KeyType::Descriptor => "no request has a Descriptor: it goes with rate limits only",
            KeyType::Claim => {
                "a token is verified after the backend is chosen, so no request has a Claim by then: use the header or \
                 cookie that tells who asks, or `concurrent` of a RateLimitPolicy"
            }
            _ => continue,
        };
        cx.error(format!("{at}/{i}/type"), message);
    }
    let parts = key_parts(written, KeySpec::compile, at, cx)?;
    let of_connections = parts.iter().all(KeyPart::is_of_connection);
    Some(Arc::new(RequestKey { parts, of_connections }))
}

impl CountedBy for RequestKey {
    fn of(&self, Asker(facts): Asker<'_>, seed: [u64; 2]) -> CapKey {
        match key::of_facts(&self.parts, facts, seed) {
            // Half of it tells enough of them apart.
            Key::Of(key) => CapKey::Of(u64::try_from(key >> 64).unwrap_or_default()),
            Key::Skip => CapKey::Uncounted,
            Key::Deny => CapKey::Missing,
        }
    }

    fn of_connection(&self, peer: &Peer, seed: [u64; 2]) -> CapKey {
        if !self.of_connections {
            return CapKey::Uncounted;
        }
        let (head, ()) = Request::new(()).into_parts();
        self.of(Asker(&Facts { head: &head, peer, route: None, claims: None }), seed)
    }

    fn describe(&self) -> String {
        key::describe(&self.parts)
    }
}
