//! One watch, for as long as there is something to watch.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::Api;
use kube::core::DynamicObject;
use kube::runtime::watcher::{Config, Error, watcher};
use tokio_util::sync::CancellationToken;

use super::store::Feed;
use super::{Cluster, Timing};
use crate::errors::told_of_watch;
use crate::kinds::{Served, read_only};

/// Why a watch is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Cancelled,
    /// The API knows no such kind, or no longer under this version.
    NotServed,
}

/// Pauses between requests that fail: each about twice the one before, never two replicas' in step.
#[derive(Debug)]
pub(crate) struct Pauses {
    bounds: (Duration, Duration),
    next: Duration,
    rng: fastrand::Rng,
}

impl Pauses {
    pub(crate) fn new(timing: &Timing, seed: u64) -> Self {
        Self { bounds: timing.retry, next: timing.retry.0, rng: fastrand::Rng::with_seed(seed) }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.bounds.0;
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next.mul_f64(0.5 + self.rng.f64() / 2.0);
        self.next = (self.next * 2).min(self.bounds.1);
        pause
    }
}

pub(super) async fn follow(cluster: Cluster, feed: Feed, served: Served, stop: CancellationToken) -> Ended {
    let api: Api<DynamicObject> = match &feed {
        Feed::Named(named) if served.namespaced => {
            Api::namespaced_with(cluster.client.clone(), &named.namespace, &served.resource)
        }
        _ => Api::all_with(cluster.client.clone(), &served.resource),
    };
    let mut config = Config::default().timeout(cluster.timing.watch_seconds);
    if let Feed::Named(named) = &feed {
        config = config.fields(&format!("metadata.name={}", named.name));
    }
    if let Some(labels) = read_only(feed.kind()) {
        config = config.labels(labels);
    }
    let mut pauses = Pauses::new(&cluster.timing, crate::seed());
    let mut events = pin!(watcher(api, config));
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        match event {
            Ok(event) => {
                pauses.reset();
                let mut store = cluster.store.lock();
                if store.recovered(&feed) {
                    tracing::info!(watch = %Shown(&feed), "the API answers again");
                }
                let moved = store.take(&feed, event);
                drop(store);
                if moved.documents || moved.observed {
                    cluster.moved(moved.observed);
                }
            }
            Err(error) if is_not_served(&error) => return Ended::NotServed,
            Err(error) => {
                let told = told_of_watch(&error);
                if !is_routine(&error) && cluster.store.lock().failed(&feed, told.clone()) {
                    tracing::warn!(watch = %Shown(&feed), "cannot watch; what was there stays: {told}");
                    cluster.moved(false);
                }
                let pause = if is_routine(&error) { Duration::ZERO } else { pauses.next() };
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return Ended::Cancelled;
                }
            }
        }
    }
    Ended::Cancelled
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status))
        | Error::WatchFailed(kube::Error::Api(status))
        | Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn is_not_served(error: &Error) -> bool {
    code(error) == Some(404)
}

/// A watch that lagged too far behind is begun anew, and that is all.
fn is_routine(error: &Error) -> bool {
    code(error) == Some(410)
}

struct Shown<'a>(&'a Feed);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Feed::Kind(kind) => f.write_str(kind),
            Feed::Named(named) => write!(f, "{}/{}/{}", named.kind, named.namespace, named.name),
        }
    }
}
