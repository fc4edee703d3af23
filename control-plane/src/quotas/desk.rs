//! Where reports meet the limits of the documents, and assignments find their clients. Waits for nothing.

mod answers;
mod caller;

use std::collections::HashMap;
use std::time::Duration;

use tidegate_policy::kinds::rate_limit::QuotaLimits;
use tidegate_quota::{BucketId, ClientId, Limit, Most, Report, Server};
use tidegate_xds::quota::{Names, abandon};
use tokio::sync::mpsc;

pub(super) use caller::{Caller, Outbox, StreamId};

use super::peers::{Peers, Way};
use answers::Told;

/// Of one message. Proxies have ten thousand buckets of one limit.
const MOST_REPORTS: usize = 100_000;
/// Names and values of one bucket together.
const MOST_NAME_BYTES: usize = 4096;
const MOST: Most = Most { buckets: 1_000_000, members: 10_000 };
/// What nobody reports any more is forgotten this often.
const CLEAN_EVERY: Duration = Duration::from_secs(1);
/// Looked at in one go: some milliseconds, for which reports wait.
const LOOK: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    limits: QuotaLimits,
    server: Server,
    peers: Peers,
    relays: Relays,
    buckets: HashMap<BucketId, Known>,
    clients: HashMap<ClientId, Caller>,
    cleaned: Duration,
    counts: Counts,
}

/// A report on its way to the peer that lends of its bucket.
#[derive(Clone, Debug)]
pub(super) struct Relayed {
    pub(super) domain: String,
    pub(super) names: Names,
    pub(super) report: Report,
}

/// What is to be told after one look at all buckets, as far as it has come.
#[derive(Debug)]
pub(super) struct Round {
    now: Duration,
    after: Option<BucketId>,
    told: HashMap<StreamId, (Caller, Vec<Told>)>,
}

/// Where reports of other replicas' buckets go, by their names.
pub(super) type Relays = HashMap<String, mpsc::Sender<Relayed>>;

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
    /// Other replicas that shares are lent by.
    pub(crate) peers: usize,
    pub(crate) connected_peers: usize,
    /// Reports that went on their way to one of them.
    pub(crate) relayed: u64,
    /// Reports for one that could not be reached, or did not read in time.
    pub(crate) unsent: u64,
    /// Reports that another replica relayed here and whose buckets are not lent here.
    pub(crate) misdirected: u64,
}

impl Desk {
    /// `is_first`: no proxy holds shares of a control plane before.
    pub(super) fn new(
        epoch: u64,
        is_first: bool,
        limits: QuotaLimits,
        (peers, relays): (Peers, Relays),
    ) -> Self {
        let server = match is_first {
            true => Server::first(MOST, epoch),
            false => Server::new(MOST, epoch, Duration::ZERO),
        };
        Self {
            limits,
            server,
            peers,
            relays,
            buckets: HashMap::new(),
            clients: HashMap::new(),
            cleaned: Duration::ZERO,
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let (buckets, clients, peers) = (self.server.len(), self.clients.len(), self.relays.len());
        Counts { buckets, clients, peers, ..self.counts }
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
        let mut unknown = Vec::new();
        self.counts.reports += reports.len() as u64;
        for (i, (names, report)) in reports.into_iter().enumerate() {
            if i >= MOST_REPORTS || bytes(&names) > MOST_NAME_BYTES {
                self.counts.beyond += 1;
                continue;
            }
            match self.limits.limit(&caller.domain, &names) {
                Some(limit) => self.direct(caller, names, &report, limit, now),
                None => unknown.push(names),
            }
        }
        self.counts.abandoned += unknown.len() as u64;
        // A replica has the same documents, or will have them soon: then it tells its clients itself.
        if !unknown.is_empty() && !caller.is_peer() {
            let _ = caller.outbox.try_send(Ok(abandon(&unknown)));
        }
    }

    fn direct(&mut self, caller: &Caller, names: Names, report: &Report, limit: Limit, now: Duration) {
        let way = self.peers.way(report.bucket, caller.is_peer());
        if way == Way::Nowhere {
            self.counts.misdirected += 1;
            return;
        }
        // A client is who last said so: its old stream may be dead for long before anybody notices.
        let known = self.clients.entry(report.client).or_insert_with(|| caller.clone());
        if known.stream != caller.stream {
            known.clone_from(caller);
        }
        let Way::To(peer) = way else { return self.note(caller, names, report, limit, now) };
        let relayed = Relayed { domain: caller.domain.clone(), names, report: *report };
        if self.relays.get(peer).is_some_and(|relay| relay.try_send(relayed).is_ok()) {
            self.counts.relayed += 1;
        } else {
            self.counts.unsent += 1;
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

    /// Looks at some more buckets; whether there are more of them.
    pub(super) fn rebalance(&mut self, round: &mut Round) -> bool {
        let slice = self.server.rebalance_some(round.after, LOOK, round.now);
        for assignment in slice.assignments {
            let Some(caller) = self.clients.get(&assignment.client) else { continue };
            let Some(known) = self.buckets.get(&assignment.bucket) else { continue };
            let (_, told) = round.told.entry(caller.stream).or_insert_with(|| (caller.clone(), Vec::new()));
            told.push((known.names.clone(), assignment, known.limit.rate));
        }
        for id in &slice.forgotten {
            self.buckets.remove(id);
        }
        round.after = slice.next;
        round.after.is_some()
    }

    /// Forgets who is gone.
    pub(super) fn clean(&mut self, now: Duration) {
        if now >= self.cleaned + CLEAN_EVERY {
            self.cleaned = now;
            self.clients.retain(|_, caller| !caller.is_gone());
        }
    }

    /// A peer came, or went.
    pub(super) fn connected(&mut self, is_connected: bool) {
        let connected = self.counts.connected_peers;
        self.counts.connected_peers = if is_connected { connected + 1 } else { connected.saturating_sub(1) };
    }

    /// Reports were dropped on their way to a peer.
    pub(super) fn lost(&mut self, reports: usize) {
        self.counts.unsent += reports as u64;
    }

    /// A stream ended. Its clients may come back over another one.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.clients.retain(|_, caller| caller.stream != stream);
    }
}

impl Round {
    pub(super) fn new(now: Duration) -> Self {
        Self { now, after: None, told: HashMap::new() }
    }

    /// To whom, and what: all of one in one message.
    pub(super) fn told(self) -> impl Iterator<Item = (Caller, Vec<Told>)> {
        self.told.into_values()
    }
}

fn bytes(names: &Names) -> usize {
    names.iter().map(|(name, value)| name.len() + value.len()).sum()
}

#[cfg(test)]
mod tests;
