//! Where policies are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use tidegate_control_plane::source::file::{Dirty, Folder};
use tidegate_policy::document::{self, MAX_FILE_BYTES, Parsed, Severity};
use tidegate_policy::simulate::{Plan, Side};

use crate::say;

/// `None`: they cannot be used, and why was said.
pub(super) fn plan(paths: &[PathBuf], side: &Side) -> Result<Option<Plan>> {
    let mut parsed = Vec::new();
    for path in paths {
        for (file, text) in texts(path)? {
            parsed.push(document::parse(&file, &text));
        }
    }
    let all = parsed.iter().flat_map(|parsed: &Parsed| &parsed.diagnostics);
    let (errors, warnings): (Vec<_>, Vec<_>) = all.partition(|told| told.severity == Severity::Error);
    let lines: Vec<_> = errors.iter().chain(&warnings).map(ToString::to_string).collect();
    say::news(&lines);
    if !errors.is_empty() {
        return Ok(None);
    }
    let shown = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    Plan::new(&parsed, side.clone()).map(Some).map_err(anyhow::Error::msg).context(shown)
}

fn texts(path: &Path) -> Result<Vec<(Arc<str>, String)>> {
    let shown = path.display();
    if !path.exists() {
        bail!("{shown}: there is no such file or directory");
    }
    if path.is_dir() {
        let reading = Folder::new(path.to_owned()).read(&Dirty::All);
        if let Some(unknown) = reading.unknown.first() {
            bail!("{}: {}", unknown.path, unknown.reason);
        }
        let text = |file: tidegate_control_plane::source::FileContent| match file.body {
            Ok(body) => Ok((file.path.clone(), body.text.to_string())),
            Err(fault) => bail!("{}: {fault}", file.path),
        };
        return reading.files.into_iter().map(text).collect();
    }
    let size = path.metadata().with_context(|| format!("cannot read {shown}"))?.len();
    if size > MAX_FILE_BYTES as u64 {
        bail!("{shown}: the file has {size} bytes; at most {MAX_FILE_BYTES} are read");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    Ok(vec![(shown.to_string().into(), text)])
}
