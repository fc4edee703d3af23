//! The fold at the heart of the control plane: readings of files in, the set of objects in force out.
//!
//! Pure: no clock, no I/O. What it promises: an object is in force in its last valid version for as long as someone
//! still claims it, whatever is wrong with that claim or with its neighbours.

mod claims;
mod file_state;
mod manifest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::Value as Json;
use tidegate_policy::document::{self, Diagnostic, ObjectKey, Parsed, Severity};
use tidegate_policy::objects::Object;

use crate::source::{FileContent, FileText, Form, Reading};
use claims::{Claim, Claims, What};
use file_state::{FileState, fault, warning};

/// Everything that was ever good and is still claimed.
#[derive(Debug, Default)]
pub struct Index {
    files: BTreeMap<Arc<str>, FileState>,
    objects: BTreeMap<ObjectKey, Indexed>,
    diagnostics: Vec<Diagnostic>,
    /// The root could not be listed and has not shown a file since.
    away: bool,
    /// Files and folders that the first reading did not show whole, and none has since: what they held when another
    /// control plane read them is not known. `None` before the first reading.
    never_whole: Option<BTreeSet<Arc<str>>>,
}

/// One object that some file claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Indexed {
    /// The claim that counts.
    pub file: Arc<str>,
    pub line: u32,
    /// Its last valid version; `None` if there never was one.
    pub object: Option<Arc<Object>>,
    /// Whether that is what is written now. If not, the last valid version stays in force.
    pub current: bool,
    /// As it is written now, or was when it could last be read.
    pub manifest: Option<Arc<Json>>,
    /// `metadata.generation` as written, else how many versions were seen since the start.
    pub generation: i64,
}

/// What a reading changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The objects in force.
    pub objects: bool,
    /// Who claims what, or what is wrong with it.
    pub view: bool,
}

impl Index {
    /// Every object that is claimed, in force or not.
    pub fn objects(&self) -> &BTreeMap<ObjectKey, Indexed> {
        &self.objects
    }

    /// The objects in force.
    pub fn in_force(&self) -> impl Iterator<Item = &Arc<Object>> + Clone {
        self.objects.values().filter_map(|indexed| indexed.object.as_ref())
    }

    /// Everything wrong with the files as they are now, by file and line.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Whether there may be objects that were in force under another control plane and never were under this one.
    pub fn is_incomplete(&self) -> bool {
        self.never_whole.as_ref().is_some_and(|unknown| !unknown.is_empty())
    }

    /// Takes the whole of what is there now. Only changed files are parsed.
    pub fn update(&mut self, reading: &Reading) -> Change {
        let mut diagnostics = self.read_files(reading);
        let mut held = BTreeMap::<&Arc<str>, Vec<(&ObjectKey, &Indexed)>>::new();
        for (key, indexed) in &self.objects {
            held.entry(&indexed.file).or_default().push((key, indexed));
        }
        let mut claims = Claims::default();
        for (path, file) in &self.files {
            let before = held.get(path).map(Vec::as_slice).unwrap_or_default();
            match file {
                FileState::Read { words, .. } => claims.read(path, words, before),
                FileState::Renamed(_) => {}
                _ => claims.unread(path, before),
            }
            diagnostics.extend(file.diagnostics(path));
        }
        for path in
            self.files.iter().filter(|(_, file)| matches!(file, FileState::Renamed(_))).map(|(p, _)| p)
        {
            claims.left_behind(path, held.get(path).map(Vec::as_slice).unwrap_or_default());
        }
        let objects = self.settle(claims, &mut diagnostics);
        diagnostics.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        diagnostics.dedup();

        let change = Change {
            objects: !same_in_force(&objects, &self.objects),
            view: objects != self.objects || diagnostics != self.diagnostics,
        };
        self.objects = objects;
        self.diagnostics = diagnostics;
        change
    }

    /// Brings `files` up to the reading; returns what is wrong with the folders.
    fn read_files(&mut self, reading: &Reading) -> Vec<Diagnostic> {
        let mut diagnostics: Vec<_> = reading.unknown.iter().map(|f| fault(&f.path, &f.reason)).collect();
        self.away = !reading.root_listed || (self.away && reading.files.is_empty());
        if self.away && reading.root_listed && !self.files.is_empty() {
            let message =
                "the directory came back empty; what was there stays in force until it holds a file";
            diagnostics.push(warning("", message));
        }
        let gone = self.forget_absent(reading);
        let known = |path: &Arc<str>| self.files.contains_key(path);
        let new: Vec<_> = reading.files.iter().map(|f| f.path.clone()).filter(|path| !known(path)).collect();
        for content in &reading.files {
            self.read_file(content);
        }
        self.follow_renames(gone, new);
        self.note_whole(reading);
        diagnostics
    }

    /// Forgets the files that are not there any more; returns their paths.
    fn forget_absent(&mut self, reading: &Reading) -> Vec<Arc<str>> {
        let present: HashSet<&str> = reading.files.iter().map(|f| &*f.path).collect();
        let mut gone = Vec::new();
        let away = self.away;
        self.files.retain(|path, file| {
            let out_of_sight = away || reading.unknown.iter().any(|folder| is_within(path, &folder.path));
            let present = present.contains(&**path);
            if !present && out_of_sight {
                *file = FileState::OutOfSight;
            } else if !present && !matches!(file, FileState::Renamed(_)) {
                gone.push(path.clone());
            }
            present || out_of_sight || matches!(file, FileState::Renamed(_))
        });
        gone
    }

