//! THE HASHES that decide where users and requests go. They are part of what the mesh promises: changing one moves everybody.
//!
//! SipHash-2-4 (Aumasson, Bernstein, 2012) with the fixed keys below, over bytes in which every part is preceded by its
//! length as 8 bytes, little endian, so that no two lists of parts look alike. The keys are no secret: whoever may
//! write their own cookie may choose their own cohort, with any hash that all proxies can compute.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher24;

/// What a hash is for, so that the same name gives unrelated numbers in different roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Domain(&'static [u8; 16]);

/// Of a user's key.
pub(crate) const USER: Domain = Domain(b"tidegate user/01");
/// Of a backend's name: the two halves of the key under which users are hashed for it.
pub(crate) const BACKEND: [Domain; 2] = [Domain(b"tidegate back/0a"), Domain(b"tidegate back/0b")];

/// Of what decides to which endpoint a request goes.
pub(crate) const REQUEST: Domain = Domain(b"tidegate reqs/01");
/// Of an endpoint's points on a ring.
pub(crate) const RING: Domain = Domain(b"tidegate ring/01");
/// Of an endpoint's order over a table: where it begins, and how it goes on.
pub(crate) const MAGLEV: [Domain; 2] = [Domain(b"tidegate mgle/0a"), Domain(b"tidegate mgle/0b")];
/// Of the proxies and endpoints of subsets.
pub(crate) const SUBSET: Domain = Domain(b"tidegate subs/01");
/// Of what is compared with itself only, within a process.
pub(crate) const FINGERPRINT: Domain = Domain(b"tidegate fing/01");
/// Of a key and an endpoint, where no table helps.
pub(crate) const LAST_RESORT: Domain = Domain(b"tidegate last/01");

/// Of a place to which a session leads.
pub(crate) const SESSION: Domain = Domain(b"tidegate sess/01");

pub(crate) fn of(domain: Domain, parts: &[&[u8]]) -> u64 {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    SipHasher24::new_with_key(domain.0).hash(&bytes)
}

/// [`of`] for parts that come one after the other, without keeping them.
#[derive(Debug)]
pub(crate) struct Hasher(SipHasher24);

impl Hasher {
    pub(crate) fn new(domain: Domain) -> Self {
        Self(SipHasher24::new_with_key(domain.0))
    }

    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.write(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.write(bytes);
    }

    /// A part of that length, byte by byte.
    pub(crate) fn part_of(&mut self, length: usize, bytes: impl Iterator<Item = u8>) {
        self.0.write(&u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes());
        bytes.for_each(|byte| self.0.write(&[byte]));
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// The hash of a user under a backend's key.
pub(crate) fn under([k0, k1]: [u64; 2], user: u64) -> u64 {
    SipHasher24::new_with_keys(k0, k1).hash(&user.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by another program, from the definition above. If this fails, every user of every cohort moves: keep
    /// the old hash, and think again.
    #[test]
    fn the_hashes_are_what_they_have_always_been() {
        // The test vector of the SipHash paper, appendix A.
        let key: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(SipHasher24::new_with_key(&key).hash(&message), 0xa129_ca61_49be_45e5);
        assert_eq!(of(USER, &[b"alice"]), 0xd004_528e_f1cd_7677);
        let key = BACKEND.map(|domain| of(domain, &[b"HTTPRoute/shop/edge/0", b"shop/cart-v2:80"]));
        assert_eq!(under(key, of(USER, &[b"alice"])), 0x5273_cef5_b203_b795);
    }

    #[test]
    fn parts_that_come_one_by_one_hash_alike() {
        let mut hasher = Hasher::new(USER);
        hasher.part(b"ab");
        hasher.part_of(1, std::iter::once(b'c'));
        assert_eq!(hasher.finish(), of(USER, &[b"ab", b"c"]));
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(of(USER, &[b"ab", b"c"]), of(USER, &[b"a", b"bc"]));
        assert_ne!(of(BACKEND[0], &[b"a"]), of(BACKEND[1], &[b"a"]));
    }
}
