//! Clients that take their requests back as fast as they make them: cheap for them, and each costs us a call upstream.
//!
//! HTTP/2 has no limit of its own on it (CVE-2023-44487, "rapid reset"); the connection is what can be taken away.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Fewer are never held against a client.
const TOLERATED: u32 = 500;
/// Who waits longer than this before giving up has waited, and abuses nothing.
const SOON: Duration = Duration::from_secs(1);

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    requests: AtomicU32,
    taken_back: AtomicU32,
}

/// A request that has no answer yet. Dropped without [`Waiting::answered`], it was taken back.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    resets: Option<&'a Resets>,
    since: Instant,
}

impl Resets {
    pub(super) fn begin(&self, now: Instant) -> Waiting<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Waiting { resets: Some(self), since: now }
    }

    /// All so far.
    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether most requests of this connection were taken back at once, and there were many.
    pub(super) fn too_many(&self) -> bool {
        let taken_back = self.taken_back.load(Ordering::Relaxed);
        taken_back > TOLERATED && taken_back > self.requests.load(Ordering::Relaxed) / 2
    }
}

impl Waiting<'_> {
    pub(super) fn answered(mut self) {
        self.resets = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(resets) = self.resets
            && self.since.elapsed() < SOON
        {
            resets.taken_back.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_most_requests_back_is_found_out() {
        let resets = Resets::default();
        for _ in 0..TOLERATED {
            drop(resets.begin(Instant::now()));
        }
        assert!(!resets.too_many());
        drop(resets.begin(Instant::now()));
        assert!(resets.too_many());
    }

    #[test]
    fn a_client_that_takes_as_many_answers_is_left_alone() {
        let resets = Resets::default();
        for _ in 0..TOLERATED * 4 {
            drop(resets.begin(Instant::now()));
            resets.begin(Instant::now()).answered();
        }
        assert!(!resets.too_many());
    }
}
