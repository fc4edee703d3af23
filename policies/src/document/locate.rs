//! From pointers to places, and from trees to plain JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Number, Value as Json};

use super::field::Field;
use super::yaml::{Entry, MAX_DEPTH, Node, Place, Value};
use crate::model::SourceMap;

/// The field that `pointer` names below `node`, and its place or that of its nearest parent.
pub(super) fn locate(node: &Node, field: &str, pointer: &str) -> (String, Place) {
    let mut field = Field::new(field);
    let mut at = Some(node);
    let mut place = node.place;
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        let index = segment.parse::<usize>().ok();
        let child = at.and_then(|node| match (&node.value, index) {
            (Value::Sequence(items), Some(index)) => items.get(index).map(|n| &**n),
            _ => node.entry(&segment).map(|e| &*e.value),
        });
        match (index, at.map(|n| &n.value)) {
            (Some(index), Some(Value::Sequence(_)) | None) => field.push_index(index),
            _ => field.push(&segment),
        };
        place = child.map_or(place, |n| n.place);
        at = child;
    }
    (field.as_str().to_owned(), place)
}

/// The line of every list item that is a mapping, by pointer relative to `node`.
pub(super) fn lines(node: &Node) -> SourceMap {
    let mut lines = BTreeMap::new();
    collect(node, &mut String::new(), &mut lines);
    SourceMap(lines)
}

fn collect(node: &Node, pointer: &mut String, lines: &mut BTreeMap<String, u32>) {
    let length = pointer.len();
    match &node.value {
        Value::Sequence(items) => {
            for (i, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{i}"));
                if matches!(item.value, Value::Mapping(_)) {
                    lines.insert(pointer.clone(), item.place.line);
                }
                collect(item, pointer, lines);
                pointer.truncate(length);
            }
        }
        Value::Mapping(entries) => {
            for entry in entries {
                pointer.push('/');
                pointer.push_str(&entry.key.replace('~', "~0").replace('/', "~1"));
                collect(&entry.value, pointer, lines);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// Plain JSON, without the fields that are null.
pub(super) fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Number::from_i128(*value).map_or(Json::Null, Json::Number),
        Value::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
        Value::String(text) => Json::String(text.clone()),
        Value::Sequence(items) => Json::Array(items.iter().map(|i| to_json(i)).collect()),
        Value::Mapping(entries) => Json::Object(fields(entries)),
    }
}

fn fields(entries: &[Entry]) -> Map<String, Json> {
    let present = entries.iter().filter(|e| e.value.value != Value::Null);
    present.map(|e| (e.key.clone(), to_json(&e.value))).collect()
}

/// A tree without places; `None` if it nests too deeply.
pub(super) fn from_json(json: &Json) -> Option<Node> {
    below(json, 0)
}

fn below(json: &Json, depth: usize) -> Option<Node> {
    if depth > MAX_DEPTH {
        return None;
    }
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i128() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => {
            let items: Option<_> = items.iter().map(|i| below(i, depth + 1).map(Arc::new)).collect();
            Value::Sequence(items?)
        }
        Json::Object(map) => {
            let entry = |(key, value): (&String, &Json)| {
                let value = Arc::new(below(value, depth + 1)?);
                Some(Entry { key: key.clone(), place: Place::default(), value })
            };
            Value::Mapping(map.iter().map(entry).collect::<Option<_>>()?)
        }
    };
    Some(Node::new(value, Place::default()))
}
