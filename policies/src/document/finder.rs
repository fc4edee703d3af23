//! Where the fields of objects are written, for whoever has something to say of them after they were read.

use std::collections::HashMap;
use std::sync::Arc;

use super::ObjectKey;
use super::kinds::{self, Content};
use super::locate::locate;
use super::read::{key_of, list_items};
use super::yaml::{self, Node};

/// The objects of a text, by name.
#[derive(Debug)]
pub struct Finder(HashMap<ObjectKey, Arc<Node>>);

/// A field and where it is written: its own place, or that of its nearest parent that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// `spec.limits[0].requests`.
    pub field: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Finder {
    /// Of several objects with one name the first, as in force.
    pub fn new(text: &str) -> Self {
        let mut found = HashMap::new();
        for root in yaml::read(text).documents.into_iter().filter_map(|document| document.root) {
            collect(&root, &mut found);
        }
        Self(found)
    }

    /// `pointer`: relative to the object's spec, or to the object where its kind has none.
    pub fn find(&self, key: &ObjectKey, pointer: &str) -> Option<Spot> {
        let node = self.0.get(key)?;
        let beside = kinds::find(&key.kind).is_some_and(|row| row.content == Content::Beside);
        let (root, field) = match node.get("spec") {
            Some(spec) if !beside => (spec, "spec"),
            _ => (node, ""),
        };
        // The whole object is its first line, not that of its spec.
        if pointer.is_empty() {
            return Some(Spot { field: String::new(), line: node.place.line, column: node.place.column });
        }
        let (field, place) = locate(root, field, pointer);
        Some(Spot { field, line: place.line, column: place.column })
    }
}

fn collect(node: &Arc<Node>, found: &mut HashMap<ObjectKey, Arc<Node>>) {
    if let Some(items) = list_items(node) {
        return items.iter().for_each(|item| collect(item, found));
    }
    if let Some(key) = key_of(node) {
        found.entry(key).or_insert_with(|| node.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_at_its_value_and_one_that_is_not_written_at_its_parent() {
        let finder = Finder::new(
            "kind: List\nitems:\n- kind: Service\n  metadata: {name: a}\n  spec:\n    ports:\n    - port: 80\n",
        );
        let key =
            |name: &str| ObjectKey { kind: "Service".into(), namespace: "default".into(), name: name.into() };
        let at =
            |pointer: &str| finder.find(&key("a"), pointer).map(|spot| (spot.field, spot.line, spot.column));
        assert_eq!(at("/ports/0/port"), Some(("spec.ports[0].port".into(), 7, 13)));
        assert_eq!(at("/ports/0/name"), Some(("spec.ports[0].name".into(), 7, 7)));
        assert_eq!(at(""), Some((String::new(), 3, 3)));
        assert_eq!(finder.find(&key("b"), ""), None);
    }
}
