//! Objects as the YAML that people read and `kubectl` takes.

use anyhow::{Context as _, Result};
use serde_json::Value as Json;

/// A stream of documents, each after `---`.
pub(crate) fn stream(objects: &[Json]) -> Result<String> {
    let documents: Result<Vec<_>> = objects.iter().map(document).collect();
    Ok(documents?.iter().map(|document| format!("---\n{document}")).collect())
}

/// One document, without a marker.
pub(crate) fn document(object: &Json) -> Result<String> {
    let text = serde_saphyr::to_string(object).context("cannot write YAML")?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}
