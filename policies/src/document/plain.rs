//! YAML text -> JSON, for documents that are none of the mesh's: what is to be done to a Deployment is done to its JSON.

use std::sync::Arc;

use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, Report};
use super::{locate, yaml};

/// Every document of the text, as it is written; empty ones are left out. A field without a value is left out too, as
/// the API server reads it.
///
/// # Errors
/// What is no YAML, with its line. `file` is its path as shown to people.
pub fn plain(file: &Arc<str>, text: &str) -> Result<Vec<Json>, Vec<Diagnostic>> {
    let mut report = Report::new(file.clone());
    let stream = yaml::read(text);
    let in_documents = stream.documents.iter().flat_map(|document| &document.errors);
    for error in stream.syntax_errors.iter().chain(in_documents) {
        report.error(error.place, "", error.message.clone(), error.help.clone());
    }
    if report.errors() > 0 || stream.documents.iter().any(|document| document.cut) {
        return Err(report.finish());
    }
    let roots = stream.documents.iter().filter_map(|document| document.root.as_deref());
    Ok(roots.map(locate::to_json).filter(|root| !root.is_null()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_as_they_are_written() {
        let read =
            plain(&"a.yaml".into(), "# nothing\n---\na: 1\nb: {c: [x, 2.5, true]}\nd:\n---\n- y\n").unwrap();
        assert_eq!(read, [json!({ "a": 1, "b": { "c": ["x", 2.5, true] } }), json!(["y"])]);
        assert_eq!(plain(&"a.yaml".into(), "").unwrap(), [] as [Json; 0]);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let told = plain(&"a.yaml".into(), "a: 1\nb: [\n").unwrap_err();
        assert!(told[0].to_string().starts_with("a.yaml:"), "{told:?}");
    }
}
