//! All buckets of one server.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::{Assignment, BucketId, Limit, Report, Version};

/// Takes reports at any time and gives assignments when it is asked to rebalance, several times a second.
#[derive(Debug)]
pub struct Server {
    most: Most,
    epoch: u64,
    number: u64,
    /// Shares that others lent before may be held from then on.
    started: Option<Duration>,
    buckets: BTreeMap<BucketId, Bucket>,
}

/// What a server keeps at most. Who comes beyond gets no share, and admits what its fallback says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    pub buckets: usize,
    /// Clients of one bucket.
    pub members: usize,
}

impl Server {
    /// `epoch` must be greater than that of every server before: the time will do.
    pub fn new(most: Most, epoch: u64, now: Duration) -> Self {
        Self { most, epoch, number: 0, started: Some(now), buckets: BTreeMap::new() }
    }

    /// One before which there was none, or none whose clients still live: it need not wait for what others lent.
    pub fn first(most: Most, epoch: u64) -> Self {
        Self { started: None, ..Self::new(most, epoch, Duration::ZERO) }
    }

    /// A report of a bucket whose limit is `limit`.
    pub fn report(&mut self, report: &Report, limit: Limit, now: Duration) {
        let quiet_until = self.started.map_or(Duration::ZERO, |started| started + limit.terms.lease());
        if !self.buckets.contains_key(&report.bucket) && self.buckets.len() >= self.most.buckets {
            return;
        }
        let bucket =
            self.buckets.entry(report.bucket).or_insert_with(|| Bucket::new(limit, quiet_until, now));
        bucket.rewrite(limit, now);
        if bucket.has_room(report.client, self.most.members) {
            bucket.report(report, now);
        }
    }

    /// The list of servers changed. Buckets of others are forgotten; those that others owned until now have shares
    /// that must run out, or be reported, first. `epoch` must be greater than those of the owners before, or their
    /// clients take the assignments of this one for old.
    pub fn take_over(&mut self, owned: impl Fn(BucketId) -> bool, epoch: u64, now: Duration) {
        self.buckets.retain(|id, _| owned(*id));
        self.started = Some(now);
        self.epoch = epoch.max(self.epoch + 1);
    }

    /// Assignments that changed, and those that must be renewed.
    pub fn rebalance(&mut self, now: Duration) -> Vec<Assignment> {
        let (epoch, number) = (self.epoch, &mut self.number);
        let mut next = || {
            *number += 1;
            Version { epoch, number: *number }
        };
        let mut assignments = Vec::new();
        for (id, bucket) in &mut self.buckets {
            let terms = bucket.terms();
            bucket.rebalance(now, &mut next, |client, grant, tokens, renews| {
                let (version, share, stamp) = (grant.version, grant.share, grant.stamp);
                let bucket = *id;
                assignments.push(Assignment { client, bucket, version, share, terms, tokens, stamp, renews });
            });
        }
        self.buckets.retain(|_, bucket| !bucket.is_forgettable());
        assignments
    }

    pub fn knows(&self, bucket: BucketId) -> bool {
        self.buckets.contains_key(&bucket)
    }

    /// Buckets in memory.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}
