//! What the core must not have: a clock, and a source of seeds.

use std::hash::{BuildHasher, Hasher, RandomState};

use tidegate_policy::Timestamp;
use tokio::time::Instant;

/// Unpredictable and cheap: the keys of the standard library's hash maps.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Counts from the moment it was made. Follows tokio's clock, so tests can pause it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Timestamp {
        self.0.elapsed().into()
    }
}