    /// What is gone stays for as long as a file that came at the same time cannot be read to its end.
    fn follow_renames(&mut self, gone: Vec<Arc<str>>, new: Vec<Arc<str>>) {
        let hides = |path: &Arc<str>| self.files.get(path).is_some_and(FileState::hides);
        let unread: Vec<_> = new.into_iter().filter(hides).collect();
        let over = |file: &FileState| matches!(file, FileState::Renamed(to) if !to.iter().any(hides));
        let over: Vec<_> = self.files.iter().filter(|(_, f)| over(f)).map(|(path, _)| path.clone()).collect();
        for path in over {
            self.files.remove(&path);
        }
        for path in gone.into_iter().filter(|_| !unread.is_empty()) {
            self.files.insert(path, FileState::Renamed(unread.clone()));
        }
    }

    /// Keeps account of what was never seen whole, see [`Index::is_incomplete`].
    fn note_whole(&mut self, reading: &Reading) {
        let unknown = reading.unknown.iter().map(|folder| &folder.path);
        let broken = self.files.iter().filter(|(_, file)| !file.is_whole()).map(|(path, _)| path);
        let broken: BTreeSet<_> = unknown.chain(broken).cloned().collect();
        self.never_whole = Some(match self.never_whole.take() {
            Some(before) => before.intersection(&broken).cloned().collect(),
            None => broken,
        });
    }

    fn read_file(&mut self, content: &FileContent) {
        let before = self.files.remove(&content.path);
        let state = match (&content.body, before) {
            (Err(fault), _) => FileState::Fault(fault.clone()),
            (Ok(text), Some(before)) if before.is_text(&text.hash) => before,
            (Ok(text), Some(_)) if text.is_blank() && self.holds(&content.path) => {
                FileState::Emptied { hash: text.hash }
            }
            (Ok(text), _) => FileState::Read {
                hash: text.hash,
                words: parse(&content.path, text).into(),
                blank: text.is_blank(),
            },
        };
        self.files.insert(content.path.clone(), state);
    }

    fn holds(&self, path: &Arc<str>) -> bool {
        self.objects.values().any(|indexed| indexed.file == *path && indexed.object.is_some())
    }

    /// Of several claims to one name the first by file and line counts; the others are told so.
    fn settle(&self, claims: Claims, diagnostics: &mut Vec<Diagnostic>) -> BTreeMap<ObjectKey, Indexed> {
        let mut objects = BTreeMap::new();
        for (key, claimed) in claims.into_inner() {
            let Some((first, others)) = claimed.split_first() else { continue };
            for other in others {
                diagnostics.push(duplicate(&key, first, other));
            }
            let before = || self.objects.get(&key).and_then(|indexed| indexed.object.clone());
            let spare = || others.iter().find_map(|claim| claim.what.valid());
            let (object, current) = match &first.what {
                What::Valid(object) => (Some(object.clone()), true),
                What::Kept(object) => (object.clone().or_else(spare), false),
                What::Failed(instead) => {
                    let good = before().filter(|object| !stands_in(object)).or_else(spare);
                    (good.or_else(|| instead.clone()), false)
                }
            };
            let object = self.unchanged(&key, object);
            let (manifest, generation) = manifest::of(&key, &first.file, self);
            let (file, line) = (first.file.clone(), first.line);
            objects.insert(key, Indexed { file, line, object, current, manifest, generation });
        }
        objects
    }

    /// The same value keeps its allocation, which makes comparing whole sets cheap.
    fn unchanged(&self, key: &ObjectKey, object: Option<Arc<Object>>) -> Option<Arc<Object>> {
        let before = self.objects.get(key).and_then(|indexed| indexed.object.as_ref());
        match (before, object) {
            (Some(before), Some(object)) if Arc::ptr_eq(before, &object) || *before == object => {
                Some(before.clone())
            }
            (_, object) => object,
        }
    }
}

/// Whether it is no version of what was written, but what holds as long as there is none.
pub(crate) fn stands_in(object: &Object) -> bool {
    matches!(object, Object::Policy(policy) if policy.stands_in())
}

/// By identity: an unchanged object keeps its allocation.
fn same_in_force(a: &BTreeMap<ObjectKey, Indexed>, b: &BTreeMap<ObjectKey, Indexed>) -> bool {
    let in_force = |objects: &BTreeMap<ObjectKey, Indexed>| -> Vec<*const Object> {
        objects.values().filter_map(|indexed| indexed.object.as_ref()).map(Arc::as_ptr).collect()
    };
    in_force(a) == in_force(b)
}

fn parse(path: &Arc<str>, text: &FileText) -> Parsed {
    match text.form {
        Form::Documents => document::parse(path, &text.text),
        Form::Object => document::parse_object(path, &text.text),
    }
}

fn is_within(path: &str, folder: &str) -> bool {
    let folder = folder.trim_end_matches('/');
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn duplicate(key: &ObjectKey, first: &Claim, other: &Claim) -> Diagnostic {
    let message = format!("{key} is already written at {}:{}; that one counts", first.file, first.line);
    Diagnostic {
        severity: Severity::Error,
        file: other.file.clone(),
        line: other.line,
        column: 1,
        field: String::from("metadata.name"),
        message,
        help: Some(String::from("give it another name or remove one of the two")),
    }
}
