//! The documents that people copy from: each kind has one, and each means what it says.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test outside the crate: it reads examples"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_policy::document::{self, ObjectKey};
use tidegate_policy::kinds::KINDS;
use tidegate_policy::objects::Object;
use tidegate_policy::resolve;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// The root and the folders in it: each is a set of its own, which somebody may run.
fn sets() -> Vec<PathBuf> {
    let inside = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    inside.filter(|path| path.is_dir()).chain([root()]).collect()
}

/// Every document that is directly in `folder`.
fn objects(folder: &Path) -> Vec<Object> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|e| e == "yaml")).flat_map(|path| read(&path)).collect()
}

fn read(path: &Path) -> Vec<Object> {
    let file: Arc<str> = path.display().to_string().into();
    let parsed = document::parse(&file, &fs::read_to_string(path).unwrap());
    let told: Vec<_> = parsed.diagnostics.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    assert!(parsed.complete && !parsed.objects.is_empty(), "{file}");
    parsed.objects
}

/// What is wrong with the objects together.
fn complaints(objects: &[Object]) -> Vec<String> {
    let resolved = resolve::resolve(objects);
    let conditions =
        resolved.conditions.iter().flat_map(|(key, told)| told.iter().map(move |one| (key, one)));
    // Of these two it is bad news that they hold.
    let is_bad = |kind: &str, holds: bool| holds == matches!(kind, "Conflicted" | "Overridden");
    let bad = conditions.filter(|(_, condition)| is_bad(condition.kind, condition.holds));
    bad.map(|(key, condition)| format!("{key}: {} {}", condition.reason, condition.message)).collect()
}

#[test]
fn every_kind_has_an_example_of_its_own_name() {
    let kinds = KINDS.iter().map(|entry| entry.kind);
    let others = [
        "Gateway",
        "ListenerSet",
        "HTTPRoute",
        "GRPCRoute",
        "TCPRoute",
        "TLSRoute",
        "Service",
        "EndpointSlice",
        "Backend",
        "BackendTLSPolicy",
        "ConfigMap",
    ];
    for kind in kinds.chain(others) {
        let path = root().join(format!("{kind}.yaml"));
        assert!(path.is_file(), "{} is missing", path.display());
        let of_kind = |object: &Object| ObjectKey::of(object).is_some_and(|key| key.kind == kind);
        assert!(read(&path).iter().any(of_kind), "no {kind} in {}", path.display());
    }
}

#[test]
fn the_examples_of_each_folder_mean_something_without_a_complaint() {
    let sets = sets();
    assert!(sets.len() >= 2, "the root and the demo");
    for folder in sets {
        let all = objects(&folder);
        assert!(!all.is_empty() && !all.contains(&Object::Ignored), "{}", folder.display());
        assert_eq!(complaints(&all), Vec::<String>::new(), "{}", folder.display());
    }
}
