//! How the endpoints of one target stand by health checks and breakers together, remembered until either changes its mind:
//! a call must not look at a thousand endpoints to learn that all is well.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::CircuitGuard;
use super::check::{HealthGuard, Standing};

/// Counts the changes of something, so that what follows from it can be remembered.
#[derive(Debug, Default)]
pub(crate) struct Turns(AtomicU64);

impl Turns {
    /// After the change, so that whoever looked before it looks again.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    fn so_far(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What was found last, and after how many turns of both. They only grow, so equal sums mean that neither has turned.
#[derive(Debug, Default)]
pub struct Together(RwLock<Option<(u64, Standing)>>);

impl Together {
    /// Both must be those of one target, at every call the same.
    pub(crate) fn standing(&self, checks: &HealthGuard, breakers: Option<&CircuitGuard>) -> Standing {
        let turns = checks.turns().so_far() + breakers.map_or(0, |breakers| breakers.turns().so_far());
        let known = self.0.try_read().and_then(|known| *known);
        if let Some((at, standing)) = known
            && at == turns
        {
            return standing;
        }
        let standing = match breakers {
            Some(breakers) => checks.standing_beside(|index, endpoint| breakers.ejects(index, endpoint)),
            None => checks.standing(),
        };
        if let Some(mut known) = self.0.try_write() {
            *known = Some((turns, standing));
        }
        standing
    }
}
