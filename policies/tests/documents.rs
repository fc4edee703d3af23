//! Documents as people write them, good and bad: every fault is told at once, each with its line.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tidegate_policy::document::{Parsed, parse};
use tidegate_policy::objects::Object;

fn read(text: &str) -> Parsed {
    parse(&Arc::from("a.yaml"), text)
}

fn told(parsed: &Parsed) -> Vec<String> {
    parsed.diagnostics.iter().map(ToString::to_string).collect()
}

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = files.filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    yaml.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn every_example_is_valid() {
    let examples = examples();
    assert!(examples.len() >= 5);
    for (path, text) in examples {
        let parsed = read(&text);
        assert_eq!(told(&parsed), Vec::<String>::new(), "{path}");
        assert!(parsed.complete && !parsed.objects.is_empty(), "{path}");
        assert!(parsed.objects.iter().all(|o| *o != Object::Ignored), "{path}");
    }
}
