//! YAML text -> located, typed documents; all errors at once, each with path and line.
//!
//! A file on disk and a custom resource in a cluster are the same document and pass the same checks. Nothing here
//! knows which objects exist beside each other; that is [`crate::resolve`]'s work.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

#[cfg(doc)]
use crate::model::Policy;
use crate::objects::Object;

pub mod crd;
mod diagnostic;
pub mod editor;
mod field;
mod finder;
mod kinds;
mod locate;
mod located;
mod lost;
mod plain;
mod read;
mod scalar;
pub mod schema;
mod timestamp;
mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub use finder::{Finder, Spot};
pub use plain::plain;
pub use yaml::{MAX_DEPTH, MAX_NODES};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use timestamp::parse_rfc3339;

pub(crate) use located::Located;

use diagnostic::Report;
use read::{Origin, Outcome};
use yaml::Place;

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// Every object that is valid in itself, in the order of the file.
    pub objects: Vec<Object>,
    pub diagnostics: Vec<Diagnostic>,
    /// False when something unreadable may hide further objects: what is missing here was not removed by its author.
    pub complete: bool,
    /// Objects that are in the file but were refused: their last good version counts.
    pub failed: Vec<ObjectKey>,
    /// What holds in the place of some of those as long as they have no last good version; see [`Policy::stand_in`].
    pub stand_ins: HashMap<ObjectKey, Object>,
    /// The line, from 1, on which each of both begins.
    pub lines: HashMap<ObjectKey, u32>,
    /// Every object as it is written, valid or not; what is cut off in the middle is missing.
    pub manifests: HashMap<ObjectKey, serde_json::Value>,
}

/// What makes two documents the same object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectKey {
    pub kind: String,
    /// Empty for kinds that belong to none.
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl ObjectKey {
    /// `None` for [`Object::Ignored`].
    pub fn of(object: &Object) -> Option<Self> {
        let name = &object.meta()?.name;
        let (namespace, name) = (name.namespace.to_string(), name.name.to_string());
        Some(Self { kind: object.kind()?.to_owned(), namespace, name })
    }
}

/// Reads a file. `file` is its path as shown to people.
pub fn parse(file: &Arc<str>, text: &str) -> Parsed {
    let mut report = Report::new(file.clone());
    let start = Place { line: 1, column: 1 };
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file is larger than {} MiB", MAX_FILE_BYTES >> 20);
        report.error(start, "", message, Some(String::from("split it into several files")));
        return Parsed {
            objects: Vec::new(),
            diagnostics: report.finish(),
            complete: false,
            failed: Vec::new(),
            stand_ins: HashMap::new(),
            lines: HashMap::new(),
            manifests: HashMap::new(),
        };
    }
    let stream = yaml::read(text);
    let complete = stream.syntax_errors.is_empty();
    for error in stream.syntax_errors {
        report.error(error.place, "", error.message, error.help);
    }
    let mut file = File { report, complete, ..File::new(file) };
    let empty = complete && stream.documents.iter().all(|d| d.is_empty());
    for document in stream.documents {
        file.document(document);
    }
    if empty {
        file.report.warn(start, "", "the file is empty: it defines nothing", None);
    }
    file.finish()
}

/// Reads an object from a cluster, with the checks that a file would get. Kinds the mesh has no use for come back as
/// [`Object::Ignored`].
///
/// # Errors
/// Everything that is wrong with it; the diagnostics name the object instead of a file, and no line.
pub fn from_value(value: &serde_json::Value) -> Result<Object, Vec<Diagnostic>> {
    let text = |pointer| value.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
    let kind = if text("/kind").is_empty() { "object" } else { text("/kind") };
    let label = format!("{kind} {}/{}", text("/metadata/namespace"), text("/metadata/name"));
    let mut report = Report::new(label.into());
    let Some(node) = locate::from_json(value) else {
        let message = format!("nested more than {MAX_DEPTH} levels deep");
        report.error(Place::default(), "", message, None);
        return Err(report.finish());
    };
    match read::object(&node, &Origin::Cluster, &mut report) {
        Outcome::Object(object) => Ok(object),
        Outcome::Nothing => Ok(Object::Ignored),
        Outcome::Refused(_) => Err(report.finish()),
    }
}

/// What holds in the place of an object from a cluster that is not valid and never was; see [`Policy::stand_in`].
pub fn stand_in(value: &serde_json::Value) -> Option<Object> {
    read::stand_in(&locate::from_json(value)?, &Origin::Cluster)
}

