//! The configuration in force. Readers load it once per request; a push swaps it whole.

use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use quinn::crypto::rustls::QuicServerConfig;
use tidegate_policy::health::Outliers;
use tidegate_policy::kinds::rate_limit::Leases;
use tidegate_policy::model::Resources;
use tidegate_policy::snapshot::{BindAddress, Local, Rejected, Snapshot};
use tidegate_policy::state::{Moment, Saved, StateStore};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::counters;
use crate::clock::{self, Clock};
use crate::listener::{BySocket, Certificates};
use crate::upstream;

/// A configuration that is ready to be put in force.
#[derive(Debug)]
pub(crate) struct Compiled {
    snapshot: Snapshot,
    certificates: BySocket,
}

/// See the module.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<Snapshot>,
    certificates: Certificates,
    changed: watch::Sender<Option<Instant>>,
    state: StateStore,
    local: Local,
    clock: Clock,
}

impl Store {
    /// `state_dir`: of counters to go on from.
    pub(crate) fn new(local: Local, clock: Clock, state_dir: Option<&Path>) -> Self {
        let state = counters::restore(state_dir, clock);
        // Nothing can be rejected where nothing was given.
        let (snapshot, _) = Snapshot::build(&Resources::default(), &local, &state);
        Self {
            current: ArcSwap::from_pointee(snapshot),
            certificates: Certificates::default(),
            changed: watch::Sender::new(None),
            state,
            local,
            clock,
        }
    }

    /// What is lent of the limits that all proxies share.
    pub(crate) fn leases(&self) -> Arc<Leases> {
        Leases::of(&self.state)
    }

    /// What is shared of failing endpoints.
    pub(crate) fn outliers(&self) -> Arc<Outliers> {
        Outliers::of(&self.state)
    }

    /// What limits have counted, and how many of them there was no room for in `most` bytes.
    pub(crate) fn save_counters(&self, most: usize) -> (Saved, usize) {
        self.state.save(Moment { clock: self.clock.now(), wall: clock::since_epoch() }, most)
    }

    /// The snapshot for one request.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The snapshot for what takes longer than a moment.
    pub(crate) fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// When the configuration in force was applied; `None` before the first.
    pub fn applied_at(&self) -> Option<Instant> {
        *self.changed.borrow()
    }

    /// Wakes after every change.
    pub fn subscribe(&self) -> watch::Receiver<Option<Instant>> {
        self.changed.subscribe()
    }

    /// Compiles `resources` without putting them in force: what would be rejected?
    pub(crate) fn compile(&self, resources: &Resources) -> (Compiled, Vec<Rejected>) {
        let (snapshot, mut rejected) = Snapshot::build(resources, &self.local, &self.state);
        let (certificates, unusable) = self.certificates.compile(resources);
        rejected.extend(unusable);
        upstream::prepare(&snapshot);
        (Compiled { snapshot, certificates }, rejected)
    }

    /// How TLS is spoken on a gateway's socket where requests are inside; `None` where it is not.
    pub(crate) fn tls(&self, bind: BindAddress) -> Option<TlsAcceptor> {
        self.certificates.for_requests(bind)
    }

    /// The same for HTTP/3.
    pub(crate) fn tls_of_quic(&self, bind: BindAddress) -> Option<Arc<QuicServerConfig>> {
        self.certificates.for_quic(bind)
    }

    /// The same where anything may be inside.
    pub(crate) fn tls_of_streams(&self, bind: BindAddress) -> Option<TlsAcceptor> {
        self.certificates.for_streams(bind)
    }

    /// Puts a compiled snapshot in force; the next request sees all of it, those in flight none.
    pub(crate) fn swap(&self, Compiled { snapshot, certificates }: Compiled) {
        // First: a socket is opened for a listener of the snapshot, and must not begin without TLS.
        self.certificates.swap(certificates);
        self.current.store(Arc::new(snapshot));
        self.state.sweep(self.clock.now());
        self.changed.send_replace(Some(Instant::now()));
    }

    #[cfg(test)]
    pub(super) fn state(&self) -> &StateStore {
        &self.state
    }
}
