//! The counters of limits on disk, so that a proxy that starts again goes on where it was.
//!
//! Written by the control thread's helpers every few seconds while something changes, and once more at the end of a drain:
//! never by a thread that moves traffic. A disk that is slow delays the next writing, one that is full is told
//! of once; requests notice neither. A proxy that crashes forgets what was spent since the last writing.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prost::Message;
use tidegate_policy::state::{Moment, Saved, StateStore};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::on_disk::{LoadError, OnDisk, checksum};
use crate::clock::{self, Clock};
use crate::state::ProxyState;

const MAGIC: &str = "tidegate counters 1\n";
const EVERY: Duration = Duration::from_secs(5);
/// At the end, a disk that does not answer is not waited for.
const LAST: Duration = Duration::from_secs(5);
/// 25 limits with as many keys as they can have.
const MOST: usize = 64 << 20;

/// The file in `--state-dir`.
#[derive(Clone, Debug)]
pub struct CountersFile(OnDisk);

/// Keeps the counters of one proxy.
#[derive(Debug)]
pub(crate) struct Counters {
    file: CountersFile,
    /// Whose helpers write. Nobody waits for them when it ends.
    runtime: Handle,
    /// Of what was written last. Held while it is written.
    written: Mutex<Option<u64>>,
    failing: AtomicBool,
    left_out: AtomicBool,
}

impl CountersFile {
    pub fn of(directory: &Path) -> Self {
        Self(OnDisk::new(directory, "counters", MAGIC))
    }

    /// `None` if there is none.
    ///
    /// # Errors
    /// The file is there but cannot be used.
    pub fn load(&self) -> Result<Option<Saved>, LoadError> {
        self.0.load(|bytes| Saved::decode(bytes).ok())
    }

    /// # Errors
    /// Of the file system; the old file is still there.
    pub fn save(&self, saved: &Saved) -> io::Result<()> {
        self.0.save(&saved.encode_to_vec())
    }
}

/// The state store of a proxy that starts: with what `directory` holds, or new.
pub(super) fn restore(directory: Option<&Path>, clock: Clock) -> StateStore {
    let fresh = || StateStore::new([clock::seed(), clock::seed()]);
    let Some(directory) = directory else { return fresh() };
    let saved = CountersFile::of(directory).load().unwrap_or_else(|error| {
        tracing::warn!(%error, "the counters of limits are not used; they start anew");
        None
    });
    let Some(saved) = saved else { return fresh() };
    let now = Moment { clock: clock.now(), wall: clock::since_epoch() };
    let newest = saved.pieces.iter().map(|piece| piece.saved_at().wall).max();
    let (limits, buckets) = (saved.pieces.len(), saved.pieces.iter().map(|piece| piece.items).sum::<u64>());
    let Some(store) = StateStore::restored(saved, now) else { return fresh() };
    if let Some(newest) = newest {
        let age = now.wall.saturating_sub(newest);
        tracing::info!(limits, buckets, ?age, "limits go on from the counters on disk");
    }
    store
}

impl Counters {
    /// Writes every few seconds until `stop`, if the proxy has a directory.
    pub(crate) fn keep(
        proxy: &Arc<ProxyState>,
        runtime: &Handle,
        stop: CancellationToken,
    ) -> Option<Arc<Self>> {
        let this = Arc::new(Self {
            file: CountersFile::of(proxy.config.state_dir.as_deref()?),
            runtime: runtime.clone(),
            written: Mutex::default(),
            failing: AtomicBool::new(false),
            left_out: AtomicBool::new(false),
        });
        let (follow, proxy) = (this.clone(), Arc::downgrade(proxy));
        runtime.spawn(async move { stop.run_until_cancelled(follow.follow(&proxy)).await });
        Some(this)
    }

    async fn follow(self: Arc<Self>, proxy: &Weak<ProxyState>) {
        let mut turns = tokio::time::interval(EVERY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        turns.tick().await;
        loop {
            turns.tick().await;
            let Some(proxy) = proxy.upgrade() else { return };
            self.clone().write(proxy).await;
        }
    }

    /// Once more, when all traffic has ended.
    pub(crate) async fn finish(self: Arc<Self>, proxy: Arc<ProxyState>) {
        self.finish_within(LAST, proxy).await;
    }

    async fn finish_within(self: Arc<Self>, limit: Duration, proxy: Arc<ProxyState>) {
        if tokio::time::timeout(limit, self.write(proxy)).await.is_err() {
            tracing::warn!("the counters of limits were not written in time; those of seconds ago are kept");
        }
    }

    async fn write(self: Arc<Self>, proxy: Arc<ProxyState>) {
        // A panic in there is told by the hook, and the next turn comes.
        let runtime = self.runtime.clone();
        let _ = runtime.spawn_blocking(move || self.write_now(&proxy)).await;
    }

    fn write_now(&self, proxy: &ProxyState) {
        let mut written = self.written.lock();
        let (saved, left_out) = proxy.store.save_counters(MOST);
        if left_out > 0 && !self.left_out.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                limits = left_out,
                "more counters than fit in 64 MiB: some are not kept in --state-dir"
            );
        }
        let content = fingerprint(&saved);
        if *written == Some(content) || (written.is_none() && saved.pieces.is_empty()) {
            return;
        }
        match self.file.save(&saved) {
            Ok(()) => {
                *written = Some(content);
                self.failing.store(false, Ordering::Relaxed);
            }
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the counters of limits cannot be kept in --state-dir");
            }
            Err(_) => {}
        }
    }
}

/// The same while nobody is counted: when a piece is saved is no part of it.
fn fingerprint(saved: &Saved) -> u64 {
    let pieces = saved.pieces.iter().map(|piece| {
        [&piece.owner, &piece.part]
            .iter()
            .fold(checksum(&piece.body), |sum, name| sum.rotate_left(1) ^ checksum(name.as_bytes()))
    });
    pieces.fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests;
