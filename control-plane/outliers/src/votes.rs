//! What is known of one endpoint, and whether that is enough.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{Rules, Statement};

/// An endpoint is suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// Greater than that of every suspicion before: whoever has overruled one need not heed it again.
    pub number: u64,
    /// By the board's clock.
    pub since: Duration,
    /// Proxies that said so, when it began.
    pub failing: u32,
    /// Of so many that had called it.
    pub asked: u32,
}

/// All statements about one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    votes: BTreeMap<u64, Vote>,
    /// When the first word of failure came, since when others are asked.
    asked_since: Option<Duration>,
    pub(crate) suspicion: Option<Suspicion>,
}

/// The last word of one proxy, with times by the board's clock.
#[derive(Clone, Copy, Debug)]
struct Vote {
    heard: Duration,
    success: Option<Duration>,
    failing: Option<Charge>,
}

#[derive(Clone, Copy, Debug)]
struct Charge {
    failures: u32,
    since: Duration,
    ejected: bool,
}

/// Who says what.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    failing: usize,
    /// Their failures, each proxy's up to its part.
    failures: u32,
    fine: usize,
}

impl Votes {
    /// Says whether there was room.
    pub(crate) fn take(&mut self, reporter: u64, said: Statement, most: usize, now: Duration) -> bool {
        if !self.votes.contains_key(&reporter) && self.votes.len() >= most {
            return false;
        }
        let before = |age: Duration| now.saturating_sub(age);
        let charge = |failing: crate::Failing| Charge {
            failures: failing.failures,
            since: before(failing.age),
            ejected: failing.ejected,
        };
        let vote = Vote { heard: now, success: said.success.map(before), failing: said.failing.map(charge) };
        self.votes.insert(reporter, vote);
        if vote.failing.is_some() {
            self.asked_since.get_or_insert(now);
        }
        true
    }

    /// Whether others are to say what they know.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked_since.is_some()
    }

    /// Drops what is old, and says whether the endpoint has become suspect or is no longer.
    pub(crate) fn judge(&mut self, rules: &Rules, number: &mut u64, now: Duration) -> bool {
        self.votes.retain(|_, vote| now.saturating_sub(vote.heard) < rules.hold);
        let begun = self.votes.values().filter_map(|vote| Some(vote.failing?.since)).min();
        if begun.is_none() {
            self.asked_since = None;
            return self.suspicion.take().is_some();
        }
        let is_suspect = match &self.suspicion {
            None => self.is_enough(rules, now),
            // What went well before it began says nothing.
            Some(suspicion) => {
                let count = self.count(suspicion.since, rules);
                count.failing > 0 && rules.is_majority(count.failing, count.failing + count.fine)
            }
        };
        match (is_suspect, &self.suspicion) {
            (true, None) => {
                *number += 1;
                let count = self.count(begun.unwrap_or(now), rules);
                let as_u32 = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
                let (failing, asked) = (as_u32(count.failing), as_u32(count.failing + count.fine));
                self.suspicion = Some(Suspicion { number: *number, since: now, failing, asked });
                true
            }
            (false, Some(_)) => {
                self.suspicion = None;
                true
            }
            _ => false,
        }
    }

    fn is_enough(&self, rules: &Rules, now: Duration) -> bool {
        let Some(asked_since) = self.asked_since else { return false };
        let begun = self.votes.values().filter_map(|vote| Some(vote.failing?.since)).min().unwrap_or(now);
        let count = self.count(begun, rules);
        now.saturating_sub(asked_since) >= rules.settle
            && count.failing >= rules.quorum()
            && count.failures >= rules.failures
            && rules.is_majority(count.failing, count.failing + count.fine)
    }

    /// Those who say that it fails, and those for whom it went well after `since`.
    fn count(&self, since: Duration, rules: &Rules) -> Count {
        let mut count = Count::default();
        for vote in self.votes.values() {
            match vote.failing {
                Some(charge) => {
                    let part = if charge.ejected { rules.part() } else { charge.failures.min(rules.part()) };
                    count.failing += 1;
                    count.failures = count.failures.saturating_add(part);
                }
                None => count.fine += usize::from(vote.success.is_some_and(|success| success > since)),
            }
        }
        count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.votes.is_empty() && self.suspicion.is_none()
    }
}
