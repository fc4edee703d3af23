//! The buckets of one limit at one proxy, each with the share that is lent to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tidegate_quota::{BucketId, Cell, Fallback, Lease, MESH_DOMAIN, Rate, Report};

use super::{Leases, Mesh, rate};
use crate::kinds::rate_limit::cell::Level;
use crate::kinds::rate_limit::exact::Written;
use crate::kinds::rate_limit::scope::Place;
use crate::state::StateStore;
use crate::time::Timestamp;

/// Of one limit, at one proxy: about 10 MB. Keys beyond share one bucket, which is theirs at every proxy.
const MAX_KEYS: usize = 10_000;

/// A bucket that nobody asked for so long is given up.
const IDLE: Duration = Duration::from_secs(30);

/// Reports are this far apart, but for what others wait for.
const PACE: Duration = Duration::from_millis(200);

/// What every proxy names a bucket by.
pub(crate) type Names = BTreeMap<String, String>;

/// See the module.
#[derive(Debug)]
pub(crate) struct LentBuckets {
    /// What the names of all buckets have in common.
    names: Names,
    written: Mutex<(Rate, Fallback)>,
    buckets: RwLock<FxHashMap<u128, Arc<LentBucket>>>,
    leases: Arc<Leases>,
}

/// One bucket of one limit.
#[derive(Debug)]
pub(crate) struct LentBucket {
    pub(super) id: BucketId,
    names: Names,
    lease: Mutex<Talk>,
    cell: Arc<Cell>,
    /// What the limit holds, whatever the share.
    burst: AtomicU64,
}

#[derive(Debug)]
struct Talk {
    lease: Lease,
    reported: Option<Timestamp>,
    asked: Timestamp,
}

impl LentBuckets {
    /// Finds or makes the buckets of a place. What was spent under another rate stays spent.
    pub(crate) fn bind(place: Place<'_>, mesh: Mesh, written: Written, store: &StateStore) -> Arc<Self> {
        let leases = Leases::of(store);
        let wanted = (rate(written), mesh.fallback());
        let mut made = false;
        let this = store.get_or_insert(place.state_key("|mesh"), || {
            made = true;
            let (written, leases) = (Mutex::new(wanted), Arc::clone(&leases));
            Self { names: names(place), written, buckets: RwLock::default(), leases }
        });
        *this.written.lock() = wanted;
        if made {
            leases.adopt(&this);
        }
        this
    }

    /// The bucket of a key. Allocates only for a new key.
    pub(crate) fn bucket(
        &self,
        key: u128,
        bytes: impl FnOnce() -> Vec<u8>,
        now: Timestamp,
    ) -> Arc<LentBucket> {
        if let Some(bucket) = self.buckets.read().get(&key) {
            return Arc::clone(bucket);
        }
        let name = || BucketId::of([&bytes()[..]]).to_string();
        let mut buckets = self.buckets.write();
        let (key, name) = match buckets.len() < MAX_KEYS || buckets.contains_key(&key) {
            true => (key, name()),
            false => (u128::MAX, String::from("others")),
        };
        let make = || {
            let bucket = Arc::new(self.make(name, now));
            self.leases.index(&bucket);
            bucket
        };
        Arc::clone(buckets.entry(key).or_insert_with(make))
    }

    fn make(&self, key: String, now: Timestamp) -> LentBucket {
        let mut names = self.names.clone();
        names.insert(String::from("key"), key);
        let id = BucketId::named(MESH_DOMAIN, &names);
        let (rate, fallback) = *self.written.lock();
        let lease = Lease::new(0, id, rate, fallback, since_start(now));
        let (cell, burst) = (Arc::clone(lease.cell()), AtomicU64::new(rate.burst));
        LentBucket { id, names, lease: Mutex::new(Talk { lease, reported: None, asked: now }), cell, burst }
    }

    /// Reports that are due; buckets that nobody asks for are given up.
    pub(super) fn reports(&self, now: Timestamp, reports: &mut Vec<(Names, Report)>) {
        let written = *self.written.lock();
        let mut idle = Vec::new();
        for (key, bucket) in &*self.buckets.read() {
            match bucket.turn(written, now) {
                Turn::Report(report) => reports.push((bucket.names.clone(), report)),
                Turn::Quiet => {}
                Turn::Idle => idle.push(*key),
            }
        }
        if !idle.is_empty() {
            self.give_up(&idle, now, reports);
        }
    }

