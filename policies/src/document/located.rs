use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::diagnostic::{Diagnostic, Report, Severity};
use super::locate::{lines, to_json};
use super::schema::{Checker, generate};
use super::yaml::{self, Node, Place, Value};
use super::{File, Parsed};
use crate::model::SourceMap;

/// A document of a kind that is no object of a cluster, read as strictly as one, with the lines of its parts. Objects
/// may be written inside of it.
#[derive(Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    /// By JSON pointer from the root.
    pub(crate) lines: SourceMap,
    root: Arc<Node>,
}

impl<T: JsonSchema + DeserializeOwned> Located<T> {
    /// # Errors
    /// Everything that is wrong, with its place.
    pub(crate) fn read(file: &Arc<str>, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut report = Report::new(file.clone());
        let stream = yaml::read(text);
        let errors = stream.documents.iter().flat_map(|document| &document.errors);
        for error in stream.syntax_errors.iter().chain(errors) {
            report.error(error.place, "", error.message.clone(), error.help.clone());
        }
        let roots: Vec<_> = stream.documents.into_iter().filter_map(|document| document.root).collect();
        let [root] = &roots[..] else {
            report.error(Place { line: 1, column: 1 }, "", "expected one document", None);
            return Err(report.finish());
        };
        Checker::new(generate::<T>()).check(root, "", &mut report);
        if report.errors() > 0 {
            return Err(report.finish());
        }
        match serde_json::from_value(to_json(root)) {
            Ok(value) => Ok(Self { value, lines: lines(root), root: root.clone() }),
            Err(error) => {
                report.error(root.place, "", error.to_string(), None);
                Err(report.finish())
            }
        }
    }

    /// A fault that the schema does not see.
    pub(crate) fn fault(&self, file: &Arc<str>, pointer: &str, message: String) -> Diagnostic {
        let line = self.lines.line(pointer).unwrap_or(1);
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let (severity, column, help, file) = (Severity::Error, 1, None, file.clone());
        Diagnostic { severity, file, line, column, field, message, help }
    }

    /// The objects in the list at `pointer`, each at its own line of `file`.
    pub(crate) fn objects(&self, file: &Arc<str>, pointer: &str) -> Parsed {
        let mut found = File::new(file);
        let list = pointer.split('/').skip(1).try_fold(&self.root, |node, name| match &node.value {
            Value::Sequence(items) => items.get(name.parse::<usize>().ok()?),
            _ => node.get(name),
        });
        if let Some(Value::Sequence(items)) = list.map(|node| &node.value) {
            items.iter().for_each(|item| found.node(item, false));
        }
        found.finish()
    }
}
