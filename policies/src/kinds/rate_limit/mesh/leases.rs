//! All that is lent to one proxy: what the shell reports, and where assignments go.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tidegate_quota::{Assignment, BucketId, ClientId, Report, State};

use super::bucket::{LentBucket, LentBuckets, Names, since_start};
use crate::state::{StateKey, StateStore};
use crate::time::Timestamp;

/// One per process; see the module.
#[derive(Debug, Default)]
pub struct Leases {
    limits: Mutex<Vec<Weak<LentBuckets>>>,
    buckets: Mutex<FxHashMap<BucketId, Weak<LentBucket>>>,
}

/// How many buckets have which standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub assigned: usize,
    /// Cut off; the last share is still there.
    pub reused: usize,
    /// Without a share.
    pub fallback: usize,
}

impl Leases {
    pub fn of(store: &StateStore) -> Arc<Self> {
        store.get_or_insert(StateKey::new("leases of shared limits", ""), Self::default)
    }

    /// Whether any policy in force has a limit that is lent.
    pub fn are_wanted(&self) -> bool {
        self.limits.lock().iter().any(|limit| limit.strong_count() > 0)
    }

    /// What is to be told to the control plane by now; to be asked some twenty times a second. `client`: another one in
    /// every life of the process.
    pub fn reports(&self, client: ClientId, now: Timestamp) -> Vec<(Names, Report)> {
        let mut reports = Vec::new();
        self.limits().iter().for_each(|limit| limit.reports(now, &mut reports));
        if reports.iter().any(|(_, report)| report.leaves) {
            self.buckets.lock().retain(|_, bucket| bucket.strong_count() > 0);
        }
        signed(reports, client)
    }

    /// What is to be told at the end. From then on, nothing passes that is lent.
    pub fn leave(&self, client: ClientId, now: Timestamp) -> Vec<(Names, Report)> {
        let mut reports = Vec::new();
        self.limits().iter().for_each(|limit| limit.leave(now, &mut reports));
        signed(reports, client)
    }

    /// Takes an assignment. Returns what is to be told at once, because others wait for it.
    pub fn assign(&self, assignment: &Assignment, now: Timestamp) -> Option<(Names, Report)> {
        let bucket = self.buckets.lock().get(&assignment.bucket).and_then(Weak::upgrade)?;
        let (names, mut report) = bucket.assign(assignment, now)?;
        report.client = assignment.client;
        Some((names, report))
    }

    pub fn standing(&self, now: Timestamp) -> Standing {
        let mut standing = Standing::default();
        for limit in self.limits() {
            limit.each(|lease| match lease.state(since_start(now)) {
                State::Assigned => standing.assigned += 1,
                State::Reused => standing.reused += 1,
                State::Fallback => standing.fallback += 1,
            });
        }
        standing
    }

    pub(super) fn adopt(&self, limit: &Arc<LentBuckets>) {
        let mut limits = self.limits.lock();
        limits.retain(|limit| limit.strong_count() > 0);
        limits.push(Arc::downgrade(limit));
    }

    pub(super) fn index(&self, bucket: &Arc<LentBucket>) {
        self.buckets.lock().insert(bucket.id, Arc::downgrade(bucket));
    }

    fn limits(&self) -> Vec<Arc<LentBuckets>> {
        self.limits.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

fn signed(mut reports: Vec<(Names, Report)>, client: ClientId) -> Vec<(Names, Report)> {
    reports.iter_mut().for_each(|(_, report)| report.client = client);
    reports
}
