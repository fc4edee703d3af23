//! The documents of this repository are without a lint's finding: whoever learns from them must not learn to pass over one.
#![allow(clippy::disallowed_methods, reason = "a test outside the crate: it reads examples")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use tidegate_policy::document::{ObjectKey, parse, plain};
use tidegate_policy::lint::lint;
use tidegate_policy::objects::Object;
use tidegate_policy::resolve::resolve;

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "yaml"))
        .collect();
    files.sort();
    files
}

fn objects(files: &[PathBuf]) -> Vec<Object> {
    let parse_one = |path: &PathBuf| {
        let name: Arc<str> = path.display().to_string().into();
        parse(&name, &std::fs::read_to_string(path).expect("a file")).objects
    };
    files.iter().flat_map(parse_one).collect()
}

fn told(objects: &[Object]) -> Vec<String> {
    let found = lint(objects, &resolve(objects));
    found.iter().map(|one| format!("{}: {} {}: {}", one.source, one.lint, one.pointer, one.message)).collect()
}

#[test]
fn no_example_has_a_finding_by_itself_or_with_its_folder() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let single = yaml_files(&examples);
    assert!(single.len() > 20);
    for file in &single {
        let all: Vec<_> = told(&objects(std::slice::from_ref(file)));
        assert_eq!(all, [] as [String; 0], "{}", file.display());
    }
    for folder in ["demo", "gateway"] {
        assert_eq!(told(&objects(&yaml_files(&examples.join(folder)))), [] as [String; 0], "{folder}");
    }
}

/// What a case is given: the objects of its file and its own, which take the places of those of the same kind and name.
fn given(file: &Path, sources: &[&Value]) -> Vec<Object> {
    let mut by_name = BTreeMap::new();
    let mut add = |path: &Path, text: &str| {
        for object in parse(&path.display().to_string().into(), text).objects {
            by_name.insert(ObjectKey::of(&object), object);
        }
    };
    for source in sources {
        for name in source["files"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let path = file.parent().expect("a folder").join(name);
            let files = if path.is_dir() { yaml_files(&path) } else { vec![path] };
            files.iter().for_each(|path| add(path, &std::fs::read_to_string(path).expect("a file")));
        }
        for object in source["objects"].as_array().into_iter().flatten() {
            add(file, &object.to_string());
        }
    }
    by_name.into_values().collect()
}

/// Cases show on purpose what nobody should write: these are about just what is told of them.
const TOLD: [(&str, &str); 6] = [
    (
        "breaker-cannot-open",
        "The last endpoint is called however it does, unless it is written that it may be ejected",
    ),
    ("odd-weights", "With all weights zero nothing is forwarded"),
    (
        "unreachable-rule",
        "Alphabetical order is that of the text namespace/name, in which a dash comes before the slash",
    ),
    ("unreachable-rule", "Of equal matches in two routes the older route wins"),
    (
        "unreachable-rule",
        "Of equal matches the older route wins, then the first by name, then the first rule",
    ),
    ("unreachable-rule", "Of routes of one age the first by namespace/name wins"),
];

#[test]
fn of_the_cases_only_that_is_told_which_they_are_about() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")];
    let mut told = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        folders.extend(entries.filter(|path| path.is_dir()));
        for file in yaml_files(&folder) {
            let text = std::fs::read_to_string(&file).expect("a file");
            let name: Arc<str> = file.display().to_string().into();
            let Ok([document]) = <[Value; 1]>::try_from(plain(&name, &text).expect("YAML")) else { continue };
            for case in document["cases"].as_array().into_iter().flatten() {
                let objects = given(&file, &[&document["given"], &case["given"]]);
                let name = case["name"].as_str().unwrap_or_default();
                told.extend(lint(&objects, &resolve(&objects)).iter().map(|one| (one.lint, name.to_owned())));
            }
        }
    }
    let told: Vec<_> = told.iter().map(|(lint, case)| (*lint, case.as_str())).collect();
    assert_eq!(told, TOLD);
}
