//! The election as a state machine: what is read of the Lease goes in, what to do with it comes out.
//!
//! No clock is compared with another's. A candidate takes over when it has seen the same record for a whole term by its
//! own clock, and a leader stops believing in itself when it has not renewed for less than that. So it does not matter
//! by how much clocks differ, only that none runs faster than another by more than the ratio of these two times.

use std::time::Duration;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Nobody takes over before a record has stood still for so long.
    pub lease: Duration,
    /// Whoever has not renewed for so long leads no more. Less than `lease`: the difference is what clocks may drift
    /// apart in that time.
    pub deadline: Duration,
    /// Between two attempts.
    pub retry: Duration,
}

impl Default for Terms {
    /// As the components of Kubernetes have it.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a Lease says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Empty if it was given up.
    pub holder: String,
    /// As the API counts versions of the Lease: nobody overwrites what he has not read.
    pub version: String,
    pub transitions: i64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the Lease, with us as its holder.
    Create,
    /// Write us as the holder over this very version.
    Take(Record),
    /// Nothing, until then; then read it again.
    Wait(Duration),
}

/// One candidate. Time is since any fixed moment of its own.
#[derive(Debug)]
pub struct Election {
    identity: String,
    terms: Terms,
    seen: Option<Seen>,
    /// When the attempt began that last succeeded.
    renewed: Option<Duration>,
    /// When the attempt under way began: the Lease may date from any moment after.
    attempt: Duration,
}

#[derive(Debug)]
struct Seen {
    version: String,
    since: Duration,
}

impl Election {
    pub fn new(identity: impl Into<String>, terms: Terms) -> Self {
        Self { identity: identity.into(), terms, seen: None, renewed: None, attempt: Duration::ZERO }
    }

    /// Whether we may act as the leader at `now`.
    pub fn leads(&self, now: Duration) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// When we stop leading unless we renew before.
    pub fn leads_until(&self) -> Option<Duration> {
        Some(self.renewed? + self.terms.deadline)
    }

    /// The Lease as it was read at `now`; `None` if there is none.
    pub fn read(&mut self, now: Duration, record: Option<Record>) -> Action {
        let Some(record) = record else {
            self.seen = None;
            self.attempt = now;
            return Action::Create;
        };
        if self.seen.as_ref().is_none_or(|seen| seen.version != record.version) {
            self.seen = Some(Seen { version: record.version.clone(), since: now });
        }
        let since = self.seen.as_ref().map_or(now, |seen| seen.since);
        let ours = record.holder == self.identity;
        if !ours {
            self.renewed = None;
        }
        if ours || record.holder.is_empty() || now >= since + self.terms.lease {
            self.attempt = now;
            return Action::Take(record);
        }
        Action::Wait((now + self.terms.retry).min(since + self.terms.lease))
    }

    /// The Lease was created or taken; `record` is what it says now.
    pub fn took(&mut self, now: Duration, record: &Record) -> Action {
        self.renewed = Some(self.attempt);
        self.seen = Some(Seen { version: record.version.clone(), since: now });
        Action::Wait(now + self.terms.retry)
    }

    /// The attempt failed, or nothing is known of it: it may have succeeded, so nothing is concluded.
    pub fn failed(&mut self, now: Duration) -> Action {
        Action::Wait(now + self.terms.retry)
    }

    /// We lead no more, whatever the Lease says.
    pub fn resign(&mut self) {
        self.renewed = None;
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }
}

#[cfg(test)]
#[path = "election_tests.rs"]
mod tests;
