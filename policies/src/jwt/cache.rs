//! Tokens that were verified before: the same bytes need no second look at their signature.
//!
//! Found by SHA-256, so that what is found was sent byte by byte as it was verified. Only what was verified is kept, so nobody
//! fills the memory by guessing. What has not been seen for a while gives way: each shard has a young and an old half, and a
//! young half that is full becomes the old one.

use std::mem;
use std::sync::Arc;

use aws_lc_rs::digest;
use parking_lot::RwLock;
use rustc_hash::FxHashMap;

use super::times::Times;
use super::{Claims, Token};

/// SHA-256 of a token.
pub(crate) type Digest = [u8; 32];

const SHARDS: usize = 8;
/// Of one cache.
const MOST_ENTRIES: usize = 8_192;
/// Of one cache, as far as can be told.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// What is known of a token that was verified. Whether it still holds is to be asked of its times.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// The place of its provider in the policy.
    pub(crate) provider: usize,
    /// The number of the set of keys by which; 0 for one that is written.
    pub(crate) keys: u64,
    pub(crate) claims: Arc<Claims>,
    pub(crate) times: Times,
}

#[derive(Debug, Default)]
pub(crate) struct Cache([RwLock<Shard>; SHARDS]);

#[derive(Debug, Default)]
struct Shard {
    young: Half,
    old: Half,
}

#[derive(Debug, Default)]
struct Half {
    entries: FxHashMap<Digest, Verified>,
    bytes: usize,
}

impl Verified {
    pub(crate) fn new(provider: usize, keys: u64, token: Token<'_>) -> Self {
        Self { provider, keys, claims: Arc::new(token.claims), times: token.times }
    }

    fn weight(&self) -> usize {
        self.claims.weight() + size_of::<(Digest, Self)>()
    }
}

impl Cache {
    pub(crate) fn digest(token: &[u8]) -> Digest {
        let mut own = Digest::default();
        own.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
        own
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Verified> {
        let shard = self.shard(digest);
        if let Some(found) = shard.read().young.entries.get(digest) {
            return Some(found.clone());
        }
        // Looked for twice, so that those who are not known take no lock from those who are.
        shard.read().old.entries.get(digest)?;
        let mut shard = shard.write();
        let found = shard.old.take(digest)?;
        shard.insert(*digest, found.clone());
        Some(found)
    }

    pub(crate) fn insert(&self, digest: Digest, verified: Verified) {
        self.shard(&digest).write().insert(digest, verified);
    }

    /// How many there are, and their bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        let halves = self.0.iter().map(|shard| {
            let Shard { young, old } = &*shard.read();
            (young.entries.len() + old.entries.len(), young.bytes + old.bytes)
        });
        halves.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    fn shard(&self, digest: &Digest) -> &RwLock<Shard> {
        &self.0[usize::from(digest[0]) % SHARDS]
    }
}

impl Shard {
    fn insert(&mut self, digest: Digest, verified: Verified) {
        let weight = verified.weight();
        let full = self.young.entries.len() >= MOST_ENTRIES / SHARDS / 2
            || self.young.bytes + weight > MOST_BYTES / SHARDS / 2;
        if full {
            self.old = mem::take(&mut self.young);
        }
        let before = self.young.entries.insert(digest, verified);
        self.young.bytes += weight - before.map_or(0, |before| before.weight().min(weight));
    }
}

impl Half {
    fn take(&mut self, digest: &Digest) -> Option<Verified> {
        let found = self.entries.remove(digest)?;
        self.bytes = self.bytes.saturating_sub(found.weight());
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::json;

    fn verified(claims: &str) -> Verified {
        let claims = Claims::new(json::object(claims.as_bytes()).unwrap());
        Verified { provider: 0, keys: 0, claims: Arc::new(claims), times: Times::default() }
    }

    fn digest(number: usize) -> Digest {
        Cache::digest(&number.to_be_bytes())
    }

    #[test]
    fn what_was_put_in_is_found_under_its_own_bytes_only() {
        let cache = Cache::default();
        cache.insert(digest(1), verified(r#"{"sub":"ann"}"#));
        assert!(cache.get(&digest(1)).is_some());
        assert!(cache.get(&digest(2)).is_none());
        // As written in FIPS 180-2.
        assert_eq!(Cache::digest(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn it_has_no_more_entries_and_bytes_than_its_bounds_whatever_comes() {
        let cache = Cache::default();
        for number in 0..3 * MOST_ENTRIES {
            cache.insert(digest(number), verified("{}"));
        }
        let (entries, _) = cache.size();
        assert!((MOST_ENTRIES / 4..=MOST_ENTRIES).contains(&entries), "{entries}");

        let large = verified(&format!("{{\"a\":\"{}\"}}", "x".repeat(12_000)));
        for number in 0..2 * MOST_BYTES / 12_000 {
            cache.insert(digest(number), large.clone());
            assert!(cache.size().1 <= MOST_BYTES);
        }
    }

    #[test]
    fn the_bytes_are_counted_when_entries_move_or_are_replaced() {
        let cache = Cache::default();
        for _ in 0..3 {
            cache.insert(digest(1), verified("{}"));
        }
        assert_eq!(cache.size(), (1, verified("{}").weight()));
    }

    #[test]
    fn whoever_keeps_coming_stays() {
        let cache = Cache::default();
        cache.insert(digest(0), verified("{}"));
        for number in 1..4 * MOST_ENTRIES {
            cache.insert(digest(number), verified("{}"));
            if number % 100 == 0 {
                assert!(cache.get(&digest(0)).is_some(), "{number}");
            }
        }
    }
}
