//! What may be written in a file may be sent to the API server: the generated schema against the examples.

use std::sync::Arc;

use schemars::Schema;

use super::super::super::diagnostic::Report;
use super::super::super::schema::Checker;
use super::super::super::yaml::{self, Node};
use super::*;

/// Every kind of the group, with the text of its example.
#[allow(clippy::disallowed_methods, reason = "tests read the examples that people copy from")]
pub(super) fn examples() -> Vec<(String, String)> {
    let read = |kind: String| {
        let path = format!("{}/examples/{kind}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        (kind, text)
    };
    specs().into_iter().map(|(kind, _)| read(kind)).collect()
}

/// The specs of all documents of `kind` in `text`.
pub(super) fn written(kind: &str, text: &str) -> Vec<Arc<Node>> {
    let of_kind = |node: &Arc<Node>| node.get("kind").and_then(|n| n.as_str()) == Some(kind);
    let documents = yaml::read(text).documents.into_iter().filter_map(|document| document.root);
    let found: Vec<_> = documents.filter(of_kind).filter_map(|node| node.get("spec").cloned()).collect();
    assert!(!found.is_empty(), "no {kind}");
    found
}

fn errors(kind: &str, spec: &Node) -> Vec<String> {
    let checker = Checker::new(Schema::try_from(spec_of(kind)).unwrap());
    let mut report = Report::new(Arc::from(kind));
    checker.check(spec, "spec", &mut report);
    report.finish().iter().map(ToString::to_string).collect()
}

#[test]
fn every_example_fits_the_generated_schema() {
    for (kind, text) in &examples() {
        for spec in written(kind, text) {
            assert_eq!(errors(kind, &spec), [""; 0], "{kind}");
        }
    }
}

#[test]
fn what_the_schema_does_not_know_would_be_dropped_and_is_told() {
    let told = |kind: &str, spec: &str| {
        let text = format!("kind: {kind}\nspec: {spec}\n");
        errors(kind, &written(kind, &text)[0]).join("\n")
    };
    assert!(told("Backend", "{endpoints: [{address: a, prot: 1}]}").contains("unknown field"));
    assert!(told("Backend", "{endpoints: []}").contains("at least 1"));
    assert!(
        told("CohortPolicy", "{targetRefs: [{kind: Service, name: a}], key: [{type: PeerIdentity}]}")
            .contains("Service")
    );
    assert!(told("RetryPolicy", "{perTryTimeout: 5}").contains("expected a string"));
}
