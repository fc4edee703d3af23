use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::lost::Lost;
use super::yaml::Place;

/// More than this many findings in one file help nobody; the rest are counted.
const MAX_FINDINGS: usize = 500;

/// One thing wrong with a document, where, and what would put it right.
/// Prints as `file:line:column: error: field: message (help)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The file as shown to people; for an object from a cluster its kind and name.
    pub file: Arc<str>,
    /// From 1; 0 for an object from a cluster.
    pub line: u32,
    /// From 1, in characters; 0 for an object from a cluster.
    pub column: u32,
    /// `spec.limits[0].requests`; empty where the fault is not one field's.
    pub field: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Warning,
    /// The object was refused.
    Error,
}

/// Collects what is found in one file.
#[derive(Debug)]
pub(crate) struct Report {
    file: Arc<str>,
    diagnostics: Vec<Diagnostic>,
    errors: usize,
    left_out: usize,
    /// How many findings there were before the object at hand.
    object: usize,
    /// What of it cannot be read.
    lost: Vec<Lost>,
}

impl Diagnostic {
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Report {
    pub(crate) fn new(file: Arc<str>) -> Self {
        Self { file, diagnostics: Vec::new(), errors: 0, left_out: 0, object: 0, lost: Vec::new() }
    }

    /// An empty report on the same file.
    pub(crate) fn sibling(&self) -> Self {
        Self::new(self.file.clone())
    }

    pub(crate) fn error(
        &mut self,
        place: Place,
        field: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.errors += 1;
        self.push(Severity::Error, place, field, message.into(), help);
    }

    pub(crate) fn warn(
        &mut self,
        place: Place,
        field: &str,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.push(Severity::Warning, place, field, message.into(), help);
    }

    /// Starts on the next object; returns how many errors there are already.
    pub(crate) fn begin_object(&mut self) -> usize {
        self.object = self.diagnostics.len();
        self.lost.clear();
        self.errors
    }

    /// Whether the object at hand has an error at `field` or below.
    pub(crate) fn has_error_within(&self, field: &str) -> bool {
        let below = |d: &&Diagnostic| {
            let rest = d.field.strip_prefix(field);
            d.is_error()
                && rest.is_some_and(|r| field.is_empty() || r.is_empty() || r.starts_with(['.', '[']))
        };
        self.diagnostics[self.object..].iter().any(|d| below(&d))
    }

    /// How many errors so far; objects with a new one are refused.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn append(&mut self, other: Self) {
        self.errors += other.errors;
        self.left_out += other.left_out;
        self.lost.extend(other.lost);
        self.diagnostics.extend(other.diagnostics);
    }

    pub(super) fn lose(&mut self, lost: Lost) {
        self.lost.push(lost);
    }

    /// What could not be read since it was last asked.
    pub(super) fn take_lost(&mut self) -> Vec<Lost> {
        std::mem::take(&mut self.lost)
    }

    /// Everything found, in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|d| (d.line, d.column));
        if self.left_out > 0
            && let Some(mut last) = self.diagnostics.last().cloned()
        {
            last.severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
            (last.field, last.help) = (String::new(), None);
            last.message = format!("{} further problems are not listed", self.left_out);
            self.diagnostics.push(last);
        }
        self.diagnostics
    }

    fn push(&mut self, severity: Severity, place: Place, field: &str, message: String, help: Option<String>) {
        if self.diagnostics.len() >= MAX_FINDINGS {
            self.left_out += 1;
            return;
        }
        self.diagnostics.push(Diagnostic {
            severity,
            file: self.file.clone(),
            line: place.line,
            column: place.column,
            field: field.to_owned(),
            message,
            help,
        });
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}: ", self.severity)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}
