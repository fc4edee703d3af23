//! What plugins log: by level, and no more than their budget.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// From the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

/// One line of a plugin's log.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub plugin: &'a Arc<str>,
    pub level: Level,
    /// Of the request that it is about, if any.
    pub stream: Option<&'a dyn crate::outside::StreamView>,
    /// Not all of it, if it was long.
    pub message: &'a str,
    /// Lines that were left out since the last one, because they were too many.
    pub dropped: u64,
}

/// Longer lines are cut.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// Lines per second, with as many at once.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    second: u64,
    lines: u32,
    dropped: u64,
}

impl Level {
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Critical]
            .into_iter()
            .find(|level| *level as u32 == number)
    }
}

impl Rate {
    /// Whether another line may pass, and how many have not since the last.
    pub(crate) fn admit(&mut self, limit: u32, now: Duration) -> Option<u64> {
        if now.as_secs() != self.second {
            (self.second, self.lines) = (now.as_secs(), 0);
        }
        if self.lines >= limit {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

impl fmt::Debug for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.plugin, self.level, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_rate_are_dropped_and_counted() {
        let mut rate = Rate::default();
        let at = Duration::from_secs;
        assert_eq!(rate.admit(2, at(5)), Some(0));
        assert_eq!(rate.admit(2, at(5)), Some(0));
        assert_eq!(rate.admit(2, at(5)), None);
        assert_eq!(rate.admit(2, at(5)), None);
        assert_eq!(rate.admit(2, at(6)), Some(2));
        assert_eq!(rate.admit(0, at(7)), None);
    }
}
