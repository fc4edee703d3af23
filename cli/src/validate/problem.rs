//! Everything there is to say of a set of documents, in one form whoever found it: the reader, the resolver, a lint.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_control_plane::source::Reading;
use tidegate_control_plane::status::Condition;
use tidegate_control_plane::world::{Fold, World};
use tidegate_policy::document::{Diagnostic, Finder, ObjectKey, Severity};
use tidegate_policy::lint::{self, Finding};
use tidegate_policy::model::SourceRef;
use tidegate_policy::resolve::{Controller, resolve_for};

use crate::status::is_complaint;

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// In the order of files and lines.
    pub(super) problems: Vec<Problem>,
    pub(super) files: usize,
    pub(super) objects: usize,
    /// The text of each file.
    pub(super) texts: HashMap<Arc<str>, Arc<str>>,
}

#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) severity: Severity,
    /// The name of a lint, or of what is wrong with an object that is valid by itself; `invalid-document` else.
    pub(super) code: String,
    pub(super) file: Arc<str>,
    /// From 1; 0 where only the file is known.
    pub(super) line: u32,
    /// From 1, in characters.
    pub(super) column: u32,
    /// `spec.limits[0].requests`; empty where it is about no single field.
    pub(super) field: String,
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) related: Vec<Related>,
}

/// Another place that has to do with a problem.
#[derive(Clone, Debug)]
pub(super) struct Related {
    pub(super) file: Arc<str>,
    pub(super) line: u32,
    pub(super) message: String,
}

/// Of what cannot be read, whatever it is.
pub(super) const INVALID: &str = "invalid-document";

/// Finds lines and columns; reads a file once more when there is something to say of it, and no sooner.
struct Places<'a> {
    texts: &'a HashMap<Arc<str>, Arc<str>>,
    finders: HashMap<Arc<str>, Finder>,
}

impl Report {
    pub(super) fn of(reading: &Reading, controller: &Controller) -> Self {
        let text = |file: &tidegate_control_plane::source::FileContent| {
            Some((file.path.clone(), file.body.as_ref().ok()?.text.clone()))
        };
        let texts: HashMap<_, _> = reading.files.iter().filter_map(text).collect();
        let world = Fold::new(controller.clone()).apply(reading).unwrap_or_default();
        let mut places = Places { texts: &texts, finders: HashMap::new() };
        let mut problems: Vec<_> = world.diagnostics.iter().map(Problem::from).collect();
        for (key, conditions) in world.conditions.iter() {
            complain(&world, key, conditions, &mut problems);
        }
        let in_force: Vec<_> =
            world.objects.values().filter_map(|indexed| indexed.object.as_deref()).collect();
        let resolved = resolve_for(controller, in_force.iter().copied());
        let findings = lint::lint(in_force.iter().copied(), &resolved);
        problems.extend(findings.into_iter().filter_map(|finding| places.problem(finding)));
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        Self { problems, files: reading.files.len(), objects: world.objects.len(), texts }
    }

    pub(super) fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    pub(super) fn warnings(&self) -> usize {
        self.problems.len() - self.errors()
    }
}

impl Problem {
    /// Whether it was found by one of these lints.
    pub(super) fn is_of(&self, lints: &[String]) -> bool {
        lints.contains(&self.code)
    }
}

impl From<&Diagnostic> for Problem {
    fn from(found: &Diagnostic) -> Self {
        Self {
            severity: found.severity,
            code: INVALID.to_owned(),
            file: found.file.clone(),
            line: found.line,
            column: found.column,
            field: found.field.clone(),
            message: found.message.clone(),
            help: found.help.clone(),
            related: Vec::new(),
        }
    }
}

/// What looking up an object's names has shown.
fn complain(world: &World, key: &ObjectKey, conditions: &[Condition], problems: &mut Vec<Problem>) {
    let Some(object) = world.objects.get(key) else { return };
    // The same conflict is told by another condition, with the others' names.
    let conflicted = conditions.iter().any(|condition| condition.kind == "Conflicted" && condition.holds());
    for condition in conditions.iter().filter(|condition| is_complaint(condition)) {
        if conflicted && condition.kind == "Accepted" && condition.reason == "Conflicted" {
            continue;
        }
        let (line, message) =
            split(&object.file, &condition.message).unwrap_or((object.line, &condition.message));
        let message = if message.is_empty() { condition.reason.as_str() } else { message };
        problems.push(Problem {
            severity: Severity::Error,
            code: kebab(&condition.reason),
            file: object.file.clone(),
            line,
            column: 0,
            field: String::new(),
            message: format!("{key}: {message}"),
            help: None,
            related: Vec::new(),
        });
    }
}

/// The line that a message begins with, if it is one of this file.
fn split<'m>(file: &str, message: &'m str) -> Option<(u32, &'m str)> {
    let rest = message.strip_prefix(file)?.strip_prefix(':')?;
    let (line, rest) = rest.split_once(": ")?;
    Some((line.parse().ok()?, rest))
}

/// `TargetNotFound` as `target-not-found`.
fn kebab(reason: &str) -> String {
    let mut text = String::new();
    for letter in reason.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('-');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

impl Places<'_> {
    /// `None` for what is in no file.
    fn problem(&mut self, finding: Finding) -> Option<Problem> {
        let (file, line) = place(&finding.source)?;
        let spot = self.finder(&file).and_then(|finder| finder.find(&finding.object, &finding.pointer));
        let (line, column, field) = match spot {
            Some(spot) => (spot.line, spot.column, spot.field),
            None => (line, 0, String::new()),
        };
        let related = finding.related.into_iter().filter_map(|(source, message)| {
            let (file, line) = place(&source)?;
            Some(Related { file, line, message })
        });
        Some(Problem {
            severity: Severity::Warning,
            code: finding.lint.to_owned(),
            file,
            line,
            column,
            field,
            message: finding.message,
            help: finding.help,
            related: related.collect(),
        })
    }

    fn finder(&mut self, file: &Arc<str>) -> Option<&Finder> {
        if !self.finders.contains_key(file) {
            let finder = Finder::new(self.texts.get(file)?);
            self.finders.insert(file.clone(), finder);
        }
        self.finders.get(file)
    }
}

fn place(source: &SourceRef) -> Option<(Arc<str>, u32)> {
    match source {
        SourceRef::File { path, line } => Some((path.clone(), *line)),
        SourceRef::Object { .. } => None,
    }
}
