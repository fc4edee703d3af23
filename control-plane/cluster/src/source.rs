//! Where documents come from in a cluster: its API. Every object is one document, read as one in a file would be.
//!
//! Nothing is told before the first whole listing of every kind that the cluster has. After that the API may go away
//! and come back: what was there stays.

mod document;
mod feed;
mod keeper;
mod references;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use parking_lot::Mutex;
use tidegate_control_plane::source::Reading;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use document::{Document, GATEWAY_LABEL, Observed, Scope};
pub(crate) use feed::Pauses;
pub use references::{Reference, references};
pub use store::{Feed, Store};

/// How long things may take. The defaults are for clusters; tests are in a hurry.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// A burst of changes is over when nothing has come for so long,
    pub quiet: Duration,
    /// or when it has gone on for so long.
    pub burst: Duration,
    /// How often it is asked whether kinds are there now that were not.
    pub rediscover: Duration,
    /// What is referred to is waited for as long before its referrer is told without it.
    pub referred: Duration,
    /// At the start, what cannot be listed holds up the rest for so long.
    pub patience: Duration,
    /// Bounds of the pause after a request that failed.
    pub retry: (Duration, Duration),
    /// The API ends a watch after so many seconds, and it is begun anew where it ended.
    pub watch_seconds: u32,
    /// A change of the authority's Secret is seen after so long at the latest.
    pub authority: Duration,
}

/// What the API was last seen to hold, shared with who writes to it.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub store: Arc<Mutex<Store>>,
    /// Told of everything that happens in the store.
    changed: Arc<Notify>,
    /// Counts what was seen of objects' status.
    pub observed: watch::Sender<u64>,
    pub timing: Timing,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("timing", &self.timing).finish_non_exhaustive()
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(50),
            burst: Duration::from_millis(500),
            rediscover: Duration::from_secs(5),
            referred: Duration::from_secs(2),
            patience: Duration::from_secs(30),
            retry: (Duration::from_millis(500), Duration::from_secs(30)),
            watch_seconds: 290,
            authority: Duration::from_secs(10),
        }
    }
}

impl Cluster {
    pub fn new(client: Client, timing: Timing) -> Self {
        Self {
            client,
            store: Arc::default(),
            changed: Arc::default(),
            observed: watch::Sender::new(0),
            timing,
        }
    }

    /// Reads until `shutdown`. The channel holds nothing until everything was listed once, and then always the last
    /// reading.
    pub fn read(&self, shutdown: CancellationToken) -> watch::Receiver<Option<Arc<Reading>>> {
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(keeper::keep(self.clone(), sender, shutdown));
        receiver
    }

    /// What was just written is known before the watch tells it.
    pub fn written(&self, kind: &str, object: kube::core::DynamicObject) {
        self.store.lock().written(kind, object);
    }

    fn moved(&self, observed: bool) {
        self.changed.notify_one();
        if observed {
            self.observed.send_modify(|count| *count += 1);
        }
    }
}
