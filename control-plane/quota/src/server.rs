//! All buckets of one server.

use std::collections::BTreeMap;
use std::ops::Bound;
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

/// What one look at some of the buckets came to.
#[derive(Debug, Default, PartialEq)]
pub struct Slice {
    pub assignments: Vec<Assignment>,
    /// Buckets that nothing is kept of any more.
    pub forgotten: Vec<BucketId>,
    /// Where the next look begins; `None` after the last.
    pub next: Option<BucketId>,
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

    /// A report of a bucket whose limit is `limit`. Says whether there was room for it.
    pub fn report(&mut self, report: &Report, limit: Limit, now: Duration) -> bool {
        let quiet_until = self.started.map_or(Duration::ZERO, |started| started + limit.terms.lease());
        if !self.has(report.bucket) && self.buckets.len() >= self.most.buckets {
            return false;
        }
        let bucket =
            self.buckets.entry(report.bucket).or_insert_with(|| Bucket::new(limit, quiet_until, now));
        bucket.rewrite(limit, now);
        let has_room = bucket.has_room(report.client, self.most.members);
        if has_room {
            bucket.report(report, now);
        }
        has_room
    }

    /// Whether anything is known of a bucket. One that is not in use is forgotten when it is full.
    pub fn has(&self, bucket: BucketId) -> bool {
        self.buckets.contains_key(&bucket)
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
        self.rebalance_some(None, usize::MAX, now).assignments
    }

    /// The same of at most so many buckets, for who cannot wait until a million of them are through. `after`: where the
    /// look before ended.
    pub fn rebalance_some(&mut self, after: Option<BucketId>, most: usize, now: Duration) -> Slice {
        let (epoch, number) = (self.epoch, &mut self.number);
        let mut next = || {
            *number += 1;
            Version { epoch, number: *number }
        };
        let (mut slice, mut looked) = (Slice::default(), 0);
        let rest = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        for (id, bucket) in self.buckets.range_mut(rest).take(most) {
            let terms = bucket.terms();
            bucket.rebalance(now, &mut next, |client, grant, tokens, renews| {
                let (version, share, stamp) = (grant.version, grant.share, grant.stamp);
                let bucket = *id;
                let given = Assignment { client, bucket, version, share, terms, tokens, stamp, renews };
                slice.assignments.push(given);
            });
            slice.forgotten.extend(bucket.is_forgettable().then_some(*id));
            looked += 1;
            slice.next = Some(*id).filter(|_| looked == most);
        }
        for id in &slice.forgotten {
            self.buckets.remove(id);
        }
        slice
    }

    /// Buckets in memory.
    pub fn len(&self) -> usize {
        self.buckets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rate, Terms, Tokens, Usage};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn who_looks_at_some_at_a_time_finds_the_same(
            reports in prop::collection::vec((0_u64..4, 0_u8..12, 0_u64..4), 1..60),
            most in 1_usize..14,
        ) {
            let second = Duration::from_secs(1);
            let limit = Limit {
                rate: Rate { requests: 10, per: second, burst: 5 },
                terms: Terms { ttl: second, reuse: second },
            };
            let mut servers = [0, 0].map(|epoch| Server::first(Most { buckets: 10, members: 3 }, epoch));
            let mut now = second;
            for (client, bucket, seconds) in reports {
                now += Duration::from_secs(seconds);
                let (bucket, usage, returned) = (BucketId([bucket; 16]), Usage::default(), Tokens::NONE);
                let report = Report { client, bucket, stamp: now, held: None, usage, returned, leaves: false };
                let [whole, some] = &mut servers;
                prop_assert_eq!(whole.report(&report, limit, now), some.report(&report, limit, now));
                let (mut found, mut after, mut forgotten) = (Vec::new(), None, 0);
                let before = some.len();
                loop {
                    let slice = some.rebalance_some(after, most, now);
                    found.extend(slice.assignments);
                    forgotten += slice.forgotten.len();
                    after = slice.next;
                    if after.is_none() {
                        break;
                    }
                }
                prop_assert_eq!(whole.rebalance(now), found);
                prop_assert_eq!(whole.len(), some.len());
                prop_assert_eq!(before - some.len(), forgotten);
            }
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_said_and_not_kept() {
        let second = Duration::from_secs(1);
        let mut server = Server::new(Most { buckets: 1, members: 1 }, 0, Duration::ZERO);
        let limit = Limit {
            rate: Rate { requests: 1, per: second, burst: 1 },
            terms: Terms { ttl: second, reuse: second },
        };
        let mut report = |client, bucket: [u8; 16]| {
            let (bucket, usage, returned) = (BucketId(bucket), Usage::default(), Tokens::NONE);
            let report = Report { client, bucket, stamp: second, held: None, usage, returned, leaves: false };
            server.report(&report, limit, second)
        };
        assert!(report(1, [0; 16]) && report(1, [0; 16]));
        assert!(!report(2, [0; 16]), "a second client");
        assert!(!report(1, [1; 16]), "a second bucket");
        assert!(server.has(BucketId([0; 16])) && !server.has(BucketId([1; 16])));
    }
}
