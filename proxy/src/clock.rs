//! What the core must not have: a clock, and a source of seeds.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_policy::Timestamp;
use tokio::time::Instant;

/// Unpredictable and cheap: the keys of the standard library's hash maps.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// By the clock on the wall, for what is read by others or after a restart; everything else has [`Clock`].
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Counts from the moment it was made. Follows tokio's clock, so tests can pause it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The time that it was at `moment`.
    pub(crate) fn at(self, moment: Instant) -> Timestamp {
        moment.duration_since(self.0).into()
    }
}
