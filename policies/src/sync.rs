//! Where another thread may come between two steps on a number that threads share.
//!
//! The machine needs no telling. But a test that goes through the orders in which threads can meet there must know the
//! places; it runs the very code that serves requests.

#[cfg(not(test))]
#[inline]
pub(crate) fn point() {}

#[cfg(test)]
pub(crate) use modelled::{modelled, point};

#[cfg(test)]
mod modelled {
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    use shuttle::sync::atomic::AtomicBool;

    thread_local! {
        /// The scheduler runs all its threads on the one that has started it, and tests beside it are none of its business.
        static MODELLED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs a check of the scheduler, to whom each [`point`] is a place to go on with another thread.
    pub(crate) fn modelled(check: impl FnOnce()) {
        MODELLED.set(true);
        check();
        MODELLED.set(false);
    }

    pub(crate) fn point() {
        if MODELLED.get() {
            // Whatever is done to a number of its own is such a place to it.
            AtomicBool::new(false).load(Ordering::SeqCst);
        }
    }
}
