//! Where reports meet the limits of the documents, and assignments find their clients. Waits for nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tidegate_policy::kinds::rate_limit::QuotaLimits;
use tidegate_quota::{Assignment, BucketId, ClientId, Limit, Most, Report, Server};
use tidegate_xds::quota::{
    self, Names, RateLimitQuotaResponse, RateLimitQuotaUsageReports, abandon, envoy_response, response,
};
use tokio::sync::mpsc;
use tonic::Status;

/// The way to one client's stream.
pub(super) type Outbox = mpsc::Sender<Result<RateLimitQuotaResponse, Status>>;

/// Of one message. Proxies have ten thousand buckets of one limit.
const MOST_REPORTS: usize = 100_000;
/// Names and values of one bucket together.
const MOST_NAME_BYTES: usize = 4096;
/// Of one answer; our proxies take four times as much.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
const MOST: Most = Most { buckets: 1_000_000, members: 10_000 };
/// What nobody reports any more is forgotten this often.
const CLEAN_EVERY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    limits: QuotaLimits,
    server: Server,
    buckets: HashMap<BucketId, Known>,
    clients: HashMap<ClientId, Caller>,
    cleaned: Duration,
    counts: Counts,
}

/// Who speaks on a stream.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// It is said in the first message, and holds for all.
    pub(super) domain: String,
    pub(super) client: ClientId,
    /// One that knows nothing of leases.
    is_plain: bool,
    outbox: Outbox,
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
    /// Reports of buckets and clients that there is no room for, and what is too long of names or of a message.
    pub(crate) beyond: u64,
}

impl Caller {
    /// `first` of all messages that report something.
    pub(super) fn of(domain: String, first: &RateLimitQuotaUsageReports, outbox: Outbox) -> Self {
        let client = quota::client(first);
        let stranger = || RandomState::new().build_hasher().finish();
        Self { domain, client: client.unwrap_or_else(stranger), is_plain: client.is_none(), outbox }
    }

    fn is_gone(&self) -> bool {
        self.outbox.is_closed()
    }
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
    pub(super) fn take(&mut self, caller: &Caller, reports: Vec<(Names, Report)>, now: Duration) {
        // A client is who last said so: its old stream may be dead for long before anybody notices.
        let known = self.clients.entry(caller.client).or_insert_with(|| caller.clone());
        if !known.outbox.same_channel(&caller.outbox) {
            known.clone_from(caller);
        }
        let mut unknown = Vec::new();
        self.counts.reports += reports.len() as u64;
        for (i, (names, report)) in reports.into_iter().enumerate() {
            if i >= MOST_REPORTS || bytes(&names) > MOST_NAME_BYTES {
                self.counts.beyond += 1;
                continue;
            }
            match self.limits.limit(&caller.domain, &names) {
                Some(limit) => self.note(caller, names, &report, limit, now),
                None => unknown.push(names),
            }
        }
        if !unknown.is_empty() {
            self.counts.abandoned += unknown.len() as u64;
            let _ = caller.outbox.try_send(Ok(abandon(&unknown)));
        }
    }

    fn note(&mut self, caller: &Caller, names: Names, report: &Report, limit: Limit, now: Duration) {
        if self.server.report(report, limit, now) {
            let domain = caller.domain.clone();
            self.buckets.entry(report.bucket).or_insert(Known { domain, names, limit }).limit = limit;
        } else {
            self.counts.beyond += 1;
        }
    }

    /// Tells everybody what changed.
    pub(super) fn rebalance(&mut self, now: Duration) {
        let mut told = HashMap::<ClientId, Vec<Assignment>>::new();
        for assignment in self.server.rebalance(now) {
            told.entry(assignment.client).or_default().push(assignment);
        }
        for (client, assignments) in told {
            self.tell(client, &assignments, now);
        }
        if now >= self.cleaned + CLEAN_EVERY {
            self.cleaned = now;
            let Self { server, buckets, clients, .. } = self;
            buckets.retain(|id, _| server.has(*id));
            clients.retain(|_, caller| !caller.is_gone());
        }
    }

    fn tell(&mut self, client: ClientId, assignments: &[Assignment], now: Duration) {
        let Some(caller) = self.clients.get(&client) else { return };
        let named = assignments.iter().filter_map(|assignment| {
            let known = self.buckets.get(&assignment.bucket)?;
            Some((known.names.clone(), *assignment, known.limit.rate))
        });
        let message = if caller.is_plain {
            envoy_response(&named.collect::<Vec<_>>(), now)
        } else {
            response(&named.map(|(names, assignment, _)| (names, assignment)).collect::<Vec<_>>())
        };
        for part in quota::split(message, ANSWER_BYTES) {
            let many = part.bucket_action.len() as u64;
            match caller.outbox.try_send(Ok(part)) {
                Ok(()) => self.counts.assignments += many,
                Err(_) => self.counts.dropped += many,
            }
        }
    }

    /// A stream ended. Its clients may come back over another one.
    pub(super) fn forget(&mut self, outbox: &Outbox) {
        self.clients.retain(|_, caller| !caller.outbox.same_channel(outbox));
    }
}

fn bytes(names: &Names) -> usize {
    names.iter().map(|(name, value)| name.len() + value.len()).sum()
}

#[cfg(test)]
mod tests;
