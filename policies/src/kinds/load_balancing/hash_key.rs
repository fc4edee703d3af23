//! `hashKey`: what of a request decides where it goes. The parts are those of limits.

use http::Request;

use crate::balance::{Asker, HashKey};
use crate::expression::Facts;
use crate::kind::CompileContext;
use crate::kinds::key::{self, KeyPart, KeySpec, KeyType};
use crate::model::Peer;

/// See the module. A request without one of the parts has no key.
#[derive(Debug)]
pub(super) struct RequestKey {
    parts: Box<[KeyPart]>,
    /// Whether connections have it too.
    of_connections: bool,
}

impl RequestKey {
    pub(super) fn compile(written: &[KeySpec], cx: &mut CompileContext<'_>) -> Option<Self> {
        let mut parts = Vec::<KeyPart>::new();
        for (i, part) in written.iter().enumerate() {
            let at = format!("/hashKey/{i}");
            if part.r#type == KeyType::Descriptor {
                cx.error(format!("{at}/type"), "no request has a Descriptor: it goes with rate limits only");
            }
            if part.says_missing() {
                let message =
                    "`missing` goes with rate limits only: write `onMissingKey`, for the key as a whole";
                cx.error(format!("{at}/missing"), message);
            }
            let part = part.compile(&at, cx);
            if part.as_ref().is_some_and(|part| parts.contains(part)) {
                cx.error(at, "the same part is written twice");
            }
            parts.extend(part);
        }
        if parts.len() < written.len() {
            return None;
        }
        let of_connections = parts.iter().all(KeyPart::is_of_connection);
        Some(Self { parts: parts.into(), of_connections })
    }
}

impl HashKey for RequestKey {
    fn of(&self, Asker(facts): Asker<'_>) -> Option<u64> {
        key::steady(&self.parts, facts)
    }

    fn of_connection(&self, peer: &Peer) -> Option<u64> {
        if !self.of_connections {
            return None;
        }
        let (head, ()) = Request::new(()).into_parts();
        key::steady(&self.parts, &Facts { head: &head, peer, route: None, claims: None })
    }

    fn asks_claims(&self) -> bool {
        self.parts.iter().any(KeyPart::asks_claims)
    }

    fn describe(&self) -> String {
        key::describe(&self.parts).trim_start_matches('|').to_owned()
    }
}
