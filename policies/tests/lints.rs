//! The documents of this repository are without a lint's finding: whoever learns from them must not learn to pass over one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_policy::document::parse;
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
