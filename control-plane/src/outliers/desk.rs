//! Where statements meet the rules of the documents, and suspicions find the proxies. Waits for nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tidegate_outliers::{Board, Most, Suspicion};
use tidegate_policy::kinds::circuit_breaker::SharedRules;
use tidegate_xds::outliers::{LoadStatsResponse, Said, response};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::PACE;
use crate::status::Suspected;

const MOST: Most = Most { backends: 10_000, endpoints: 10_000, reporters: 10_000 };
/// Of one message.
const MOST_STATEMENTS: usize = 10_000;
/// Host and port, at the most.
const MOST_NAME_BYTES: usize = 512;

pub(super) type Outbox = mpsc::Sender<Result<LoadStatsResponse, Status>>;

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    rules: SharedRules,
    board: Board,
    /// By number.
    streams: BTreeMap<u64, Stream>,
    /// A proxy is one reporter, however often it connects.
    reporters: HashMap<Arc<str>, u64>,
    next: u64,
    /// What proxies were last asked for.
    asked: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// The number that suspicions began with.
    first: u64,
    counts: Counts,
}

#[derive(Debug)]
struct Stream {
    reporter: u64,
    outbox: Outbox,
    /// Ends the stream when this is dropped.
    _end: DropGuard,
}

/// For the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) proxies: usize,
    pub(crate) suspects: usize,
    pub(crate) statements: u64,
    /// Statements of backends that nobody shares, and those that there is no room for.
    pub(crate) unheard: u64,
    /// Endpoints that became suspect.
    pub(crate) suspicions: u64,
    /// Proxies that did not read in time, and had to connect again.
    pub(crate) dropped: u64,
}

impl Desk {
    /// `number`: greater than that of every suspicion of a control plane before.
    pub(super) fn new(number: u64, rules: SharedRules) -> Self {
        Self {
            rules,
            board: Board::new(MOST, number),
            streams: BTreeMap::new(),
            reporters: HashMap::new(),
            next: 0,
            asked: BTreeMap::new(),
            first: number,
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let suspects = self.board.backends().map(|backend| self.board.suspects(backend).count()).sum();
        let suspicions = self.board.number() - self.first;
        Counts { proxies: self.streams.len(), suspects, suspicions, ..self.counts }
    }

    pub(super) fn suspects(&self, now: Duration) -> Vec<Suspected> {
        let of_backend = |backend: &Arc<str>| {
            let (policy, name) = backend.split_once('|').unwrap_or((backend, ""));
            let (policy, name) = (policy.to_owned(), name.to_owned());
            let suspect = move |(endpoint, suspicion): (&Arc<str>, Suspicion)| Suspected {
                policy: policy.clone(),
                backend: name.clone(),
                endpoint: endpoint.to_string(),
                for_seconds: now.saturating_sub(suspicion.since).as_secs(),
                failing: suspicion.failing,
                asked: suspicion.asked,
            };
            self.board.suspects(backend).map(suspect).collect::<Vec<_>>()
        };
        self.board.backends().flat_map(of_backend).collect()
    }

    pub(super) fn rewrite(&mut self, rules: SharedRules) {
        if rules != self.rules {
            let before: Vec<_> = self.with_suspects().collect();
            self.board.rewrite(|backend| rules.of_guard(backend));
            self.rules = rules;
            // Of what is shared no longer, nobody is suspect any more.
            let gone = before.into_iter().filter(|backend| self.board.suspects(backend).next().is_none());
            self.tell(&gone.collect());
        }
    }

    /// A proxy has connected, and hears who is suspect. The token says when it is let go.
    pub(super) fn join(&mut self, node: &str, outbox: Outbox) -> (u64, CancellationToken) {
        self.next += 1;
        let next = self.next;
        let reporter = *self.reporters.entry(node.into()).or_insert(next);
        let first = self.message(&self.with_suspects().collect());
        let end = CancellationToken::new();
        if outbox.try_send(Ok(first)).is_ok() {
            self.streams.insert(next, Stream { reporter, outbox, _end: end.clone().drop_guard() });
        }
        (next, end)
    }

    /// What it said stays true for a while.
    pub(super) fn leave(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    pub(super) fn take(&mut self, stream: u64, said: impl Iterator<Item = Said>, now: Duration) {
        let Some(Stream { reporter, .. }) = self.streams.get(&stream) else { return };
        for said in said.take(MOST_STATEMENTS) {
            self.counts.statements += 1;
            let fits = said.cluster.len() + said.endpoint.len() <= MOST_NAME_BYTES;
            let rules = self.rules.of_guard(&said.cluster).filter(|_| fits);
            let about = (&*said.cluster, &*said.endpoint);
            let heard =
                rules.is_some_and(|rules| self.board.take(*reporter, about, said.statement, rules, now));
            self.counts.unheard += u64::from(!heard);
        }
    }

    /// Looks at all anew, and tells every proxy what has changed.
    pub(super) fn judge(&mut self, now: Duration) {
        let changed = self.board.judge(now);
        if self.board.is_empty() && self.reporters.len() > self.streams.len() {
            let connected: BTreeSet<_> = self.streams.values().map(|stream| stream.reporter).collect();
            self.reporters.retain(|_, reporter| connected.contains(reporter));
        }
        let asked = self.board.asked();
        if !changed.is_empty() || asked != self.asked {
            self.asked = asked;
            self.log(&changed);
            self.tell(&changed);
        }
    }

    fn with_suspects(&self) -> impl Iterator<Item = Arc<str>> {
        self.board.backends().filter(|backend| self.board.suspects(backend).next().is_some()).cloned()
    }

    fn message(&self, backends: &BTreeSet<Arc<str>>) -> LoadStatsResponse {
        let of_backend = |backend| self.board.suspects(backend).map(|(e, s)| (&**e, s)).collect();
        let suspects = backends.iter().map(|backend| (&**backend, of_backend(backend)));
        response(&self.asked, PACE, suspects)
    }

    fn tell(&mut self, backends: &BTreeSet<Arc<str>>) {
        let message = self.message(backends);
        let counts = &mut self.counts;
        self.streams.retain(|_, stream| {
            let told = stream.outbox.try_send(Ok(message.clone())).is_ok();
            counts.dropped += u64::from(!told);
            told
        });
    }

    fn log(&self, changed: &BTreeSet<Arc<str>>) {
        for backend in changed {
            let suspects: Vec<_> = self.board.suspects(backend).map(|(endpoint, _)| &**endpoint).collect();
            tracing::warn!(backend = &**backend, ?suspects, "suspect endpoints changed");
        }
    }
}

#[cfg(test)]
mod tests;
