//! What of a document cannot be read, so that the rest of it can be judged without.

use serde_json::Value as Json;

/// A field that is unknown, or whose value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    /// From the root that its schema describes.
    pub(super) pointer: String,
    /// Of the field that was probably meant by one that is unknown.
    pub(super) meant: Option<String>,
    /// One of a few values: what the fields beside it mean may depend on it.
    pub(super) decides: bool,
}

/// So often more is left out around what is lost, until the rest can be read.
pub(super) const MOST_LEVELS: usize = 3;

/// `json` without what is lost, or, at higher levels, without so many of the fields around it.
pub(super) fn without(json: &Json, lost: &[Lost], level: usize) -> Json {
    let mut rest = json.clone();
    for one in lost {
        if let Some(pointer) = around(json, &one.pointer, level) {
            remove(&mut rest, pointer);
        }
    }
    rest
}

/// Whether a fault at `pointer` may be no more than what follows from what was left out.
pub(super) fn follows(pointer: &str, json: &Json, lost: &[Lost], level: usize) -> bool {
    lost.iter().any(|one| {
        let left_out = around(json, &one.pointer, level).unwrap_or("");
        let beside = parent(left_out) == parent(pointer) && (one.decides || level > 0);
        beside
            || is_within(pointer, left_out)
            || one.meant.as_ref().is_some_and(|meant| is_within(pointer, meant))
    })
}

/// The field at `pointer` that can be left out, or one so many levels above. Entries of lists cannot: others would take their
/// places.
fn around<'p>(json: &Json, pointer: &'p str, level: usize) -> Option<&'p str> {
    let mut at = pointer;
    let mut left = level;
    loop {
        let above = parent(at)?;
        if json.pointer(above).is_some_and(Json::is_object) {
            if left == 0 {
                return Some(at);
            }
            left -= 1;
        }
        at = above;
    }
}

fn parent(pointer: &str) -> Option<&str> {
    Some(&pointer[..pointer.rfind('/')?])
}

fn is_within(pointer: &str, above: &str) -> bool {
    !above.is_empty()
        && pointer.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn remove(json: &mut Json, pointer: &str) {
    let Some((above, key)) = pointer.rsplit_once('/') else { return };
    if let Some(Json::Object(map)) = json.pointer_mut(above) {
        map.remove(&key.replace("~1", "/").replace("~0", "~"));
    }
}
