//! How many requests are under a fault at one time. Strict: never one more than the cap, across all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Default)]
pub(super) struct Active(AtomicU32);

/// One request under a fault; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Active>);

impl Active {
    /// `None` if `most` are under it.
    pub(super) fn take(self: &Arc<Self>, most: Option<u32>) -> Option<Place> {
        let most = most.unwrap_or(u32::MAX);
        let one_more = |active: u32| (active < most).then(|| active + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(self)))
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn threads_are_never_more_than_the_cap_at_one_time_and_leave_nothing_behind() {
        let (active, now, most) = (Arc::new(Active::default()), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Some(_place) = active.take(Some(3)) else { continue };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        let places: Vec<_> = (0..5).filter_map(|_| active.take(Some(3))).collect();
        assert_eq!(places.len(), 3);
        drop(places);
        assert_eq!(active.now(), 0);
    }
}
