//! Which of several servers owns a bucket: rendezvous hashing, so that a server that comes or goes moves only its own.
//!
//! A new owner knows no shares. It must treat what it takes over like a server that starts: see
//! [`Server::take_over`](crate::Server::take_over).

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::BucketId;

/// The owner of `bucket` among `servers`, in whatever order they are listed.
pub fn owner<'a>(bucket: BucketId, servers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    servers.into_iter().max_by_key(|server| (weight(bucket, server), *server))
}

fn weight(bucket: BucketId, server: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&bucket.0);
    hasher.write(server.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_goes_moves_only_its_own_buckets() {
        let (all, fewer) = (["a:1", "b:1", "c:1"], ["c:1", "a:1"]);
        let mut moved = 0;
        for i in 0..3000_u32 {
            let bucket = BucketId::of([&i.to_le_bytes()[..]]);
            let before = owner(bucket, all);
            if before == Some("b:1") {
                moved += 1;
            } else {
                assert_eq!(owner(bucket, fewer), before);
            }
        }
        assert!((800..1200).contains(&moved), "{moved}");
    }
}
