//! Files as the control plane would read them, each once.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use tidegate_control_plane::source::file::{Dirty, Folder};
use tidegate_control_plane::source::{FileContent, FileFault, FileText, Reading};
use tidegate_policy::document::MAX_FILE_BYTES;

/// # Errors
/// A path leads nowhere, or standard input breaks off.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Reading> {
    let mut all = Reading { root_listed: true, ..Reading::default() };
    for path in paths {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
            all.files.push(FileContent { path: "standard input".into(), body: text(bytes) });
        } else if path.is_dir() {
            let reading = Folder::new(path.clone()).read(&Dirty::All);
            all.files.extend(reading.files);
            all.unknown.extend(reading.unknown);
        } else if path.exists() {
            let shown: Arc<str> = path.display().to_string().into();
            all.files.push(FileContent { path: shown, body: read_file(path) });
        } else {
            bail!("{}: there is no such file or directory", path.display());
        }
    }
    all.files.sort_by(|a, b| a.path.cmp(&b.path));
    all.files.dedup_by(|a, b| a.path == b.path);
    Ok(all)
}

fn read_file(path: &Path) -> Result<FileText, FileFault> {
    let unreadable = |error: std::io::Error| FileFault::Unreadable(error.to_string());
    let size = path.metadata().map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(FileFault::TooBig { size, limit: MAX_FILE_BYTES as u64 });
    }
    text(std::fs::read(path).map_err(unreadable)?)
}

fn text(bytes: Vec<u8>) -> Result<FileText, FileFault> {
    let (size, limit) = (bytes.len() as u64, MAX_FILE_BYTES as u64);
    if size > limit {
        return Err(FileFault::TooBig { size, limit });
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(FileText::new(text)),
        Err(error) => Err(FileFault::NotText { offset: error.utf8_error().valid_up_to() }),
    }
}