/// Reads one object of a cluster as [`parse`] reads a file. `name` is what people are told instead of a path, such as
/// `HTTPRoute/shop/web`; there are no lines.
pub fn parse_object(name: &Arc<str>, json: &str) -> Parsed {
    let mut file = File { origin: Origin::Cluster, ..File::new(name) };
    match serde_json::from_str(json).map(|value| locate::from_json(&value)) {
        Ok(Some(node)) => file.node(&node, false),
        Ok(None) => file.unreadable(format!("nested more than {MAX_DEPTH} levels deep")),
        Err(error) => file.unreadable(format!("is not JSON: {error}")),
    }
    file.finish()
}

/// Every kind that has a meaning here: its name, the versions of it that can be read, the one to prefer first, and
/// whether its objects belong to no namespace.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static [&'static str], bool)> {
    kinds::rows().iter().map(|row| (row.kind, row.api_versions, row.cluster_scoped))
}

/// A file on its way to [`Parsed`].
struct File {
    origin: Origin,
    report: Report,
    objects: Vec<Object>,
    failed: Vec<ObjectKey>,
    stand_ins: HashMap<ObjectKey, Object>,
    /// Where each object of the file was written first.
    lines: HashMap<ObjectKey, u32>,
    manifests: HashMap<ObjectKey, serde_json::Value>,
    complete: bool,
}

impl File {
    fn new(file: &Arc<str>) -> Self {
        Self {
            origin: Origin::File(file.clone()),
            report: Report::new(file.clone()),
            objects: Vec::new(),
            failed: Vec::new(),
            stand_ins: HashMap::new(),
            lines: HashMap::new(),
            manifests: HashMap::new(),
            complete: true,
        }
    }

    fn finish(self) -> Parsed {
        Parsed {
            objects: self.objects,
            diagnostics: self.report.finish(),
            complete: self.complete,
            failed: self.failed,
            stand_ins: self.stand_ins,
            lines: self.lines,
            manifests: self.manifests,
        }
    }

    /// Nobody can tell which objects were meant.
    fn unreadable(&mut self, message: String) {
        self.report.error(Place::default(), "", message, None);
        self.complete = false;
    }

    fn document(&mut self, document: yaml::Document) {
        let before = self.report.errors();
        for error in document.errors {
            self.report.error(error.place, "", error.message, error.help);
        }
        let broken = self.report.errors() > before;
        match document.root {
            Some(root) if document.cut => match read::key_of(&root) {
                Some(key) if read::list_items(&root).is_none() => {
                    if self.is_first(&root, &key) {
                        self.fail(&root, key);
                    }
                }
                _ => self.complete = false,
            },
            Some(root) => self.node(&root, broken),
            None => self.complete &= !broken,
        }
    }

    fn node(&mut self, node: &yaml::Node, broken: bool) {
        if let Some(items) = read::list_items(node) {
            return items.iter().for_each(|item| self.node(item, broken));
        }
        let outcome = read::object(node, &self.origin, &mut self.report);
        match outcome {
            Outcome::Nothing => {}
            Outcome::Object(object) => {
                let Some(key) = ObjectKey::of(&object) else { return };
                if self.is_first(node, &key) {
                    self.manifests.insert(key.clone(), locate::to_json(node));
                    if broken { self.fail(node, key) } else { self.objects.push(object) }
                }
            }
            Outcome::Refused(Some(key)) => {
                if self.is_first(node, &key) {
                    self.manifests.insert(key.clone(), locate::to_json(node));
                    self.fail(node, key);
                }
            }
            Outcome::Refused(None) => self.complete = false,
        }
    }

    fn fail(&mut self, node: &yaml::Node, key: ObjectKey) {
        if let Some(instead) = read::stand_in(node, &self.origin) {
            self.stand_ins.insert(key.clone(), instead);
        }
        self.failed.push(key);
    }

    /// Reports an object that the file has already.
    fn is_first(&mut self, node: &yaml::Node, key: &ObjectKey) -> bool {
        if let Some(line) = self.lines.get(key) {
            let message = format!("{key} is defined twice: the one on line {line} counts");
            let place = read::name_place(node);
            self.report.error(place, "metadata.name", message, None);
            return false;
        }
        self.lines.insert(key.clone(), node.place.line);
        true
    }
}
