//! What other proxies know of one endpoint, and what this one can tell them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tidegate_outliers::{Failing, Rules, Statement, Witness};

use crate::time::Timestamp;

/// That others hold an endpoint to be failing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// As in its label.
    pub endpoint: Arc<str>,
    /// Greater than that of every suspicion before.
    pub number: u64,
    /// Proxies that said so when it began, of so many that had called it.
    pub failing: u32,
    pub asked: u32,
}

/// One endpoint of one guard whose policy shares. Asked by every call, without a lock.
#[derive(Debug)]
pub struct SharedEndpoint {
    witness: Witness,
    /// Number of the suspicion, 0 for none.
    suspected: AtomicU64,
    /// The suspicion that a call of our own has disproved.
    overruled: AtomicU64,
    /// When the next call may go there all the same, in nanoseconds.
    trial: AtomicU64,
    told: Mutex<Told>,
}

/// What is needed beside calls only.
#[derive(Debug, Default)]
struct Told {
    suspect: Option<(Suspect, Timestamp)>,
    /// The last statement, and when it was made.
    said: Option<(Statement, Timestamp)>,
}

/// Who is fine is asked again after so long at the earliest.
const FINE_AGAIN: Duration = Duration::from_millis(500);

impl Default for SharedEndpoint {
    fn default() -> Self {
        Self {
            witness: Witness::default(),
            suspected: AtomicU64::new(0),
            overruled: AtomicU64::new(0),
            trial: AtomicU64::new(0),
            told: Mutex::default(),
        }
    }
}

impl SharedEndpoint {
    /// Whether a call would be let through now.
    pub(crate) fn would_admit(&self, now: Timestamp) -> bool {
        !self.is_avoided() || self.trial.load(Ordering::Relaxed) <= now.as_nanos()
    }

    /// Leave for a call. Of those to a suspect, one passes now and then.
    pub(crate) fn admit(&self, rules: &Rules, now: Timestamp) -> bool {
        if !self.is_avoided() {
            return true;
        }
        let (due, next) = (self.trial.load(Ordering::Relaxed), after(now, rules.hold));
        due <= now.as_nanos()
            && self.trial.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How long until a call is tried.
    pub(crate) fn retry_in(&self, now: Timestamp) -> Duration {
        Duration::from_nanos(self.trial.load(Ordering::Relaxed).saturating_sub(now.as_nanos()))
    }

    /// How a call ended. One that went well is worth more than what others say; whether they are overruled by it.
    pub(crate) fn record(&self, ok: bool, now: Timestamp) -> bool {
        self.witness.record(ok, Duration::from_nanos(now.as_nanos()));
        let overrules = ok && self.is_avoided();
        if overrules {
            self.overrule();
        }
        overrules
    }

    /// What is suspected now no longer counts.
    pub(super) fn overrule(&self) {
        self.overruled.store(self.suspected.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The control plane's word: it is suspect, or not any more. The first call is tried after a while that differs from
    /// proxy to proxy.
    pub(crate) fn told(
        &self,
        suspect: Option<&Suspect>,
        rules: &Rules,
        now: Timestamp,
        rng: &mut fastrand::Rng,
    ) {
        let mut told = self.told.lock();
        let before = told.suspect.as_ref().map_or(0, |(suspect, _)| suspect.number);
        let number = suspect.map_or(0, |suspect| suspect.number);
        if number == before {
            return;
        }
        told.suspect = suspect.map(|suspect| (suspect.clone(), now));
        let spread = u64::try_from(rules.hold.as_nanos()).unwrap_or(u64::MAX);
        let wait = Duration::from_nanos(spread / 2 + rng.u64(..=spread));
        self.trial.store(after(now, wait), Ordering::Relaxed);
        self.suspected.store(number, Ordering::Relaxed);
    }

    /// What the control plane said last, with when, unless it is overruled.
    pub fn suspect(&self) -> Option<(Suspect, Timestamp)> {
        if !self.is_avoided() {
            return None;
        }
        self.told.lock().suspect.clone()
    }

    /// What others should hear now: that it fails, where that is news or long ago; that it does not any more; and,
    /// where it is `asked`, that it goes well. `ejected`: our own breaker holds it back, since then.
    pub(crate) fn statement(
        &self,
        ejected: Option<Timestamp>,
        asked: bool,
        rules: &Rules,
        now: Timestamp,
    ) -> Option<Statement> {
        let mut told = self.told.lock();
        let failed_before = told.said.is_some_and(|(said, _)| said.failing.is_some());
        if !self.witness.is_failing() && ejected.is_none() && !asked && !failed_before {
            return None;
        }
        let ejected = ejected.map(|since| now.since(since));
        let statement = self.witness.statement(ejected, Duration::from_nanos(now.as_nanos()));
        let fresh = match (told.said, statement.failing) {
            (None, _) => true,
            (Some((before, at)), Some(failing)) => {
                let known = |failing: Failing| (failing.failures, failing.ejected);
                before.failing.map(known) != Some(known(failing)) || now.since(at) >= rules.hold / 4
            }
            (Some((_, at)), None) => {
                let newer = statement.success.is_some_and(|age| age < now.since(at));
                failed_before || newer && now.since(at) >= FINE_AGAIN
            }
        };
        let has_word = statement != Statement::default();
        (fresh && has_word).then(|| {
            told.said = Some((statement, now));
            statement
        })
    }

    /// Nobody who was told anything is left: all is to be said again.
    pub(crate) fn unheard(&self) {
        self.told.lock().said = None;
    }

    pub(super) fn is_avoided(&self) -> bool {
        let suspected = self.suspected.load(Ordering::Relaxed);
        suspected != 0 && self.overruled.load(Ordering::Relaxed) != suspected
    }
}

fn after(now: Timestamp, wait: Duration) -> u64 {
    now.as_nanos().saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
