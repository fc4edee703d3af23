//! When to read: a pure state machine over file events, so that one save is one read of a finished file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use tokio::time::Instant;

/// Long enough for the second half of "write a new file, rename it over the old one".
const QUIET: Duration = Duration::from_millis(30);
/// A directory that never rests is still read this often.
const AT_MOST: Duration = Duration::from_millis(200);
/// A writer that has not closed its file is waited for this long, then read as it is.
const UNFINISHED: Duration = Duration::from_millis(500);
/// Above this, listing paths costs more than reading everything again.
const MAX_PATHS: usize = 4096;

/// Which files to read again even if they look unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dirty {
    Paths(HashSet<PathBuf>),
    All,
}

/// Collects events until it is time to read.
#[derive(Debug)]
pub struct Debounce {
    root: PathBuf,
    dirty: Dirty,
    /// Files with bytes written and no close yet.
    writing: HashSet<PathBuf>,
    batch: Option<Batch>,
}

#[derive(Clone, Copy, Debug)]
struct Batch {
    first: Instant,
    last: Instant,
}

impl Default for Dirty {
    fn default() -> Self {
        Self::Paths(HashSet::new())
    }
}

impl Dirty {
    pub fn contains(&self, path: &Path) -> bool {
        match self {
            Self::All => true,
            Self::Paths(paths) => paths.contains(path),
        }
    }

    fn insert(&mut self, path: &Path) {
        match self {
            Self::Paths(paths) if paths.len() < MAX_PATHS => drop(paths.insert(path.to_owned())),
            _ => *self = Self::All,
        }
    }
}

impl Debounce {
    pub fn new(root: PathBuf) -> Self {
        Self { root, dirty: Dirty::default(), writing: HashSet::new(), batch: None }
    }

    /// Takes note of one event; `true` if the deadline may have moved.
    pub fn record(&mut self, event: &notify::Event, now: Instant) -> bool {
        if event.need_rescan() {
            self.dirty = Dirty::All;
            self.touch(now);
            return true;
        }
        let mut relevant = false;
        for path in &event.paths {
            relevant |= !self.is_inside_hidden(path) && self.record_path(event.kind, path);
        }
        if relevant {
            self.touch(now);
        }
        relevant
    }

    /// The source of events is gone or broken: only a full read can tell what is there.
    pub fn record_loss(&mut self, now: Instant) {
        self.dirty = Dirty::All;
        self.touch(now);
    }

    /// When to read, if anything happened.
    pub fn deadline(&self) -> Option<Instant> {
        let batch = self.batch?;
        if self.writing.is_empty() {
            Some((batch.last + QUIET).min(batch.first + AT_MOST))
        } else {
            Some(batch.first + UNFINISHED)
        }
    }

    /// What to read again, if it is time.
    pub fn take(&mut self, now: Instant) -> Option<Dirty> {
        if self.deadline()? > now {
            return None;
        }
        self.batch = None;
        self.writing.clear();
        Some(std::mem::take(&mut self.dirty))
    }

    fn touch(&mut self, now: Instant) {
        let first = self.batch.map_or(now, |batch| batch.first);
        self.batch = Some(Batch { first, last: now });
    }

    fn record_path(&mut self, kind: EventKind, path: &Path) -> bool {
        match kind {
            // Our own reads open and close files too.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => drop(self.writing.remove(path)),
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Data(_)) if self.writing.len() < MAX_PATHS => {
                self.writing.insert(path.to_owned());
            }
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => drop(self.writing.remove(path)),
            _ => {}
        }
        self.dirty.insert(path);
        true
    }

    /// Below a hidden folder (`.git`, the real folder behind a ConfigMap's `..data`) nothing is read. An entry that
    /// is itself hidden counts: renaming `..data` is how Kubernetes swaps a whole ConfigMap.
    fn is_inside_hidden(&self, path: &Path) -> bool {
        let Some(folder) = path.strip_prefix(&self.root).ok().and_then(Path::parent) else { return false };
        folder.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b"."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{DataChange, RenameMode};

    const DATA: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const CLOSED: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn event(kind: EventKind, path: &str) -> notify::Event {
        notify::Event::new(kind).add_path(PathBuf::from(path))
    }

    fn debounce() -> (Debounce, Instant) {
        (Debounce::new(PathBuf::from("/p")), Instant::now())
    }

    #[test]
    fn a_finished_write_is_read_after_a_short_quiet() {
        let (mut debounce, t) = debounce();
        debounce.record(&event(DATA, "/p/a.yaml"), t);
        debounce.record(&event(CLOSED, "/p/a.yaml"), t + ms(5));
        assert_eq!(debounce.deadline(), Some(t + ms(35)));
        assert_eq!(debounce.take(t + ms(34)), None);
        let dirty = debounce.take(t + ms(35)).unwrap();
        assert!(dirty.contains(Path::new("/p/a.yaml")));
        assert!(!dirty.contains(Path::new("/p/b.yaml")));
        assert_eq!(debounce.deadline(), None);
    }

    #[test]
    fn an_unfinished_write_is_waited_for_but_not_for_ever() {
        let (mut debounce, t) = debounce();
        debounce.record(&event(DATA, "/p/a.yaml"), t);
        assert_eq!(debounce.deadline(), Some(t + ms(500)));
        debounce.record(&event(DATA, "/p/a.yaml"), t + ms(400));
        assert_eq!(debounce.deadline(), Some(t + ms(500)));
        assert!(debounce.take(t + ms(500)).is_some());
    }

    #[test]
    fn a_directory_that_never_rests_is_read_all_the_same() {
        let (mut debounce, t) = debounce();
        for i in 0..40 {
            debounce.record(&event(RENAMED, "/p/a.yaml"), t + ms(i * 10));
        }
        assert_eq!(debounce.deadline(), Some(t + ms(200)));
    }

    #[test]
    fn our_own_reads_are_no_events() {
        let (mut debounce, t) = debounce();
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(!debounce.record(&event(open, "/p/a.yaml"), t));
        let close = EventKind::Access(AccessKind::Close(AccessMode::Read));
        assert!(!debounce.record(&event(close, "/p/a.yaml"), t));
        assert_eq!(debounce.deadline(), None);
    }

    #[test]
    fn a_config_map_swap_counts_and_what_happens_inside_hidden_folders_does_not() {
        let (mut debounce, t) = debounce();
        assert!(!debounce.record(&event(DATA, "/p/.git/index"), t));
        assert!(!debounce.record(&event(DATA, "/p/..2024/a.yaml"), t));
        assert!(debounce.record(&event(RENAMED, "/p/..data"), t));
    }

    #[test]
    fn lost_events_make_everything_dirty() {
        let (mut debounce, t) = debounce();
        let overflow = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        debounce.record(&overflow, t);
        assert_eq!(debounce.take(t + ms(30)), Some(Dirty::All));
    }

    #[test]
    fn a_flood_of_paths_stays_bounded() {
        let (mut debounce, t) = debounce();
        for i in 0..10_000 {
            debounce.record(&event(DATA, &format!("/p/{i}.yaml")), t);
        }
        assert!(debounce.writing.len() <= MAX_PATHS);
        assert_eq!(debounce.take(t + ms(500)), Some(Dirty::All));
    }
}
