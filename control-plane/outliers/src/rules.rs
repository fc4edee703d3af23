//! When an endpoint is suspect.

use std::time::Duration;

/// What one policy asks for before it believes others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Proxies that must have seen it fail; at least 2, or one could make suspect whom it wants.
    pub quorum: u32,
    /// Failures in a row that are needed, of all proxies together.
    pub failures: u32,
    /// Of the proxies that have called it since it began to fail, how many in a hundred must say that it fails.
    pub percent: u8,
    /// How long those who had success are given to say so.
    pub settle: Duration,
    /// After so long without a word of failure, all is forgotten.
    pub hold: Duration,
}

impl Rules {
    /// What one proxy's failures count for at most.
    pub(crate) fn part(&self) -> u32 {
        self.failures.div_ceil(self.quorum.max(2)).max(1)
    }

    pub(crate) fn quorum(&self) -> usize {
        usize::try_from(self.quorum.max(2)).unwrap_or(usize::MAX)
    }

    /// Whether `failing` of `all` are enough of them.
    pub(crate) fn is_majority(&self, failing: usize, all: usize) -> bool {
        failing.saturating_mul(100) >= all.saturating_mul(usize::from(self.percent))
    }
}
