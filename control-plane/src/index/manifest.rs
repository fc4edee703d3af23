//! What is written of an object, word for word, and which version of it that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use tidegate_policy::document::ObjectKey;

use super::Index;
use super::file_state::FileState;

/// The manifest and its generation, by the file whose word counts; what cannot be read now is as it was in `index`.
pub(super) fn of(key: &ObjectKey, file: &Arc<str>, index: &Index) -> (Option<Arc<Json>>, i64) {
    let before = index.objects.get(key);
    let (last, generation) = before.map_or((None, 0), |b| (b.manifest.clone(), b.generation));
    let now = match index.files.get(file) {
        Some(FileState::Read { words, .. }) => words.manifests.get(key).cloned(),
        _ => None,
    };
    let Some(now) = now else { return (last, generation.max(1)) };
    let written = now.pointer("/metadata/generation").and_then(Json::as_i64).filter(|n| *n > 0);
    let same = last.is_some_and(|last| Arc::ptr_eq(&last, &now) || same_content(&last, &now));
    (Some(now), written.unwrap_or(if same { generation } else { generation + 1 }))
}

/// Whether two versions differ in nothing that a new generation would be counted for.
fn same_content(a: &Json, b: &Json) -> bool {
    fn content(manifest: &Json) -> BTreeMap<&String, &Json> {
        let fields = manifest.as_object().into_iter().flatten();
        fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status")).collect()
    }
    content(a) == content(b)
}
