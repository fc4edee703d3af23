//! What may be said again only after a while: a client that fails ten times a second is worth one line.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Between two lines in the log that say the same.
const EVERY: Duration = Duration::from_secs(60);

/// One for each thing to say.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    /// Whether it is time to say it (again).
    pub(super) fn now(&self) -> bool {
        let mut last = self.0.lock();
        let due = last.is_none_or(|then| then.elapsed() >= EVERY);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}
