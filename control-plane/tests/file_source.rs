//! The file source on a real directory, as editors, shells and Kubernetes write to it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_control_plane::source::{FileFault, Reading, file};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Only ends a test that would never end by itself.
const PATIENCE: Duration = Duration::from_secs(4);

struct Watched {
    directory: TempDir,
    readings: watch::Receiver<Arc<Reading>>,
    _guard: DropGuard,
}

impl Watched {
    async fn new(prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("policies");
        fs::create_dir(&root).unwrap();
        prepare(&root);
        let shutdown = CancellationToken::new();
        let readings = file::open(&root, shutdown.clone()).await.unwrap();
        Self { directory, readings, _guard: shutdown.drop_guard() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("policies").join(name)
    }

    /// Waits for a reading in which the readable files are exactly `want`; tells every reading on the way.
    async fn until(&mut self, want: &[(&str, &str)]) -> Vec<Arc<Reading>> {
        let root = self.path("");
        self.until_reading(|reading| texts(reading, &root) == owned(want)).await
    }

    async fn until_reading(&mut self, wanted: impl Fn(&Reading) -> bool) -> Vec<Arc<Reading>> {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let reading = self.readings.borrow_and_update().clone();
                seen.push(reading.clone());
                if wanted(&reading) {
                    return;
                }
                self.readings.changed().await.unwrap();
            }
        };
        let done = tokio::time::timeout(PATIENCE, wait).await;
        assert!(done.is_ok(), "never came; last: {:?}", seen.last());
        seen
    }
}

