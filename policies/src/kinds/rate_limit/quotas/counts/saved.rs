//! Counts as plain data, for a proxy that goes on where this one stopped. Windows are on the calendar, so their times mean
//! the same to the next process.

use prost::Message;

use super::{Counts, SHARDS, Shard};
use crate::kinds::rate_limit::quotas::calendar::Window;
use crate::state::{Body, Moved, Persist};
use crate::time::Timestamp;

#[derive(Clone, PartialEq, Message)]
struct SavedCounts {
    /// All of them, in order.
    #[prost(message, repeated, tag = "1")]
    shards: Vec<SavedShard>,
}

#[derive(Clone, PartialEq, Message)]
struct SavedShard {
    /// In seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
    /// In halves.
    #[prost(fixed64, repeated, tag = "3")]
    keys: Vec<u64>,
    #[prost(uint32, repeated, tag = "4")]
    counts: Vec<u32>,
    #[prost(uint32, tag = "5")]
    beyond: u32,
    #[prost(bool, tag = "6")]
    was_full: bool,
}

impl Shard {
    fn save(&self) -> SavedShard {
        let Self { window: Window { start, end }, beyond, was_full, .. } = *self;
        let (mut keys, mut counts) = (Vec::new(), Vec::new());
        for (key, count) in &self.counts {
            keys.extend(halves(*key));
            counts.push(*count);
        }
        SavedShard { start, end, keys, counts, beyond, was_full }
    }

    /// Those of its keys for which there is room.
    fn restore(&mut self, saved: &SavedShard, room: usize, is_ours: impl Fn(u128) -> bool) {
        let SavedShard { start, end, beyond, was_full, .. } = *saved;
        let keys = saved
            .keys
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[high, low]| u128::from(*high) << 64 | u128::from(*low));
        let counts = keys.zip(saved.counts.iter().copied()).filter(|(key, _)| is_ours(*key)).take(room);
        *self = Self { window: Window { start, end }, counts: counts.collect(), beyond, was_full };
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a half each")]
fn halves(key: u128) -> [u64; 2] {
    [(key >> 64) as u64, key as u64]
}

impl Persist for Counts {
    fn save(&self, _: Timestamp) -> Option<Body> {
        let shards: Vec<_> = self.shards.iter().map(|shard| shard.lock().save()).collect();
        let items = shards.iter().map(|shard| shard.counts.len() as u64).sum();
        (items > 0).then(|| Body { bytes: SavedCounts { shards }.encode_to_vec(), items })
    }

    fn restore(&self, body: &[u8], _: Moved) {
        let Ok(saved) = SavedCounts::decode(body) else { return };
        // Of another number of shards, keys would be looked for elsewhere.
        if saved.shards.len() != SHARDS || saved.shards.iter().any(|shard| shard.start > shard.end) {
            return;
        }
        for (shard, saved) in self.shards.iter().zip(&saved.shards) {
            let is_ours = |key| std::ptr::eq(self.shard(key), shard);
            shard.lock().restore(saved, self.max_keys, is_ours);
        }
    }
}
