//! Runs every file of `cases/`: what the specification says, as requests and what comes of them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test outside the crate: it reads files"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_policy::cases;
use tidegate_policy::kinds::KINDS;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// Every file of cases: they are in folders by topic, beside the worlds that they share.
fn files() -> Vec<PathBuf> {
    let folders =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut files: Vec<_> = folders
        .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> Arc<str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    path.strip_prefix(root).unwrap_or(path).display().to_string().into()
}

/// What is wrong with the cases of one file, and how many there are.
fn run(path: &Path) -> (Vec<String>, usize) {
    let folder = path.parent().unwrap().to_owned();
    let load = |name: &str| match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(vec![(Arc::from(name), text)]),
        Err(error) => Err(format!("{name}: {error}")),
    };
    match cases::parse(&name(path), &fs::read_to_string(path).unwrap()) {
        Ok(cases) => {
            let ran = cases.run(&load, &mut cases::Coverage::default());
            (ran.iter().flat_map(|ran| &ran.mismatches).map(ToString::to_string).collect(), cases.len())
        }
        Err(faults) => (faults.iter().map(ToString::to_string).collect(), 0),
    }
}

#[test]
fn every_case_comes_out_as_it_is_written() {
    let results: Vec<_> = files().iter().map(|path| run(path)).collect();
    let wrong: Vec<_> = results.iter().flat_map(|(wrong, _)| wrong.as_slice()).map(String::as_str).collect();
    let all: usize = results.iter().map(|(_, cases)| cases).sum();
    assert!(wrong.is_empty(), "{} of {all} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(all >= 100, "only {all} cases");
}

#[test]
fn every_kind_of_policy_has_cases() {
    for entry in KINDS {
        let path = root().join("policies").join(format!("{}.yaml", entry.kind));
        let (wrong, cases) = run(&path);
        assert!(wrong.is_empty() && cases > 0, "{}: {wrong:?}", path.display());
        assert!(fs::read_to_string(&path).unwrap().contains(&format!("kind: {}", entry.kind)));
    }
}

#[test]
fn every_case_of_the_specification_says_where_it_is_written() {
    for path in files().iter().filter(|path| !path.parent().unwrap().ends_with("policies")) {
        let text = fs::read_to_string(path).unwrap();
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!(count("- name: "), count("  source: "), "{}", path.display());
    }
}
