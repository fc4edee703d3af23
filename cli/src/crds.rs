//! `tidegate crds`: what a cluster must know before it takes our kinds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value as Json;
use tidegate_policy::document::crd;

use crate::exit::Done;
use crate::{manifests, say};

pub(crate) const EXAMPLES: &str = "\
Examples:
  tidegate crds | kubectl apply --server-side -f -
      before the first policy, and again after each upgrade: they only grow
  tidegate crds --out charts/tidegate/files/crds
      one file each, as the Helm chart has them
  kubectl explain ratelimitpolicy.spec.limits
      afterwards: every field with what it does
  kubectl get tidegate --all-namespaces
      every object of every kind

They are made from the types that policies are read with, so the API server and
`tidegate validate` know the same fields. What a schema cannot say is refused by
the admission webhook.";

/// Written at the top of every file, so that nobody mends it by hand.
const HEAD: &str = "# Made by `tidegate crds --out`; do not edit.\n";

#[derive(Debug, clap::Args)]
pub(crate) struct CrdsArgs {
    /// Write one file per kind here instead; files of kinds that are no more are removed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn command(args: &CrdsArgs) -> Result<Done> {
    let definitions = crd::definitions();
    match &args.out {
        None => say::text(&manifests::stream(&definitions)?),
        Some(folder) => write(folder, &definitions)?,
    }
    Ok(Done::Well)
}

fn write(folder: &Path, definitions: &[Json]) -> Result<()> {
    let in_folder = || folder.display().to_string();
    fs::create_dir_all(folder).with_context(in_folder)?;
    let files = files(definitions)?;
    for entry in fs::read_dir(folder).with_context(in_folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = || fs::read_to_string(entry.path()).is_ok_and(|text| text.starts_with(HEAD));
        if !files.iter().any(|(kept, _)| *kept == name) && is_ours() {
            fs::remove_file(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    for (name, text) in files {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Name and text of each file.
fn files(definitions: &[Json]) -> Result<Vec<(String, String)>> {
    let file = |definition: &Json| {
        let name = definition.pointer("/spec/names/plural").and_then(Json::as_str).unwrap_or("unnamed");
        Ok((format!("{name}.yaml"), format!("{HEAD}{}", manifests::document(definition)?)))
    };
    definitions.iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tidegate/files/crds")
    }

    fn read(folder: &Path) -> Vec<(String, String)> {
        let mut found: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap()))
            .collect();
        found.sort();
        found
    }

    #[test]
    fn the_chart_has_the_definitions_of_this_version() {
        let mut wanted = files(&crd::definitions()).unwrap();
        wanted.sort();
        let found = read(&chart());
        let names =
            |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&wanted));
        for ((name, found), (_, wanted)) in found.iter().zip(&wanted) {
            assert!(
                found == wanted,
                "{name} is not of this version: run `tidegate crds --out charts/tidegate/files/crds`"
            );
        }
    }

    #[test]
    fn what_is_written_says_the_same_when_it_is_read() {
        for definition in crd::definitions() {
            let text = manifests::document(&definition).unwrap();
            let read = tidegate_policy::document::plain(&"crd".into(), &text).unwrap();
            assert_eq!(read, [definition]);
        }
    }

    #[test]
    fn a_folder_is_brought_up_to_date_and_strangers_in_it_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("gone.yaml"), format!("{HEAD}kind: X\n")).unwrap();
        fs::write(path.join("mine.yaml"), "kind: X\n").unwrap();
        write(path, &crd::definitions()).unwrap();
        let names: Vec<_> = read(path).into_iter().map(|(name, _)| name).collect();
        assert!(names.contains(&"mine.yaml".into()) && names.contains(&"backends.yaml".into()), "{names:?}");
        assert!(!names.contains(&"gone.yaml".into()));
    }
}
