//! `tidegate validate`: what the control plane would say of files, without one.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use tidegate_control_plane::ControllerArgs;
use tidegate_control_plane::source::file::{Dirty, Folder};
use tidegate_control_plane::source::{FileContent, FileFault, FileText, Reading};
use tidegate_control_plane::world::Fold;
use tidegate_policy::document::MAX_FILE_BYTES;

use crate::exit::Done;
use crate::status::is_complaint;
use crate::{logging, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate validate mesh/                  a directory, as `run` reads it
  tidegate validate mesh/limits.yaml       one file; references to objects
                                           elsewhere are reported as missing
  helm template . | tidegate validate -    standard input

Exit code 1 when anything is wrong.";

#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {
    /// Files and directories, judged together as one set; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    classes: ControllerArgs,
}

pub(crate) fn command(args: &ValidateArgs) -> Result<Done> {
    logging::start("warn");
    let reading = read(&args.paths)?;
    let files = reading.files.len();
    let world = Fold::new(args.classes.controller()).apply(&reading).unwrap_or_default();
    for diagnostic in &world.diagnostics {
        say::line(&diagnostic.to_string());
    }
    let mut faults = world.diagnostics.iter().filter(|d| d.is_error()).count();
    for (key, conditions) in &world.conditions {
        let Some(place) = world.objects.get(key).map(|o| format!("{}:{}", o.file, o.line)) else { continue };
        for condition in conditions.iter().filter(|condition| is_complaint(condition)) {
            faults += 1;
            say::line(&format!("{place}: error: {key}: {}: {}", condition.reason, condition.message));
        }
    }
    let objects = world.objects.len();
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (files, objects, errors) = (count(files, "file"), count(objects, "object"), count(faults, "error"));
    say::line(&format!("{files}, {objects}, {errors}"));
    Ok(if faults == 0 { Done::Well } else { Done::ChecksFailed })
}

fn read(paths: &[PathBuf]) -> Result<Reading> {
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
