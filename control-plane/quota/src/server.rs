//! All buckets of one server.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::{Assignment, BucketId, Rate, Report, Terms, Version};

/// Takes reports at any time and gives assignments when it is asked to rebalance, several times a second.
#[derive(Debug)]
pub struct Server {
    terms: Terms,
    /// Clients of one bucket; those beyond get no share.
    members: usize,
    epoch: u64,
    number: u64,
    started: Duration,
    buckets: BTreeMap<BucketId, Bucket>,
}

impl Server {
    /// `epoch` must be greater than that of every server before: the time will do.
    pub fn new(terms: Terms, members: usize, epoch: u64, now: Duration) -> Self {
        Self { terms, members, epoch, number: 0, started: now, buckets: BTreeMap::new() }
    }

    /// A report of a bucket whose limit is `rate`.
    pub fn report(&mut self, report: &Report, rate: Rate, now: Duration) {
        let quiet_until = self.started + self.terms.lease();
        let bucket = self.buckets.entry(report.bucket).or_insert_with(|| Bucket::quiet_until(quiet_until));
        bucket.per_second = rate.per_second();
        if bucket.has_room(report.client, self.members) {
            bucket.report(report, self.terms, now);
        }
    }

    /// The list of servers changed. Buckets of others are forgotten; those that others owned until now have shares
    /// that must run out, or be reported, first. `epoch` must be greater than those of the owners before, or their
    /// clients take the assignments of this one for old.
    pub fn take_over(&mut self, owned: impl Fn(BucketId) -> bool, epoch: u64, now: Duration) {
        self.buckets.retain(|id, _| owned(*id));
        self.started = now;
        self.epoch = epoch.max(self.epoch + 1);
    }

    /// Assignments that changed, and those that must be renewed.
    pub fn rebalance(&mut self, now: Duration) -> Vec<Assignment> {
        let (terms, epoch, number) = (self.terms, self.epoch, &mut self.number);
        let mut next = || {
            *number += 1;
            Version { epoch, number: *number }
        };
        let mut assignments = Vec::new();
        for (id, bucket) in &mut self.buckets {
            bucket.rebalance(terms, now, &mut next, |client, grant, renews| {
                let (version, share, stamp) = (grant.version, grant.share, grant.stamp);
                assignments.push(Assignment { client, bucket: *id, version, share, stamp, renews });
            });
        }
        self.buckets.retain(|_, bucket| !bucket.is_empty());
        assignments
    }

    /// Buckets in memory.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}