fn texts(reading: &Reading, root: &Path) -> Vec<(String, String)> {
    let name = |path: &str| Path::new(path).strip_prefix(root).unwrap().to_string_lossy().into_owned();
    let readable = reading.files.iter().filter_map(|f| Some((name(&f.path), f.body.as_ref().ok()?)));
    readable.map(|(name, body)| (name, body.text.to_string())).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn write(root: &Path, name: &str, text: &str) {
    fs::write(root.join(name), text).unwrap();
}

#[tokio::test]
async fn reads_documents_in_visible_folders_and_nothing_else() {
    let mut watched = Watched::new(|root| {
        fs::create_dir_all(root.join("team/deep")).unwrap();
        fs::create_dir_all(root.join(".git")).unwrap();
        write(root, "a.yaml", "a");
        write(root, "b.YML", "b");
        write(root, "team/deep/c.json", "c");
        write(root, "notes.txt", "no");
        write(root, ".hidden.yaml", "no");
        write(root, ".git/x.yaml", "no");
    })
    .await;
    let want = [("a.yaml", "a"), ("b.YML", "b"), ("team/deep/c.json", "c")];
    watched.until(&want).await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_at_the_start_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = file::open(&missing, CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test]
async fn an_edit_by_rename_is_one_reading_without_a_gap() {
    let mut watched = Watched::new(|root| write(root, "a.yaml", "old")).await;
    write(watched.directory.path(), "policies/.a.yaml.swp", "new");
    fs::rename(watched.path(".a.yaml.swp"), watched.path("a.yaml")).unwrap();
    let seen = watched.until(&[("a.yaml", "new")]).await;
    assert!(seen.iter().all(|reading| reading.files.len() == 1), "{seen:?}");
}

#[tokio::test]
async fn an_edit_in_place_is_read_once_it_is_closed() {
    let mut watched = Watched::new(|root| write(root, "a.yaml", "old")).await;
    let path = watched.path("a.yaml");
    let writer = std::thread::spawn(move || {
        let mut file = fs::File::create(path).unwrap();
        for piece in ["one ", "two ", "three"] {
            file.write_all(piece.as_bytes()).unwrap();
            file.sync_all().unwrap();
        }
    });
    watched.until(&[("a.yaml", "one two three")]).await;
    writer.join().unwrap();
}

#[tokio::test]
async fn a_writer_that_never_closes_is_read_in_the_end() {
    let mut watched = Watched::new(|root| write(root, "a.yaml", "old")).await;
    let mut file = fs::File::create(watched.path("a.yaml")).unwrap();
    file.write_all(b"half").unwrap();
    watched.until(&[("a.yaml", "half")]).await;
    file.write_all(b" and half").unwrap();
    drop(file);
    watched.until(&[("a.yaml", "half and half")]).await;
}

#[tokio::test]
async fn a_config_map_swap_is_seen_as_one_change() {
    let mut watched = Watched::new(|root| {
        fs::create_dir(root.join("..v1")).unwrap();
        write(root, "..v1/a.yaml", "a1");
        write(root, "..v1/b.yaml", "b1");
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        symlink("..data/b.yaml", root.join("b.yaml")).unwrap();
    })
    .await;
    watched.until(&[("a.yaml", "a1"), ("b.yaml", "b1")]).await;
    fs::create_dir(watched.path("..v2")).unwrap();
    write(&watched.path("..v2"), "a.yaml", "a2");
    write(&watched.path("..v2"), "b.yaml", "b2");
    symlink("..v2", watched.path("..data_tmp")).unwrap();
    fs::rename(watched.path("..data_tmp"), watched.path("..data")).unwrap();
    fs::remove_dir_all(watched.path("..v1")).unwrap();
    let seen = watched.until(&[("a.yaml", "a2"), ("b.yaml", "b2")]).await;
    assert_eq!(seen.len(), 2, "{seen:?}");
}

#[tokio::test]
async fn new_folders_and_deletions_are_followed() {
    let mut watched = Watched::new(|root| write(root, "a.yaml", "a")).await;
    fs::create_dir_all(watched.path("x/y")).unwrap();
    write(&watched.path("x/y"), "b.yaml", "b");
    watched.until(&[("a.yaml", "a"), ("x/y/b.yaml", "b")]).await;
    write(&watched.path("x/y"), "b.yaml", "b2");
    watched.until(&[("a.yaml", "a"), ("x/y/b.yaml", "b2")]).await;
    fs::remove_file(watched.path("a.yaml")).unwrap();
    watched.until(&[("x/y/b.yaml", "b2")]).await;
    fs::remove_dir_all(watched.path("x")).unwrap();
    watched.until(&[]).await;
}

#[tokio::test]
async fn a_directory_that_goes_away_is_reported_and_watched_again_when_it_is_back() {
    let mut watched = Watched::new(|root| write(root, "a.yaml", "a")).await;
    let away = watched.directory.path().join("away");
    fs::rename(watched.path(""), &away).unwrap();
    watched.until_reading(|reading| !reading.root_listed).await;
    fs::rename(&away, watched.path("")).unwrap();
    watched.until(&[("a.yaml", "a")]).await;
    write(&watched.path(""), "a.yaml", "b");
    watched.until(&[("a.yaml", "b")]).await;

    fs::remove_dir_all(watched.path("")).unwrap();
    watched.until_reading(|reading| !reading.root_listed).await;
    fs::create_dir(watched.path("")).unwrap();
    write(&watched.path(""), "c.yaml", "c");
    watched.until(&[("c.yaml", "c")]).await;
    write(&watched.path(""), "c.yaml", "d");
    watched.until(&[("c.yaml", "d")]).await;
}

#[tokio::test]
async fn a_file_at_the_far_end_of_a_link_is_found_by_the_poll() {
    let mut watched = Watched::new(|root| {
        write(root.parent().unwrap(), "far.yaml", "old");
        symlink("../far.yaml", root.join("a.yaml")).unwrap();
    })
    .await;
    fs::write(watched.directory.path().join("far.yaml"), "newer").unwrap();
    watched.until(&[("a.yaml", "newer")]).await;
}

#[tokio::test]
async fn what_is_no_readable_text_is_a_fault_of_that_file_alone() {
    let mut watched = Watched::new(|root| {
        write(root, "a.yaml", "a");
        fs::write(root.join("big.yaml"), vec![b' '; 10 << 20]).unwrap();
        fs::write(root.join("binary.yaml"), [b'a', 0xff]).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket.yaml")).unwrap();
        symlink("nowhere", root.join("dangling.yaml")).unwrap();
        fs::create_dir(root.join("folder.yaml")).unwrap();
    })
    .await;
    let seen = watched.until(&[("a.yaml", "a")]).await;
    let faults: Vec<_> = seen[0].files.iter().filter_map(|f| f.body.as_ref().err().cloned()).collect();
    let size = 10 << 20;
    assert!(matches!(faults[0], FileFault::TooBig { size: s, .. } if s == size), "{faults:?}");
    assert_eq!(faults[1..], [FileFault::NotText { offset: 1 }, FileFault::NotAFile]);
}

#[tokio::test]
async fn a_file_that_becomes_a_folder_and_links_in_a_circle_are_no_trouble() {
    let mut watched = Watched::new(|root| {
        write(root, "a.yaml", "a");
        write(root, "b.yaml", "b");
        symlink("circle.yaml", root.join("circle.yaml")).unwrap();
        symlink(".", root.join("itself")).unwrap();
    })
    .await;
    let seen = watched.until(&[("a.yaml", "a"), ("b.yaml", "b")]).await;
    let faults = seen[0].files.iter().filter(|f| matches!(f.body, Err(FileFault::Unreadable(_))));
    assert_eq!(faults.count(), 1, "the circle: {seen:?}");
    fs::remove_file(watched.path("a.yaml")).unwrap();
    fs::create_dir(watched.path("a.yaml")).unwrap();
    write(&watched.path("a.yaml"), "inner.yaml", "c");
    watched.until(&[("a.yaml/inner.yaml", "c"), ("b.yaml", "b")]).await;
    fs::remove_dir_all(watched.path("a.yaml")).unwrap();
    write(&watched.path(""), "a.yaml", "again");
    watched.until(&[("a.yaml", "again"), ("b.yaml", "b")]).await;
}

#[tokio::test]
async fn thousands_of_files_are_read_and_one_edit_among_them_is_seen() {
    let mut watched =
        Watched::new(|root| (0..3000).for_each(|i| write(root, &format!("{i}.yaml"), "x"))).await;
    let last = watched.until_reading(|reading| reading.files.len() == 3000).await;
    let untouched = last.last().unwrap().files[7].clone();
    write(&watched.path(""), "1500.yaml", "y");
    let is_new = |reading: &Reading| {
        reading.files.iter().filter(|f| f.body.as_ref().is_ok_and(|b| &*b.text == "y")).count() == 1
    };
    let seen = watched.until_reading(is_new).await;
    assert!(Arc::ptr_eq(&seen.last().unwrap().files[7].path, &untouched.path), "not read again");
}
