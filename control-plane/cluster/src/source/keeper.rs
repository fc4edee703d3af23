//! Keeps a watch on everything that is to be watched, and tells readings when it is quiet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_control_plane::source::Reading;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Cluster;
use super::feed::{self, Ended, Pauses};
use super::store::Feed;
use crate::errors::{in_time, told};
use crate::kinds::{self, Kind, REFERRED, Served};

/// A kind that was there is believed to be gone when the API has said so as many times: one that is just starting may
/// not know all of them yet.
const GONE: u32 = 3;

struct Keeper {
    cluster: Cluster,
    running: BTreeMap<Feed, Running>,
    tasks: JoinSet<(Feed, Ended)>,
    /// Kinds whose watch is not running, and how often the API said that they are not there.
    missing: BTreeMap<&'static str, u32>,
    /// Secrets and ConfigMaps, which are watched one by one.
    referred: BTreeMap<&'static str, Served>,
    /// Whether the API has told once what it serves.
    discovered: bool,
    began: Instant,
    /// Until when what is not listed yet is waited for.
    waiting: Option<Instant>,
    stop: CancellationToken,
}

struct Running {
    stop: CancellationToken,
    began: Instant,
}

pub(super) async fn keep(
    cluster: Cluster,
    readings: watch::Sender<Option<Arc<Reading>>>,
    shutdown: CancellationToken,
) {
    let mut keeper = Keeper {
        running: BTreeMap::new(),
        tasks: JoinSet::new(),
        missing: kinds::all().map(|kind| (kind.kind, 0)).collect(),
        referred: BTreeMap::new(),
        discovered: false,
        began: Instant::now(),
        waiting: None,
        stop: shutdown.child_token(),
        cluster,
    };
    let ended = shutdown.run_until_cancelled(keeper.run(&readings)).await;
    keeper.stop.cancel();
    if ended.is_some() {
        tracing::debug!("nobody reads the cluster any more");
    }
}

impl Keeper {
    async fn run(&mut self, readings: &watch::Sender<Option<Arc<Reading>>>) {
        let timing = self.cluster.timing;
        let mut pauses = Pauses::new(&timing, crate::seed());
        let mut rng = fastrand::Rng::with_seed(crate::seed());
        let mut look = Instant::now();
        // When the first and the last change came that was not told yet.
        let mut burst: Option<(Instant, Instant)> = None;
        loop {
            let tell = burst.map(|(first, last)| (last + timing.quiet).min(first + timing.burst));
            let tell = tell.into_iter().chain(self.deadline(readings)).min();
            let changed = self.cluster.changed.clone();
            tokio::select! {
                () = readings.closed() => return,
                () = changed.notified() => {
                    let now = Instant::now();
                    burst = Some((burst.map_or(now, |(first, _)| first), now));
                }
                () = sleep_until(look), if !self.missing.is_empty() => {
                    let pause = match self.discover().await {
                        Ok(()) => {
                            pauses.reset();
                            timing.rediscover.mul_f64(0.75 + rng.f64() / 2.0)
                        }
                        Err(error) => {
                            let told = told(&error);
                            tracing::warn!("cannot ask the API which kinds it has, trying again: {told}");
                            pauses.next()
                        }
                    };
                    look = Instant::now() + pause;
                    let now = Instant::now();
                    burst = burst.or(Some((now, now)));
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok((feed, Ended::NotServed)) = ended {
                        self.lost(&feed);
                        look = look.min(Instant::now() + timing.retry.0);
                    }
                }
                () = sleep_until(tell.unwrap_or_else(Instant::now)), if tell.is_some() => {
                    burst = None;
                    self.follow_references();
                    self.tell(readings);
                }
            }
        }
    }

    /// When it is told anyway what is known, though not all of it.
    fn deadline(&self, readings: &watch::Sender<Option<Arc<Reading>>>) -> Option<Instant> {
        let timing = &self.cluster.timing;
        let patience = readings.borrow().is_none().then(|| self.began + timing.patience);
        let patience = patience.filter(|at| *at > Instant::now());
        patience.into_iter().chain(self.waiting).min()
    }

    async fn discover(&mut self) -> Result<(), kube::Error> {
        let wanted: Vec<Kind> = kinds::all().filter(|k| self.missing.contains_key(k.kind)).collect();
        let served = in_time(kinds::discover(&self.cluster.client, &wanted)).await?;
        self.discovered = true;
        for served in served {
            self.missing.remove(served.kind);
            if REFERRED.contains(&served.kind) {
                self.referred.insert(served.kind, served);
            } else {
                tracing::debug!(kind = served.kind, version = served.resource.api_version, "watching");
                self.watch(Feed::Kind(served.kind), &served);
            }
        }
        for (kind, times) in &mut self.missing {
            *times = times.saturating_add(1);
            if *times == GONE {
                self.cluster.store.lock().forget(&Feed::Kind(kind));
            }
        }
        Ok(())
    }

    fn watch(&mut self, feed: Feed, served: &Served) {
        let stop = self.stop.child_token();
        self.cluster.store.lock().begin(&feed, served);
        self.running.insert(feed.clone(), Running { stop: stop.clone(), began: Instant::now() });
        let following = feed::follow(self.cluster.clone(), feed.clone(), served.clone(), stop);
        self.tasks.spawn(async move { (feed, following.await) });
    }

    fn lost(&mut self, feed: &Feed) {
        self.running.remove(feed);
        match feed {
            Feed::Kind(kind) => {
                tracing::info!(kind, "the API does not serve this kind any more; waiting for it");
                self.missing.insert(kind, 0);
            }
            // Core kinds do not go away; whoever names it starts the watch anew.
            Feed::Named(_) => {}
        }
    }

    /// A watch for each thing that something names, and none for others.
    fn follow_references(&mut self) {
        let wanted = self.cluster.store.lock().references();
        let running = self.running.keys().filter_map(|feed| match feed {
            Feed::Named(reference) => Some(reference.clone()),
            Feed::Kind(_) => None,
        });
        let running: BTreeSet<_> = running.collect();
        for reference in running.difference(&wanted) {
            let feed = Feed::Named(reference.clone());
            if let Some(running) = self.running.remove(&feed) {
                running.stop.cancel();
            }
            self.cluster.store.lock().forget(&feed);
        }
        for reference in wanted.difference(&running) {
            if let Some(served) = self.referred.get(reference.kind).cloned() {
                self.watch(Feed::Named(reference.clone()), &served);
            }
        }
    }

    fn tell(&mut self, readings: &watch::Sender<Option<Arc<Reading>>>) {
        let now = Instant::now();
        let timing = &self.cluster.timing;
        let store = self.cluster.store.lock();
        let kinds_are_missing = store.unlisted().any(|feed| matches!(feed, Feed::Kind(_)));
        if readings.borrow().is_none() && (kinds_are_missing || !self.discovered) {
            if now < self.began + timing.patience || !store.any_listed() {
                return;
            }
        } else {
            let until = |feed| self.running.get(feed).map(|running| running.began + timing.referred);
            self.waiting = store.unlisted().filter_map(until).filter(|until| *until > now).max();
            if self.waiting.is_some() {
                return;
            }
        }
        let reading = store.reading();
        drop(store);
        readings.send_if_modified(|last| {
            let differs = last.as_deref() != Some(&reading);
            if differs {
                *last = Some(Arc::new(reading));
            }
            differs
        });
    }
}
