//! Where reports meet the limits of the documents, and assignments find their clients. Waits for nothing.

use std::collections::HashMap;
use std::time::Duration;

use tidegate_policy::kinds::rate_limit::QuotaLimits;
use tidegate_quota::{Limit, Most, Server};
use tidegate_xds::quota::{
    Assignment, BucketId, ClientId, Names, RateLimitQuotaResponse, Report, abandoned, response,
};
use tokio::sync::mpsc;
use tonic::Status;

/// The way to one client's stream.
pub(super) type Outbox = mpsc::Sender<Result<RateLimitQuotaResponse, Status>>;

const MOST: Most = Most { buckets: 1_000_000, members: 10_000 };
/// What nobody reports any more is forgotten this often.
const CLEAN_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    limits: QuotaLimits,
    server: Server,
    buckets: HashMap<BucketId, Known>,
    clients: HashMap<ClientId, Outbox>,
    cleaned: Duration,
    counts: Counts,
}

/// A bucket that somebody reports.
#[derive(Debug)]
struct Known {
    domain: String,
    names: Names,
    limit: Limit,
}

/// For the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) buckets: usize,
    pub(crate) clients: usize,
    pub(crate) reports: u64,
    pub(crate) assignments: u64,
    /// Assignments that a client did not read in time.
    pub(crate) dropped: u64,
    /// Reports of buckets that have no limit.
    pub(crate) abandoned: u64,
}

impl Desk {
    /// `is_first`: no proxy holds shares of a control plane before.
    pub(super) fn new(epoch: u64, is_first: bool, limits: QuotaLimits) -> Self {
        let server = match is_first {
            true => Server::first(MOST, epoch),
            false => Server::new(MOST, epoch, Duration::ZERO),
        };
        Self {
            limits,
            server,
            buckets: HashMap::new(),
            clients: HashMap::new(),
            cleaned: Duration::ZERO,
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        Counts { buckets: self.server.len(), clients: self.clients.len(), ..self.counts }
    }

    /// The documents changed. What is lent already follows with the next reports.
    pub(super) fn rewrite(&mut self, limits: QuotaLimits) {
        for known in self.buckets.values_mut() {
            if let Some(limit) = limits.limit(&known.domain, &known.names) {
                known.limit = limit;
            }
        }
        self.limits = limits;
    }

    /// Takes what came over one stream.
    pub(super) fn take(
        &mut self,
        domain: &str,
        reports: Vec<(Names, Report)>,
        outbox: &Outbox,
        now: Duration,
    ) {
        let mut unknown = Vec::new();
        for (names, report) in reports {
            self.counts.reports += 1;
            // A client is who first said so, as long as that stream lives.
            let owner = self.clients.entry(report.client).or_insert_with(|| outbox.clone());
            if owner.is_closed() {
                *owner = outbox.clone();
            } else if !owner.same_channel(outbox) {
                continue;
            }
            match self.limits.limit(domain, &names) {
                Some(limit) => {
                    self.server.report(&report, limit, now);
                    let known = || Known { domain: domain.to_owned(), names, limit };
                    self.buckets.entry(report.bucket).or_insert_with(known).limit = limit;
                }
                None => unknown.push(names),
            }
        }
        if !unknown.is_empty() {
            self.counts.abandoned += unknown.len() as u64;
            let _ = outbox.try_send(Ok(abandoned(&unknown)));
        }
    }

    /// Tells everybody what changed.
    pub(super) fn rebalance(&mut self, now: Duration) {
        let mut told = HashMap::<ClientId, Vec<Assignment>>::new();
        for assignment in self.server.rebalance(now) {
            told.entry(assignment.client).or_default().push(assignment);
        }
        for (client, assignments) in told {
            self.tell(client, &assignments);
        }
        if now >= self.cleaned + CLEAN_EVERY {
            self.cleaned = now;
            let Self { server, buckets, clients, .. } = self;
            buckets.retain(|id, _| server.knows(*id));
            clients.retain(|_, outbox| !outbox.is_closed());
        }
    }

    fn tell(&mut self, client: ClientId, assignments: &[Assignment]) {
        let Some(outbox) = self.clients.get(&client) else { return };
        let named = assignments.iter().filter_map(|assignment| {
            let known = self.buckets.get(&assignment.bucket)?;
            Some((&known.names, assignment, known.limit))
        });
        let message = response(named);
        let many = message.bucket_action.len() as u64;
        match outbox.try_send(Ok(message)) {
            Ok(()) => self.counts.assignments += many,
            Err(_) => self.counts.dropped += many,
        }
    }

    /// A stream ended. Its clients may come back over another one.
    pub(super) fn forget(&mut self, outbox: &Outbox) {
        self.clients.retain(|_, other| !other.same_channel(outbox));
    }
}

#[cfg(test)]
mod tests;
