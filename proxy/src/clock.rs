//! What the core must not have: a clock, and a source of seeds.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
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
pub(crate) struct Clock(Instant, Option<HeldClock>);

/// A clock that stands still until it is set, for whoever plays a history to a real proxy: what policies go by. Timers
/// are not moved by it.
#[derive(Clone, Copy, Debug)]
pub struct HeldClock(&'static AtomicU64);

/// In the place of the time and of chance, so that the same requests are decided in the same way each time.
#[derive(Clone, Copy, Debug)]
pub struct Played {
    pub clock: HeldClock,
    /// Each connection begins with it.
    pub seed: u64,
}

impl HeldClock {
    /// Stands at `now`. It is never given back: eight bytes for each.
    pub fn at(now: Timestamp) -> Self {
        Self(Box::leak(Box::new(AtomicU64::new(now.as_nanos()))))
    }

    pub fn set(self, now: Timestamp) {
        self.0.store(now.as_nanos(), Ordering::SeqCst);
    }
}

impl Played {
    /// That of the request of this number, from 0, on a connection.
    pub fn seed_of(&self, request: u64) -> u64 {
        self.seed.wrapping_add(request.wrapping_mul(SEED_STEP))
    }
}

/// From one request of a connection to the next. The golden ratio's bits: the step of SplitMix64, which visits every seed
/// once.
pub(crate) const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Clock {
    pub(crate) fn start(held: Option<HeldClock>) -> Self {
        Self(Instant::now(), held)
    }

    pub(crate) fn now(self) -> Timestamp {
        self.at(Instant::now())
    }

    /// The time that it was at `moment`.
    pub(crate) fn at(self, moment: Instant) -> Timestamp {
        match self.1 {
            Some(held) => Timestamp::from_nanos(held.0.load(Ordering::SeqCst)),
            None => moment.duration_since(self.0).into(),
        }
    }
}
