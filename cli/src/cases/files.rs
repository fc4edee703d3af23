//! Where cases are, and what they name.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tidegate_control_plane::source::file::{Dirty, Folder, is_test};
use tidegate_policy::document::{Diagnostic, MAX_FILE_BYTES, Severity};

/// Deeper than anyone nests folders; a bound all the same.
const MAX_DEPTH: usize = 32;

/// One file of cases.
pub(super) struct CaseFile {
    path: PathBuf,
    /// As a person would type it.
    pub(super) shown: Arc<str>,
}

/// Those that are named, and those in folders that are named; each once.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<CaseFile>> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            search(path, 0, &mut found)?;
        } else if path.exists() {
            found.push(path.clone());
        } else {
            bail!("{}: there is no such file or directory", path.display());
        }
    }
    found.sort();
    found.dedup();
    let file = |path: PathBuf| CaseFile { shown: path.display().to_string().into(), path };
    Ok(found.into_iter().map(file).collect())
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if depth > MAX_DEPTH {
        bail!("{}: folders are nested too deep", folder.display());
    }
    let cannot = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let (path, hidden) = (entry.path(), entry.file_name().as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if entry.file_type().with_context(cannot)?.is_dir() {
            search(&path, depth + 1, found)?;
        } else if is_test(&path) {
            found.push(path);
        }
    }
    Ok(())
}

impl CaseFile {
    /// # Errors
    /// As one that stands in the file.
    pub(super) fn read(&self) -> Result<String, Vec<Diagnostic>> {
        text(&self.path).map_err(|message| {
            vec![Diagnostic {
                severity: Severity::Error,
                file: self.shown.clone(),
                line: 1,
                column: 1,
                field: String::new(),
                message,
                help: None,
            }]
        })
    }

    /// A file, or every file of objects below a folder, as `run` would read it.
    pub(super) fn load(&self, name: &str) -> Result<Vec<(Arc<str>, String)>, String> {
        let path = self.path.parent().unwrap_or(Path::new("")).join(name);
        let shown = |path: &Path| Arc::from(direct(path).display().to_string());
        if !path.is_dir() {
            return Ok(vec![(shown(&path), text(&path)?)]);
        }
        let reading = Folder::new(path).read(&Dirty::All);
        if let Some(unknown) = reading.unknown.first() {
            return Err(format!("{}: {}", unknown.path, unknown.reason));
        }
        let text = |file: tidegate_control_plane::source::FileContent| match file.body {
            Ok(body) => Ok((shown(Path::new(&*file.path)), body.text.to_string())),
            Err(fault) => Err(format!("{}: {fault}", file.path)),
        };
        reading.files.into_iter().map(text).collect()
    }
}

/// As a person would write it: the same file has one name, whichever file of cases names it.
fn direct(path: &Path) -> PathBuf {
    let mut direct = PathBuf::new();
    for part in path.components() {
        match (part, direct.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => drop(direct.pop()),
            (part, _) => direct.push(part),
        }
    }
    direct
}

fn text(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let size = path.metadata().map_err(|error| format!("{shown}: {error}"))?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(format!("{shown}: the file has {size} bytes; at most {MAX_FILE_BYTES} are read"));
    }
    fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))
}
