//! Fetches the keys that issuers of tokens publish, beside traffic and on the runtime that traffic does not share.
//!
//! When is said by the core ([`KeySource`]), which also judges what comes and for how long it holds; here is the asking. One
//! task looks through the snapshot in force for what is due, so that a policy that is gone has nothing fetched any more.

mod fetch;

use std::sync::Arc;
use std::time::Duration;

use tidegate_policy::jwt::{KeySet, KeySource, KeysAwaited};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::state::ProxyState;

/// Fetches under way at one time.
const AT_ONCE: usize = 16;
/// How soon is noticed that a token names a key that is not known.
const NOTICED: Duration = Duration::from_millis(100);
/// With nothing to fetch: until something changes.
const LONG: Duration = Duration::from_secs(3600);

/// Wakes those who wait for the first keys, whenever a fetch has ended.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(watch::Sender<()>);

struct Fetcher {
    proxy: Arc<ProxyState>,
    rng: fastrand::Rng,
    under_way: JoinSet<Done>,
}

type Done = (Arc<KeySource>, Result<KeySet, String>);

/// Begins to fetch whatever the configuration in force wants fetched, until `stop`.
pub(crate) fn start(proxy: &Arc<ProxyState>, runtime: &Handle, stop: CancellationToken) {
    let rng = fastrand::Rng::with_seed(clock::seed());
    let fetcher = Fetcher { proxy: proxy.clone(), rng, under_way: JoinSet::new() };
    runtime.spawn(stop.run_until_cancelled_owned(fetcher.run()));
}

impl Arrivals {
    /// Until the first question has been answered, in whatever way, or nobody waits any longer.
    pub(crate) async fn wait(&self, awaited: &KeysAwaited) {
        let mut ended = self.0.subscribe();
        let answered = async { while awaited.source.is_new() && ended.changed().await.is_ok() {} };
        let _ = timeout(awaited.patience, answered).await;
    }
}

impl Fetcher {
    async fn run(mut self) {
        let mut changes = self.proxy.store.subscribe();
        loop {
            let wait = self.begin_due();
            tokio::select! {
                Some(done) = self.under_way.join_next() => self.take(done.ok()),
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
        }
    }

    /// Begins what is due and there is room for; says how long until something else may be.
    fn begin_due(&mut self) -> Duration {
        let (now, snapshot) = (self.proxy.clock.now(), self.proxy.store.load());
        for source in snapshot.key_sources() {
            if self.under_way.len() < AT_ONCE && source.begin(now) {
                let source = source.clone();
                self.under_way.spawn(async move {
                    let set = fetch::fetch(&source.at).await;
                    (source, set)
                });
            }
        }
        if snapshot.key_sources().is_empty() { LONG } else { NOTICED }
    }

    fn take(&mut self, done: Option<Done>) {
        let Some((source, set)) = done else { return };
        let now = self.proxy.clock.now();
        let came = match set {
            Ok(set) => source.fetched(&set, now, &mut self.rng),
            Err(why) => {
                source.failed(now, &mut self.rng);
                Err(why)
            }
        };
        match came {
            Ok(()) => tracing::debug!(keys = %source.at, "keys fetched"),
            Err(why) => {
                tracing::warn!(keys = %source.at, why, "no new keys; those from before stay in use for now");
            }
        }
        self.proxy.keys.0.send_replace(());
    }
}
