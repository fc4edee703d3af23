//! Documents for a question about them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use tidegate_control_plane::source::file::{Dirty, Folder};
use tidegate_policy::document::{self, Parsed};

use crate::say;

/// Reads files and directories, as `run` does. What is wrong with them is told on standard error; what is right counts, as
/// it would for a control plane.
///
/// # Errors
/// A path does not exist, a file cannot be read, or nothing is in them.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Parsed>> {
    let mut texts = Vec::<(Arc<str>, Arc<str>)>::new();
    for path in paths {
        if path.is_dir() {
            for file in Folder::new(path.clone()).read(&Dirty::All).files {
                match file.body {
                    Ok(body) => texts.push((file.path, body.text)),
                    Err(fault) => bail!("{}: {fault}", file.path),
                }
            }
        } else {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
            texts.push((path.display().to_string().into(), text.into()));
        }
    }
    let parsed: Vec<_> = texts.iter().map(|(name, text)| document::parse(name, text)).collect();
    let wrong = parsed.iter().flat_map(|one| &one.diagnostics).map(ToString::to_string);
    say::news(&wrong.collect::<Vec<_>>());
    if parsed.iter().all(|one| one.objects.is_empty()) {
        bail!("there is no valid object in these files");
    }
    Ok(parsed)
}
