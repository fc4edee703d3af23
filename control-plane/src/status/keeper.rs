//! Follows what changes, so that a condition's time is that of its change and not of the next question, and keeps a
//! file with everything as Kubernetes would show it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Filter, Reporter};
use crate::world::World;

/// Changes come in bursts: a push, then an acknowledgement from each proxy.
const SETTLE: Duration = Duration::from_millis(20);
/// Looking takes no more than a tenth of the time, however large the mesh is.
const REST: u32 = 9;
/// After a file that could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// What was last written, and what was last complained about.
#[derive(Debug)]
struct StatusFile {
    path: PathBuf,
    written: Option<String>,
    fault: Option<String>,
}

/// What a status file says that was kept before; `None` where there is none, or none that can be read.
pub(crate) fn left_behind(path: &Path) -> Option<Json> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Looks after every change until `shutdown`; with a path, the file there always holds the last look.
pub(crate) async fn keep(
    reporter: Arc<Reporter>,
    mut world: watch::Receiver<Arc<World>>,
    mut nodes: watch::Receiver<u64>,
    path: Option<PathBuf>,
    shutdown: CancellationToken,
) {
    let mut file = path.map(|path| StatusFile { path, written: None, fault: None });
    loop {
        world.mark_unchanged();
        nodes.mark_unchanged();
        let begun = Instant::now();
        let looked = look(reporter.clone(), file).await;
        let Ok((kept, failed)) = looked else { return };
        file = kept;
        let rest = SETTLE.max(begun.elapsed() * REST);
        tokio::select! {
            Ok(()) = world.changed() => {}
            Ok(()) = nodes.changed() => {}
            () = sleep(RETRY), if failed => {}
            () = shutdown.cancelled() => return,
        }
        tokio::select! {
            () = sleep(rest) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Off the threads that push. Returns whether the file is not as it should be.
async fn look(
    reporter: Arc<Reporter>,
    mut file: Option<StatusFile>,
) -> Result<(Option<StatusFile>, bool), tokio::task::JoinError> {
    tokio::task::spawn_blocking(move || {
        let Some(kept) = file.as_mut() else {
            reporter.note_times();
            return (file, false);
        };
        let list = reporter.manifests(&Filter::default());
        let failed = !kept.write(format!("{list:#}\n"));
        (file, failed)
    })
    .await
}

impl StatusFile {
    /// Returns whether the file holds `text` now.
    fn write(&mut self, text: String) -> bool {
        if self.written.as_ref() == Some(&text) {
            return true;
        }
        match replace(&self.path, &text) {
            Ok(()) => {
                self.written = Some(text);
                self.fault = None;
                true
            }
            Err(error) => {
                let fault = error.to_string();
                if self.fault.as_ref() != Some(&fault) {
                    let path = self.path.display();
                    tracing::error!(%path, %error, "cannot write the status file; trying again every second");
                }
                self.fault = Some(fault);
                false
            }
        }
    }
}

/// Whoever reads the file sees the old text or the new one, never a part.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no file name"))?;
    let mut fresh = std::ffi::OsString::from(".");
    fresh.push(name);
    fresh.push(format!(".{}", std::process::id()));
    let fresh = folder.join(fresh);
    let written = std::fs::File::create(&fresh).and_then(|mut file| file.write_all(text.as_bytes()));
    let replaced = written.and_then(|()| std::fs::rename(&fresh, path));
    if replaced.is_err() {
        // Nothing to lose: it is ours, and half of what it should be.
        let _ = std::fs::remove_file(&fresh);
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_file_is_replaced_as_a_whole_and_only_when_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let mut file = StatusFile { path: path.clone(), written: None, fault: None };
        assert!(file.write(String::from("one")));
        std::fs::write(&path, "touched").unwrap();
        assert!(file.write(String::from("one")));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "touched");
        assert!(file.write(String::from("two")));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_status_file_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later/status.json");
        let mut file = StatusFile { path: path.clone(), written: None, fault: None };
        assert!(!file.write(String::from("one")));
        std::fs::create_dir(folder.path().join("later")).unwrap();
        assert!(file.write(String::from("one")));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
    }
}
