//! The newest of what was put in, bounded in number and in bytes.
//!
//! Each entry has a place of its own: threads that write at the same time write to different ones, and who reads holds
//! up at most one of them, for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// See the module. Above the bytes it is by no more than what is being put in at the moment.
#[derive(Debug)]
pub(super) struct Ring<T> {
    places: Box<[Mutex<Option<Entry<T>>>]>,
    /// The number of the next entry.
    next: AtomicU64,
    /// No entry with a lower number is there.
    oldest: AtomicU64,
    bytes: AtomicUsize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry<T> {
    number: u64,
    size: usize,
    value: Arc<T>,
}

impl<T> Ring<T> {
    pub(super) fn new(entries: usize, max_bytes: usize) -> Self {
        Self {
            places: (0..entries).map(|_| Mutex::new(None)).collect(),
            next: AtomicU64::new(0),
            oldest: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            max_bytes,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.places.len()
    }

    /// `size`: its bytes. What is larger than the whole ring is not kept.
    pub(super) fn push(&self, value: T, size: usize) {
        if self.places.is_empty() || size > self.max_bytes {
            return;
        }
        let entry = Entry { number: self.next.fetch_add(1, Ordering::Relaxed), size, value: Arc::new(value) };
        let number = entry.number;
        self.bytes.fetch_add(size, Ordering::Relaxed);
        // What was there is dropped after the lock.
        let _before = self.put(entry);
        let first = (number + 1).saturating_sub(self.places.len() as u64);
        self.oldest.fetch_max(first, Ordering::Relaxed);
        while self.bytes.load(Ordering::Relaxed) > self.max_bytes {
            let later = |oldest| (oldest < number).then_some(oldest + 1);
            let Ok(oldest) = self.oldest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later) else {
                break;
            };
            drop(self.take(oldest));
        }
    }

    /// The newest `limit` that `is_it`, the newest first.
    pub(super) fn find(&self, limit: usize, is_it: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let (oldest, next) = (self.oldest.load(Ordering::Relaxed), self.next.load(Ordering::Relaxed));
        let at = |number| {
            let place = self.place(number)?.lock();
            place.as_ref().filter(|entry| entry.number == number).map(|entry| entry.value.clone())
        };
        (oldest..next).rev().filter_map(at).filter(|value| is_it(value)).take(limit).collect()
    }

    fn place(&self, number: u64) -> Option<&Mutex<Option<Entry<T>>>> {
        let place = number.checked_rem(self.places.len() as u64)?;
        self.places.get(usize::try_from(place).ok()?)
    }

    /// Puts it into its place, unless a newer one is there already; the one that is left over.
    fn put(&self, entry: Entry<T>) -> Option<Entry<T>> {
        let mut place = self.place(entry.number)?.lock();
        let left = match &*place {
            Some(newer) if newer.number > entry.number => Some(entry),
            _ => place.replace(entry),
        };
        self.bytes.fetch_sub(left.as_ref().map_or(0, |left| left.size), Ordering::Relaxed);
        left
    }

    fn take(&self, number: u64) -> Option<Entry<T>> {
        let mut place = self.place(number)?.lock();
        let taken = place.take_if(|entry| entry.number == number);
        self.bytes.fetch_sub(taken.as_ref().map_or(0, |taken| taken.size), Ordering::Relaxed);
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn all(ring: &Ring<u64>) -> Vec<u64> {
        ring.find(usize::MAX, |_| true).iter().map(|value| **value).collect()
    }

    proptest! {
        #[test]
        fn it_holds_the_newest_that_fit_by_number_and_by_bytes(
            entries in 1usize..20,
            max_bytes in 1usize..200,
            sizes in proptest::collection::vec(0usize..100, 0..60),
        ) {
            let ring = Ring::new(entries, max_bytes);
            let mut wanted: Vec<(u64, usize)> = Vec::new();
            for (value, size) in sizes.into_iter().enumerate() {
                ring.push(value as u64, size);
                if size <= max_bytes {
                    wanted.insert(0, (value as u64, size));
                    wanted.truncate(entries);
                    while wanted.iter().map(|(_, size)| size).sum::<usize>() > max_bytes {
                        wanted.pop();
                    }
                }
                prop_assert_eq!(all(&ring), wanted.iter().map(|(value, _)| *value).collect::<Vec<_>>());
                let bytes = wanted.iter().map(|(_, size)| size).sum::<usize>();
                prop_assert_eq!(ring.bytes.load(Ordering::Relaxed), bytes);
            }
        }
    }

    #[test]
    fn of_none_there_is_room_for_none() {
        let ring = Ring::new(0, 100);
        ring.push(1, 1);
        assert_eq!((all(&ring), ring.capacity()), (vec![], 0));
    }

    #[test]
    fn threads_that_write_at_once_leave_no_more_than_fits() {
        let ring = Ring::new(64, 1_000);
        thread::scope(|scope| {
            for thread in 0..4 {
                let ring = &ring;
                scope.spawn(move || {
                    (0..5_000).for_each(|n| ring.push(thread * 10_000 + n, 1 + n as usize % 90));
                });
            }
            for _ in 0..200 {
                assert!(ring.find(10, |_| true).len() <= 10);
            }
        });
        ring.push(0, 1);
        let held: usize =
            ring.places.iter().filter_map(|place| place.lock().as_ref().map(|entry| entry.size)).sum();
        assert_eq!(ring.bytes.load(Ordering::Relaxed), held);
        assert!(held <= 1_000, "{held}");
        assert!(!all(&ring).is_empty());
    }
}
