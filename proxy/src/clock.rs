//! The one clock of the proxy: what [`Timestamp`]s are counted from.

use tidegate_policy::Timestamp;
use tokio::time::Instant;

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
