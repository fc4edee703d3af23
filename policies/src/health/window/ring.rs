//! Ten buckets of time, used again and again.

use std::time::Duration;

use crate::time::Timestamp;

const BUCKETS: usize = 10;

#[derive(Debug)]
pub(in crate::health) struct Ring<T> {
    /// Of a bucket, in nanoseconds.
    width: u64,
    /// The latest bucket that was asked for.
    newest: u64,
    buckets: [Bucket<T>; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket<T> {
    /// Number of bucket widths since the epoch: tells a bucket of this turn of the ring from one of the last.
    index: u64,
    value: T,
}

impl<T: Copy + Default> Ring<T> {
    pub(in crate::health) fn new(length: Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Self { width: (nanos / BUCKETS as u64).max(1), newest: 0, buckets: Default::default() }
    }

    /// The bucket of `now`; `None` if that is a whole turn behind. What is two turns behind is no straggler: the clock
    /// has been set back, and what was seen before tells nothing about the time that is yet to come.
    pub(in crate::health) fn bucket(&mut self, now: Timestamp) -> Option<&mut T> {
        let index = now.as_nanos() / self.width;
        if index + 2 * BUCKETS as u64 <= self.newest {
            self.clear();
        }
        self.newest = self.newest.max(index);
        let bucket = &mut self.buckets[slot(index)];
        if bucket.index < index {
            *bucket = Bucket { index, value: T::default() };
        }
        (bucket.index == index).then_some(&mut bucket.value)
    }

    /// What the buckets within the window at `now` hold.
    pub(in crate::health) fn live(&self, now: Timestamp) -> impl Iterator<Item = &T> {
        let index = now.as_nanos() / self.width;
        self.buckets.iter().filter(move |b| b.index + BUCKETS as u64 > index).map(|b| &b.value)
    }

    pub(in crate::health) fn clear(&mut self) {
        self.newest = 0;
        self.buckets = Default::default();
    }
}

fn slot(index: u64) -> usize {
    usize::try_from(index % BUCKETS as u64).unwrap_or(0)
}
