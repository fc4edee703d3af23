//! Which statuses to write, and when: a state machine without a clock and without I/O.
//!
//! Each object at most once a second, all of them at a bounded rate. What fails is tried again later and later, and so is
//! what somebody else undoes: two controllers that take themselves for the owner of an entry must not fight for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tidegate_policy::document::ObjectKey;

use super::merge::{merge, own};
use crate::source::Observed;

/// Between two writes to one object: proxies acknowledge one after the other.
const INTERVAL: Duration = Duration::from_secs(1);
/// Writes that may come at once, and how many a second may follow.
const BURST: f64 = 50.0;
const RATE: f64 = 20.0;
/// A pause that can be told from none.
const SHORTEST: Duration = Duration::from_millis(1);
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
/// After somebody has undone what we wrote: twice as long each time.
const TRUCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Once that often it is no accident.
const FIGHT: u32 = 3;
/// Whoever has left our entry alone for so long does not fight.
const PEACE: Duration = Duration::from_secs(900);

/// Says what to write. Time is since any fixed moment.
#[derive(Debug)]
pub struct Planner {
    controller: String,
    entries: BTreeMap<ObjectKey, Entry>,
    tokens: f64,
    filled: Duration,
    rng: fastrand::Rng,
}

/// One status to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub key: ObjectKey,
    /// All fields that are ours, and the others' entries in lists that are written as a whole.
    pub status: Json,
    /// What the object was when this was decided.
    pub base: Arc<Observed>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub writes: Vec<Write>,
    /// When to ask again, if nothing happens before.
    pub next: Option<Duration>,
    /// Objects over whose status there is a fight, told once.
    pub fights: Vec<ObjectKey>,
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Written,
    /// Somebody else wrote the object in between: it is to be looked at anew.
    Conflict,
    /// The object is gone.
    Gone,
    Failed,
}

#[derive(Debug, Default)]
struct Entry {
    not_before: Duration,
    failures: u32,
    /// What we wrote of ours, and over which version of the object.
    written: Option<(Json, String)>,
    fights: u32,
    last_fight: Duration,
}

impl Planner {
    pub fn new(controller: &str, seed: u64) -> Self {
        Self {
            controller: controller.to_owned(),
            entries: BTreeMap::new(),
            tokens: BURST,
            filled: Duration::ZERO,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// `wanted` is everything that is to be said now, `observed` what the API was last seen to hold.
    pub fn plan(
        &mut self,
        now: Duration,
        wanted: &[(ObjectKey, Json)],
        observed: impl Fn(&ObjectKey) -> Option<Arc<Observed>>,
    ) -> Plan {
        self.refill(now);
        let keys: BTreeSet<&ObjectKey> = wanted.iter().map(|(key, _)| key).collect();
        self.entries.retain(|key, _| keys.contains(key));
        let mut plan = Plan::default();
        for (key, wanted) in wanted {
            let Some(base) = observed(key) else { continue };
            let status = merge(&self.controller, wanted, &base.status);
            let entry = self.entries.entry(key.clone()).or_default();
            if entry.was_undone(&self.controller, &base, now) && entry.fights == FIGHT {
                plan.fights.push(key.clone());
            }
            let Some(status) = status else { continue };
            let at = match self.tokens >= 1.0 {
                _ if now < entry.not_before => Some(entry.not_before),
                false => Some(now + SHORTEST.max(Duration::from_secs_f64((1.0 - self.tokens) / RATE))),
                true => None,
            };
            if let Some(at) = at {
                plan.next = Some(plan.next.map_or(at, |next| next.min(at)));
                continue;
            }
            self.tokens -= 1.0;
            entry.not_before = now + INTERVAL;
            plan.writes.push(Write { key: key.clone(), status, base });
        }
        plan
    }

    pub fn done(&mut self, now: Duration, write: &Write, outcome: Outcome) {
        let Some(entry) = self.entries.get_mut(&write.key) else { return };
        match outcome {
            Outcome::Written => {
                entry.failures = 0;
                let version = write.base.resource_version.clone();
                entry.written = Some((own(&self.controller, &write.status), version));
            }
            Outcome::Gone => drop(self.entries.remove(&write.key)),
            Outcome::Conflict | Outcome::Failed => {
                let pause = RETRY.0 * (1 << entry.failures.min(10));
                let jitter = 0.5 + self.rng.f64() / 2.0;
                entry.not_before = now + pause.min(RETRY.1).mul_f64(jitter);
                entry.failures += 1;
            }
        }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * RATE).min(BURST);
        self.filled = now;
    }
}

impl Entry {
    /// Whether somebody else has changed what we wrote. It then rests for a while.
    fn was_undone(&mut self, controller: &str, seen: &Observed, now: Duration) -> bool {
        if self.fights > 0 && now.saturating_sub(self.last_fight) > PEACE {
            self.fights = 0;
        }
        let undone = self.written.as_ref().is_some_and(|(written, base)| {
            seen.resource_version != *base && !holds(written, &own(controller, &seen.status))
        });
        if undone {
            self.written = None;
            self.fights += 1;
            self.last_fight = now;
            let truce = TRUCE.0 * (1 << (self.fights - 1).min(10));
            self.not_before = self.not_before.max(now + truce.min(TRUCE.1));
        }
        undone
    }
}

/// Whether all that was written is still there; what others have added is no harm.
fn holds(written: &Json, seen: &Json) -> bool {
    written.as_object().into_iter().flatten().all(|(field, written)| {
        match (written.as_array(), seen.get(field)) {
            (Some(written), None) => written.is_empty(),
            (Some(written), Some(seen)) => {
                let seen = seen.as_array().map(Vec::as_slice).unwrap_or_default();
                written.iter().all(|entry| seen.contains(entry))
            }
            (None, seen) => seen == Some(written),
        }
    })
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;
