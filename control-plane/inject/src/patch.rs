//! The difference of two documents as a JSON patch (RFC 6902), as a webhook answers.

use serde_json::{Value as Json, json};

/// What makes `after` of `before`: an array of operations, empty where they are equal.
pub fn patch(before: &Json, after: &Json) -> Json {
    let mut operations = Vec::new();
    differ(before, after, &mut String::new(), &mut operations);
    Json::Array(operations)
}

fn differ(before: &Json, after: &Json, at: &mut String, operations: &mut Vec<Json>) {
    match (before, after) {
        _ if before == after => {}
        (Json::Object(old), Json::Object(new)) => {
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                operations.push(json!({ "op": "remove", "path": format!("{at}/{}", escaped(name)) }));
            }
            for (name, value) in new {
                let length = at.len();
                at.push('/');
                at.push_str(&escaped(name));
                match old.get(name) {
                    Some(old) => differ(old, value, at, operations),
                    None => operations.push(json!({ "op": "add", "path": *at, "value": value })),
                }
                at.truncate(length);
            }
        }
        (Json::Array(old), Json::Array(new)) if !old.is_empty() && new.ends_with(old) => {
            let added = new.iter().take(new.len() - old.len()).enumerate();
            operations.extend(
                added.map(|(i, value)| json!({ "op": "add", "path": format!("{at}/{i}"), "value": value })),
            );
        }
        (Json::Array(old), Json::Array(new)) if old.len() <= new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                let length = at.len();
                at.push_str(&format!("/{i}"));
                differ(old, new, at, operations);
                at.truncate(length);
            }
            let added = new.iter().skip(old.len());
            operations
                .extend(added.map(|value| json!({ "op": "add", "path": format!("{at}/-"), "value": value })));
        }
        _ => operations.push(json!({ "op": "replace", "path": *at, "value": after })),
    }
}

/// RFC 6901.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