    fn give_up(&self, idle: &[u128], now: Timestamp, reports: &mut Vec<(Names, Report)>) {
        let mut buckets = self.buckets.write();
        for key in idle {
            // Under the lock nobody can newly take it up.
            if buckets
                .get(key)
                .is_some_and(|bucket| Arc::strong_count(bucket) == 1 && !bucket.cell.is_asked())
                && let Some(bucket) = buckets.remove(key)
            {
                reports.push(bucket.leave(now));
            }
        }
    }

    /// Gives up all of them.
    pub(super) fn leave(&self, now: Timestamp, reports: &mut Vec<(Names, Report)>) {
        reports.extend(self.buckets.write().drain().map(|(_, bucket)| bucket.leave(now)));
    }

    pub(super) fn each(&self, mut see: impl FnMut(&Lease)) {
        self.buckets.read().values().for_each(|bucket| see(&bucket.lease.lock().lease));
    }
}

enum Turn {
    Report(Report),
    Quiet,
    Idle,
}

impl LentBucket {
    pub(crate) fn check(&self, cost: u32, now: Timestamp) -> Result<(), Option<Duration>> {
        self.cell.check(cost.into(), since_start(now)).map_err(|wait| self.wait(cost, wait))
    }

    pub(crate) fn spend(&self, cost: u32, now: Timestamp) -> Result<Level, Option<Duration>> {
        let taken = self.cell.take(cost.into(), since_start(now));
        taken.map(level).map_err(|wait| self.wait(cost, wait))
    }

    pub(crate) fn charge(&self, cost: u32, now: Timestamp) {
        self.cell.charge(cost.into(), since_start(now));
    }

    pub(crate) fn level(&self, now: Timestamp) -> Level {
        level(self.cell.level(since_start(now)))
    }

    pub(crate) fn give_back(&self, cost: u32) {
        self.cell.give_back(cost.into());
    }

    /// What the present share never holds, the next one may.
    fn wait(&self, cost: u32, wait: Option<Duration>) -> Option<Duration> {
        let can_be = u64::from(cost) <= self.burst.load(Ordering::Relaxed);
        wait.or(can_be.then_some(Duration::from_secs(1)))
    }

    fn turn(&self, (rate, fallback): (Rate, Fallback), now: Timestamp) -> Turn {
        let mut talk = self.lease.lock();
        let at = since_start(now);
        talk.lease.rewrite(rate, fallback, at);
        talk.lease.tick(at);
        self.burst.store(rate.burst, Ordering::Relaxed);
        let is_asked = self.cell.is_asked();
        if is_asked {
            talk.asked = now;
        } else if now.since(talk.asked) >= IDLE {
            return Turn::Idle;
        }
        let is_due = match talk.reported {
            None => true,
            Some(before) => now.since(before) >= PACE && (is_asked || talk.lease.is_due(at)),
        };
        if is_due { Turn::Report(talk.report(now)) } else { Turn::Quiet }
    }

    /// What is to be told at once, if others wait for it.
    pub(super) fn assign(
        &self,
        assignment: &tidegate_quota::Assignment,
        now: Timestamp,
    ) -> Option<(Names, Report)> {
        let mut talk = self.lease.lock();
        let lowered = talk.lease.assign(assignment, since_start(now));
        lowered.then(|| (self.names.clone(), talk.report(now)))
    }

    fn leave(&self, now: Timestamp) -> (Names, Report) {
        (self.names.clone(), self.lease.lock().lease.leave(since_start(now)))
    }
}

impl Talk {
    fn report(&mut self, now: Timestamp) -> Report {
        self.reported = Some(now);
        self.lease.report(since_start(now))
    }
}

fn names(place: Place<'_>) -> Names {
    let mut names = Names::new();
    names.insert(String::from("policy"), place.policy.to_owned());
    names.insert(String::from("limit"), place.limit.to_owned());
    if let Some(own) = place.own {
        names.insert(String::from("own"), own_name(own));
    }
    names
}

/// A key that has a limit of its own, in one text.
pub(super) fn own_name(key: &[String]) -> String {
    serde_json::Value::from(key).to_string()
}

fn level(level: tidegate_quota::Level) -> Level {
    let remaining = u32::try_from(level.remaining).unwrap_or(u32::MAX);
    Level { remaining, next: level.next.unwrap_or(Duration::from_secs(1)) }
}

pub(super) fn since_start(now: Timestamp) -> Duration {
    Duration::from_nanos(now.as_nanos())
}
