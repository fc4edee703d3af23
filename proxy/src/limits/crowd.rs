//! `--max-requests` and `--max-memory`: what the proxy itself can bear. Strict: never one request more, over all threads and
//! listeners, from its head to the end of its answer. Who finds no room is told at once, before anything is done for it.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::telemetry::resident_memory;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: u32,
    now: AtomicU32,
    /// Memory is above what it may be.
    full: AtomicBool,
}

/// One request's room; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room(Arc<Crowd>);

impl Crowd {
    /// `None`: nobody is counted.
    pub(crate) fn new(most: Option<NonZeroU32>, memory: Option<NonZeroU64>) -> Option<Arc<Self>> {
        if most.is_none() && memory.is_none() {
            return None;
        }
        let most = most.map_or(u32::MAX, NonZeroU32::get);
        Some(Arc::new(Self { most, now: AtomicU32::new(0), full: AtomicBool::new(false) }))
    }

    /// `None` if there is no room.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Room> {
        if self.full.load(Ordering::Relaxed) {
            return None;
        }
        let one_more = |now: u32| (now < self.most).then(|| now + 1);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Room(self.clone()))
    }

    /// Looks at the memory for as long as it is awaited. Where the system tells none, nobody is turned away.
    pub(crate) async fn watch(self: Arc<Self>, most: NonZeroU64) {
        loop {
            self.weigh(resident_memory(), most);
            tokio::time::sleep(LOOK).await;
        }
    }

    fn weigh(&self, resident: Option<u64>, most: NonZeroU64) {
        let full = resident.is_some_and(|bytes| bytes > most.get());
        if self.full.swap(full, Ordering::Relaxed) != full {
            let limit = most.get();
            tracing::warn!(?resident, limit, full, "requests are refused while memory is above its limit");
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn crowd(most: u32) -> Arc<Crowd> {
        Crowd::new(NonZeroU32::new(most), None).unwrap()
    }

    #[test]
    fn threads_are_never_more_than_may_be_and_all_room_is_given_back() {
        let (crowd, now, most) = (crowd(3), AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Some(_room) = crowd.enter() else { continue };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 3);
        let rooms: Vec<_> = (0..5).filter_map(|_| crowd.enter()).collect();
        assert_eq!(rooms.len(), 3);
        drop(rooms);
        assert_eq!(crowd.now.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn above_its_memory_nobody_enters_and_below_it_everybody_does_again() {
        let (crowd, most) = (crowd(3), NonZeroU64::new(1000).unwrap());
        crowd.weigh(Some(1001), most);
        assert!(crowd.enter().is_none());
        crowd.weigh(Some(1000), most);
        assert!(crowd.enter().is_some());
        crowd.weigh(None, most);
        assert!(crowd.enter().is_some(), "nobody knows");
        assert!(Crowd::new(None, None).is_none() && Crowd::new(None, Some(most)).is_some());
    }
}
