//! Watches a directory of documents: inotify for speed, a slow poll as a net for what inotify cannot see (a symbolic
//! link's far end, network file systems, a directory that was away).
//!
//! Only this module and its children touch the file system. Nothing here knows what a document is.

mod debounce;
mod folder;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub use debounce::{Debounce, Dirty};
pub use folder::{Folder, Inode, is_test};

use super::Reading;

const POLL: Duration = Duration::from_secs(2);
/// While the directory is away there is nothing to watch and little to poll.
const POLL_AWAY: Duration = Duration::from_millis(100);
/// A tree that grows faster than it can be watched is left to the poll.
const MAX_LOOKS: usize = 4;

#[derive(Debug, thiserror::Error)]
#[error("cannot read the directory {path}: {cause}", path = path.display())]
pub struct CannotOpen {
    pub path: PathBuf,
    pub cause: String,
}

/// Reads `directory` and keeps reading it whenever something in it changes, until `shutdown`. The channel always
/// holds the latest reading; one that equals its predecessor is not sent.
///
/// # Errors
/// If `directory` is not there or cannot be listed now. Later that is survived.
pub async fn open(
    directory: &Path,
    shutdown: CancellationToken,
) -> Result<watch::Receiver<Arc<Reading>>, CannotOpen> {
    let path = directory.to_owned();
    let events = Arc::new(Events::new(path.clone()));
    let scanner = Scanner { folder: Folder::new(path.clone()), watches: Watches::new(&events) };
    let cannot = |cause: &str| CannotOpen { path: path.clone(), cause: cause.to_owned() };
    let (scanner, reading) = scan(scanner, Dirty::All).await.ok_or_else(|| cannot("shutting down"))?;
    if !reading.root_listed {
        return Err(cannot(reading.unknown.first().map_or("unknown", |folder| &folder.reason)));
    }
    let (sender, receiver) = watch::channel(Arc::new(reading));
    tokio::spawn(watch_folder(scanner, events, sender, shutdown));
    Ok(receiver)
}

/// What the watcher's thread tells the reading task.
#[derive(Debug)]
struct Events {
    debounce: Mutex<Debounce>,
    changed: Notify,
}

/// The blocking side: one listing, with watches kept on every folder in it.
#[derive(Debug)]
struct Scanner {
    folder: Folder,
    watches: Watches,
}

#[derive(Debug)]
struct Watches {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Inode>,
    complained: bool,
}

async fn watch_folder(
    mut scanner: Scanner,
    events: Arc<Events>,
    readings: watch::Sender<Arc<Reading>>,
    shutdown: CancellationToken,
) {
    let mut next_poll = Instant::now() + POLL;
    loop {
        let deadline = events.debounce.lock().deadline();
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = readings.closed() => return,
            () = events.changed.notified() => continue,
            // A poll must not read the half of a file that the debounce is waiting for.
            () = sleep_until(deadline.unwrap_or(next_poll)) => {}
        }
        let dirty = match deadline {
            Some(_) => match events.debounce.lock().take(Instant::now()) {
                Some(dirty) => dirty,
                None => continue,
            },
            None => Dirty::default(),
        };
        let reading;
        (scanner, reading) = match scan(scanner, dirty).await {
            Some(done) => done,
            None => return,
        };
        next_poll = Instant::now() + if reading.root_listed { POLL } else { POLL_AWAY };
        readings.send_if_modified(|last| {
            let differs = **last != reading;
            if differs {
                *last = Arc::new(reading);
            }
            differs
        });
    }
}

/// `None` when the runtime is shutting down.
async fn scan(mut scanner: Scanner, dirty: Dirty) -> Option<(Scanner, Reading)> {
    let scanned = tokio::task::spawn_blocking(move || {
        let reading = scanner.read(&dirty);
        (scanner, reading)
    });
    match scanned.await {
        Ok(done) => Some(done),
        Err(error) => error.try_into_panic().ok().map(|panic| std::panic::resume_unwind(panic)),
    }
}

impl Events {
    fn new(root: PathBuf) -> Self {
        Self { debounce: Mutex::new(Debounce::new(root)), changed: Notify::new() }
    }

    fn record(&self, event: notify::Result<notify::Event>) {
        let now = Instant::now();
        let moved = match event {
            Ok(event) => self.debounce.lock().record(&event, now),
            Err(error) => {
                tracing::warn!(%error, "watching the directory failed; reading all of it");
                self.debounce.lock().record_loss(now);
                true
            }
        };
        if moved {
            self.changed.notify_one();
        }
    }
}

impl Scanner {
    fn read(&mut self, dirty: &Dirty) -> Reading {
        let mut reading = self.folder.read(dirty);
        // What was written to a new folder before it was watched raised no event: look again.
        for _ in 0..MAX_LOOKS {
            if !self.watches.follow(self.folder.folders()) {
                break;
            }
            reading = self.folder.read(&Dirty::All);
        }
        reading
    }
}

impl Watches {
    fn new(events: &Arc<Events>) -> Self {
        let handler = events.clone();
        let watcher = notify::recommended_watcher(move |event| handler.record(event));
        let mut watches = Self { watcher: None, watched: BTreeMap::new(), complained: false };
        match watcher {
            Ok(watcher) => watches.watcher = Some(watcher),
            Err(error) => watches.complain(&error),
        }
        watches
    }

    /// Watches exactly `folders`; `true` if one is newly watched.
    fn follow(&mut self, folders: &BTreeMap<PathBuf, Inode>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        self.watched.retain(|path, inode| {
            let same = folders.get(path) == Some(inode);
            if !same {
                // The kernel drops the watch of a deleted folder by itself; then this fails, rightly.
                let _ = watcher.unwatch(path);
            }
            same
        });
        let mut added = false;
        let mut failed = None;
        for (path, inode) in folders {
            if self.watched.contains_key(path) {
                continue;
            }
            match watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path.clone(), *inode);
                    added = true;
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => self.complain(&error),
            None => self.complained = false,
        }
        added
    }

    fn complain(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(%error, "cannot watch for changes; looking every {} s instead", POLL.as_secs());
        }
    }
}
