//! Lists a directory and reads what changed. Blocking; no decisions.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_policy::document::MAX_FILE_BYTES;

use super::debounce::Dirty;
use crate::source::{FileContent, FileFault, FileText, Reading, UnknownFolder};

/// Deeper than anyone nests folders; a bound all the same.
const MAX_DEPTH: usize = 32;

/// A directory and what was last read from it. A file is read again if it is dirty or its stamp changed.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    known: BTreeMap<PathBuf, Known>,
    folders: BTreeMap<PathBuf, Inode>,
}

/// Which directory it is, whatever it is called: a directory replaced by another of the same name differs.
pub type Inode = (u64, u64);

#[derive(Debug)]
struct Known {
    stamp: Stamp,
    content: FileContent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: Inode,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug, Default)]
struct Listing {
    files: Vec<PathBuf>,
    folders: BTreeMap<PathBuf, Inode>,
    unknown: Vec<UnknownFolder>,
}

impl From<&Metadata> for Stamp {
    fn from(meta: &Metadata) -> Self {
        Self {
            inode: (meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Folder {
    pub fn new(root: PathBuf) -> Self {
        Self { root, known: BTreeMap::new(), folders: BTreeMap::new() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folders found by the last [`Folder::read`], the root included.
    pub fn folders(&self) -> &BTreeMap<PathBuf, Inode> {
        &self.folders
    }

    /// Everything that is there now.
    pub fn read(&mut self, dirty: &Dirty) -> Reading {
        let mut listing = Listing::default();
        let root = self.root.clone();
        list(&root, 0, &mut listing);
        listing.files.sort();
        let root_listed = listing.folders.contains_key(&root) && !listing.lacks(&root);

        let mut known = BTreeMap::new();
        for path in listing.files {
            let before = self.known.remove(&path);
            // Gone since it was listed: as if it had never been.
            let Some(now) = read_file(&path, before, dirty.contains(&path)) else { continue };
            known.insert(path, now);
        }
        self.known = known;
        self.folders = listing.folders;
        let files = self.known.values().map(|k| k.content.clone()).collect();
        Reading { files, unknown: listing.unknown, root_listed }
    }
}

impl Listing {
    fn lacks(&self, folder: &Path) -> bool {
        let shown = shown(folder);
        self.unknown.iter().any(|u| u.path == shown)
    }

    fn cannot_list(&mut self, folder: &Path, reason: &impl ToString) {
        self.unknown.push(UnknownFolder { path: shown(folder), reason: reason.to_string() });
    }
}

fn list(folder: &Path, depth: usize, listing: &mut Listing) {
    if depth > MAX_DEPTH {
        return listing.cannot_list(folder, &"folders are nested too deep");
    }
    let entries = match fs::metadata(folder).and_then(|meta| Ok((meta, fs::read_dir(folder)?))) {
        Ok((meta, entries)) => {
            listing.folders.insert(folder.to_owned(), (meta.dev(), meta.ino()));
            entries
        }
        // A folder below the root that is gone was deleted, with all that was in it.
        Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return listing.cannot_list(folder, &error),
    };
    for entry in entries {
        let (path, kind) = match entry.and_then(|e| Ok((e.path(), e.file_type()?))) {
            Ok(found) => found,
            Err(error) => return listing.cannot_list(folder, &error),
        };
        if is_hidden(&path) {
            continue;
        }
        if kind.is_dir() {
            list(&path, depth + 1, listing);
        } else if is_document(&path) {
            listing.files.push(path);
        }
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
}

fn is_document(path: &Path) -> bool {
    path.extension()
        .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e.eq_ignore_ascii_case(known)))
        && !is_test(path)
}

/// `*.test.yaml` says what the documents beside it must do, and is none of them.
pub fn is_test(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase());
    name.is_some_and(|name| [".test.yaml", ".test.yml"].iter().any(|end| name.ends_with(end)))
}

/// `None` if there is no such file. Symbolic links are followed.
fn read_file(path: &Path, before: Option<Known>, dirty: bool) -> Option<Known> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(faulty(path, FileFault::Unreadable(error.to_string()))),
    };
    let stamp = Stamp::from(&meta);
    if let Some(before) = before
        && before.stamp == stamp
        && !dirty
        && !matches!(before.content.body, Err(FileFault::Unreadable(_)))
    {
        return Some(before);
    }
    // A pipe or device named x.yaml would block or never end.
    let body = if meta.is_dir() {
        return None;
    } else if !meta.is_file() {
        Err(FileFault::NotAFile)
    } else {
        match read_text(path) {
            Err(FileFault::Unreadable(_)) if !path.exists() => return None,
            body => body,
        }
    };
    Some(Known { stamp, content: FileContent { path: shown(path), body } })
}

fn faulty(path: &Path, fault: FileFault) -> Known {
    let stamp = Stamp { inode: (0, 0), size: 0, modified: (0, 0), changed: (0, 0) };
    Known { stamp, content: FileContent { path: shown(path), body: Err(fault) } }
}

fn read_text(path: &Path) -> Result<FileText, FileFault> {
    let unreadable = |e: io::Error| FileFault::Unreadable(e.to_string());
    let limit = MAX_FILE_BYTES as u64;
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut bytes = Vec::new();
    // The size may be out of date, or a lie as under /proc: what is read is bounded by itself.
    if size <= limit {
        file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if size > limit || bytes.len() as u64 > limit {
        return Err(FileFault::TooBig { size: size.max(bytes.len() as u64), limit });
    }
    let text =
        String::from_utf8(bytes).map_err(|e| FileFault::NotText { offset: e.utf8_error().valid_up_to() })?;
    Ok(FileText::new(text))
}

fn shown(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}
