//! The time that a request over HTTP/1 may take where its rule says none, without a timer for each: the connection has
//! one that looks in every few seconds anyway, and here it finds when it is wanted earlier.
//!
//! HTTP/1 connections have one request at a time, and the task that keeps their timer is the one that waits for the answer.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

/// See the module. Nothing is read here by another task than the one that writes.
#[derive(Debug)]
pub(crate) struct Overtime {
    begun: Instant,
    /// Nanoseconds after `begun`; 0 while nothing is waited for.
    deadline: AtomicU64,
    over: AtomicBool,
}

/// Nobody waits any more.
struct Waiting<'a>(&'a Overtime);

impl Overtime {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), deadline: AtomicU64::new(0), over: AtomicBool::new(false) }
    }

    /// Comes once [`Overtime::look`] has seen `deadline` pass.
    pub(crate) async fn until(&self, deadline: Instant) {
        let deadline = u64::try_from(deadline.duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX);
        self.over.store(false, Ordering::Relaxed);
        self.deadline.store(deadline.max(1), Ordering::Relaxed);
        let _waiting = Waiting(self);
        // Whoever looks wakes the task.
        poll_fn(|_| if self.over.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// What is waited for: when it will be time, or `None` if nothing is. If it is time now, says so to whoever waits: its
    /// task must then be woken, which is for the caller to do.
    pub(super) fn look(&self, now: Instant) -> Option<Look> {
        let deadline = match self.deadline.load(Ordering::Relaxed) {
            0 => return None,
            nanos => self.begun + Duration::from_nanos(nanos),
        };
        if now < deadline {
            return Some(Look::At(deadline));
        }
        self.over.store(true, Ordering::Relaxed);
        Some(Look::Over)
    }
}

/// What [`Overtime::look`] saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    At(Instant),
    Over,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.deadline.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn it_is_over_when_somebody_looks_after_the_deadline_and_not_before() {
        let overtime = Overtime::new();
        let deadline = overtime.begun + Duration::from_secs(15);
        assert_eq!(overtime.look(deadline), None);
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut waiting = pin!(overtime.until(deadline));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert_eq!(overtime.look(deadline - Duration::from_nanos(1)), Some(Look::At(deadline)));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert_eq!(overtime.look(deadline), Some(Look::Over));
            assert!(waiting.as_mut().poll(&mut cx).is_ready());
        }
        assert_eq!(overtime.look(deadline), None, "nobody waits any more");
        let mut next = pin!(overtime.until(deadline + Duration::from_secs(15)));
        assert!(next.as_mut().poll(&mut cx).is_pending(), "the next request has its own time");
    }
}
