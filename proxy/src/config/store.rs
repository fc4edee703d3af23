//! The configuration in force. Readers load it once per request; a push swaps it whole.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tidegate_policy::model::Resources;
use tidegate_policy::snapshot::{Local, Rejected, Snapshot};
use tidegate_policy::state::StateStore;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{self, Clock};

/// See the module.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<Option<Instant>>,
    state: StateStore,
    local: Local,
    clock: Clock,
}

impl Store {
    pub(crate) fn new(local: Local, clock: Clock) -> Self {
        let state = StateStore::new([clock::seed(), clock::seed()]);
        // Nothing can be rejected where nothing was given.
        let (snapshot, _) = Snapshot::build(&Resources::default(), &local, &state);
        Self {
            current: ArcSwap::from_pointee(snapshot),
            changed: watch::Sender::new(None),
            state,
            local,
            clock,
        }
    }

    /// The snapshot for one request.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
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
    pub(crate) fn compile(&self, resources: &Resources) -> (Snapshot, Vec<Rejected>) {
        Snapshot::build(resources, &self.local, &self.state)
    }

    /// Puts a compiled snapshot in force; the next request sees all of it, those in flight none.
    pub(crate) fn swap(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
        self.state.sweep(self.clock.now());
        self.changed.send_replace(Some(Instant::now()));
    }
}
