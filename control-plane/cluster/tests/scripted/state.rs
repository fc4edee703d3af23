//! What the scripted API server holds, and how requests change it. Knows as much of Kubernetes as its clients rely on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// `(apiVersion, plural, namespace, name)`
pub(crate) type Key = (String, String, String, String);

#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) namespaced: bool,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: &'static str,
    pub(crate) key: Key,
    pub(crate) object: Value,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) resources: Vec<Resource>,
    pub(crate) objects: BTreeMap<Key, Value>,
    pub(crate) changes: Vec<Change>,
    /// Watches from before this version are told that it is gone (410).
    pub(crate) oldest: u64,
    pub(crate) requests: Vec<Seen>,
    /// Plurals whose lists are refused (403).
    pub(crate) forbidden: BTreeSet<String>,
    /// Writes to a status that are answered with a conflict.
    pub(crate) conflicts: u32,
    /// A field of a status that no kind has here.
    pub(crate) undeclared: Option<&'static str>,
    /// What every status is changed to right after it was written, by somebody else.
    pub(crate) vandal: Option<Value>,
    /// What is said of tokens in a TokenReview; of others, that they are nobody's.
    pub(crate) tokens: BTreeMap<String, Value>,
    /// What is granted, by the attributes of a SubjectAccessReview; `None`: nobody may ask.
    pub(crate) may: Option<fn(&Value) -> bool>,
}

impl State {
    pub(crate) fn resource(&self, api_version: &str, plural: &str) -> Option<Resource> {
        let found = self.resources.iter().find(|r| r.api_version == api_version && r.plural == plural);
        found.cloned()
    }

    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Value {
        self.version += 1;
        let before = self.objects.get(&key);
        let generation = before.map_or(1, |before| {
            let same = before.get("spec") == object.get("spec");
            before["metadata"]["generation"].as_i64().unwrap() + i64::from(!same)
        });
        let uid =
            before.map_or_else(|| json!(format!("uid-{}", self.version)), |b| b["metadata"]["uid"].clone());
        let metadata = &mut object["metadata"];
        metadata["uid"] = uid;
        metadata["resourceVersion"] = json!(self.version.to_string());
        metadata["generation"] = json!(generation);
        metadata["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        metadata["managedFields"] = json!([{ "manager": "kubectl", "operation": "Update" }]);
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.changes.push(Change { version: self.version, kind, key: key.clone(), object: object.clone() });
        self.objects.insert(key, object.clone());
        object
    }

    pub(crate) fn delete(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let (version, key) = (self.version, key.clone());
        self.changes.push(Change { version, kind: "DELETED", key, object: object.clone() });
        Some(object)
    }

    /// Server-side apply of an object or of its status.
    pub(crate) fn apply(&mut self, key: Key, status: bool, body: &Value) -> Result<Value, u16> {
        let before = self.objects.get(&key).cloned();
        let wanted = &body["metadata"]["resourceVersion"];
        let stale =
            before.as_ref().is_some_and(|b| !wanted.is_null() && b["metadata"]["resourceVersion"] != *wanted);
        if stale {
            return Err(409);
        }
        if !status {
            let mut object = before.unwrap_or_else(|| json!({ "metadata": {} }));
            merge(&mut object, body);
            return Ok(self.put(key, object));
        }
        if self.undeclared.is_some_and(|field| body["status"].get(field).is_some()) {
            return Err(500);
        }
        if self.conflicts > 0 {
            self.conflicts -= 1;
            return Err(409);
        }
        let mut object = before.ok_or(404_u16)?;
        let old = object["status"].take();
        let mut new = old.as_object().cloned().unwrap_or_default();
        for (field, value) in body["status"].as_object().into_iter().flatten() {
            let merged = if field == "conditions" { by_type(old.get(field), value) } else { value.clone() };
            new.insert(field.clone(), merged);
        }
        object["status"] = Value::Object(new);
        let written = self.put(key.clone(), object);
        if let Some(vandal) = self.vandal.clone() {
            let mut object = written.clone();
            object["status"] = vandal;
            self.put(key, object);
        }
        Ok(written)
    }

    /// RFC 6902, as much of it as is used.
    pub(crate) fn patch(&mut self, key: Key, operations: &Value) -> Result<Value, u16> {
        let mut object = self.objects.get(&key).cloned().ok_or(404_u16)?;
        for operation in operations.as_array().ok_or(400_u16)? {
            let path = operation["path"].as_str().ok_or(400_u16)?;
            match operation["op"].as_str() {
                Some("test") if object.pointer(path) == Some(&operation["value"]) => {}
                Some("test") => return Err(422),
                Some("add") => {
                    let (parent, field) = path.rsplit_once('/').ok_or(400_u16)?;
                    object.pointer_mut(parent).ok_or(422_u16)?[field] = operation["value"].clone();
                }
                _ => return Err(400),
            }
        }
        Ok(self.put(key, object))
    }

    pub(crate) fn listed(&self, api_version: &str, plural: &str, scope: &Scope) -> Vec<Value> {
        let inside = |key: &Key| key.0 == api_version && key.1 == plural && scope.has(key);
        self.objects.iter().filter(|(key, _)| inside(key)).map(|(_, object)| object.clone()).collect()
    }
}

/// Which objects of a kind are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
}

impl Scope {
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == key.2)
            && self.name.as_ref().is_none_or(|name| *name == key.3)
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (field, value) in from {
                merge(into.entry(field.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// A list with `type` as its key: what one manager no longer says goes, what is another's stays.
fn by_type(old: Option<&Value>, new: &Value) -> Value {
    let ours = ["Accepted", "Programmed", "ResolvedRefs", "Conflicted", "Overridden"];
    let old = old.and_then(Value::as_array).into_iter().flatten();
    let kept = old.filter(|c| !ours.contains(&c["type"].as_str().unwrap_or_default())).cloned();
    kept.chain(new.as_array().into_iter().flatten().cloned()).collect()
}

pub(crate) fn failure(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "Invalid",
    };
    let mut status = Map::new();
    for (field, value) in [
        ("apiVersion", json!("v1")),
        ("kind", json!("Status")),
        ("metadata", json!({})),
        ("status", json!("Failure")),
        ("reason", json!(reason)),
        ("message", json!(message)),
        ("code", json!(code)),
    ] {
        status.insert(field.to_owned(), value);
    }
    Value::Object(status)
}
