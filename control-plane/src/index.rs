//! The fold at the heart of the control plane: readings of files in, the set of objects in force out.
//!
//! Pure: no clock, no I/O. What it promises: an object is in force in its last valid version for as long as someone
//! still claims it, whatever is wrong with that claim or with its neighbours.

mod claims;
mod file_state;
#[cfg(test)]
mod law_tests;
mod manifest;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::Value as Json;
use tidegate_policy::document::{self, Diagnostic, ObjectKey, Parsed, Severity};
use tidegate_policy::objects::Object;

use crate::source::{FileContent, FileText, Form, Reading};
use claims::{Claim, Claims, Held, What};
use file_state::{FileState, fault, warning};

/// Everything that was ever good and is still claimed.
#[derive(Debug, Default)]
pub struct Index {
    files: BTreeMap<Arc<str>, FileState>,
    /// Files whose state is another one than in the round before.
    touched: BTreeSet<Arc<str>>,
    claims: Claims,
    /// What several files claim.
    disputed: BTreeSet<Arc<ObjectKey>>,
    objects: Arc<Objects>,
    replaced: Vec<Replaced>,
    diagnostics: Vec<Diagnostic>,
    /// The root could not be listed and has not shown a file since.
    away: bool,
    /// Files and folders that the first reading did not show whole, and none has since: what they held when another
    /// control plane read them is not known. `None` before the first reading.
    never_whole: Option<BTreeSet<Arc<str>>>,
    /// Every file is asked again in each round: the long way, to compare with.
    #[cfg(test)]
    asks_all: bool,
}

/// Every object that is claimed. A copy shares all of them.
pub type Objects = BTreeMap<Arc<ObjectKey>, Arc<Indexed>>;

/// An object that is in force in another version than before, or not any more: the version before.
pub type Replaced = (Arc<ObjectKey>, Option<Arc<Object>>);

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
    pub fn objects(&self) -> &Arc<Objects> {
        &self.objects
    }

    /// What the last reading changed of what is in force.
    pub fn replaced(&self) -> &[Replaced] {
        &self.replaced
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

    /// Takes the whole of what is there now. Only changed files are parsed, and only what they say or said is settled
    /// anew.
    pub fn update(&mut self, reading: &Reading) -> Change {
        let mut diagnostics = self.read_files(reading);
        let unsettled =
            self.files.iter().filter(|(_, file)| !file.is_settled()).map(|(path, _)| path.clone());
        let mut asked: BTreeSet<_> = unsettled.collect();
        asked.append(&mut self.touched);
        #[cfg(test)]
        if self.asks_all {
            asked.extend(self.files.keys().cloned());
        }
        let keys = self.claim_anew(&asked);
        let view = self.settle(keys);
        let objects = !self.replaced.is_empty();
        for (path, file) in &self.files {
            diagnostics.extend(file.diagnostics(path));
        }
        for key in &self.disputed {
            let Some((first, others)) = self.claims.of(key).split_first() else { continue };
            diagnostics.extend(others.iter().map(|other| duplicate(key, first, other)));
        }
        diagnostics.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        diagnostics.dedup();
        let change = Change { objects, view: view || diagnostics != self.diagnostics };
        self.diagnostics = diagnostics;
        change
    }

    /// Has these files say again what they claim, and returns whatever they claim now or did before.
    fn claim_anew(&mut self, asked: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<ObjectKey>> {
        let held: Vec<Held> = asked.iter().map(|path| self.held(path)).collect();
        let mut keys = BTreeSet::new();
        for path in asked {
            keys.extend(self.claims.take_back(path));
        }
        let mut renamed = Vec::new();
        for (path, before) in asked.iter().zip(&held) {
            match self.files.get(path) {
                Some(FileState::Read { words, .. }) => self.claims.read(path, words, before),
                Some(FileState::Renamed(_)) => renamed.push((path, before)),
                Some(_) => self.claims.unread(path, before),
                None => {}
            }
        }
        for (path, before) in renamed {
            self.claims.left_behind(path, before);
        }
        for path in asked {
            keys.extend(self.claims.of_file(path).iter().cloned());
        }
        keys
    }

    /// The objects for which a file's word counted in the last round.
    fn held(&self, path: &Arc<str>) -> Held {
        let claimed = self.claims.of_file(path).iter();
        let held = claimed.filter_map(|key| Some((key.clone(), self.objects.get(key)?.clone())));
        held.filter(|(_, indexed)| indexed.file == *path).collect()
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
        let (away, touched) = (self.away, &mut self.touched);
        self.files.retain(|path, file| {
            let out_of_sight = away || reading.unknown.iter().any(|folder| is_within(path, &folder.path));
            let present = present.contains(&**path);
            if !present && out_of_sight {
                touched.insert(path.clone());
                *file = FileState::OutOfSight;
            } else if !present && !matches!(file, FileState::Renamed(_)) {
                touched.insert(path.clone());
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
            self.touched.insert(path);
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
        let before = self.files.get(&content.path);
        let state = match (&content.body, before) {
            (Err(fault), _) => FileState::Fault(fault.clone()),
            (Ok(text), Some(before)) if before.is_text(&text.hash) => return,
            (Ok(text), Some(_)) if text.is_blank() && self.holds(&content.path) => {
                FileState::Emptied { hash: text.hash }
            }
            (Ok(text), _) => FileState::Read {
                hash: text.hash,
                words: parse(&content.path, text).into(),
                blank: text.is_blank(),
            },
        };
        self.touched.insert(content.path.clone());
        self.files.insert(content.path.clone(), state);
    }

    fn holds(&self, path: &Arc<str>) -> bool {
        self.held(path).iter().any(|(_, indexed)| indexed.object.is_some())
    }

    /// Says of each of these objects what holds; whether that is anything else than before.
    fn settle(&mut self, keys: BTreeSet<Arc<ObjectKey>>) -> bool {
        self.replaced.clear();
        let mut settled = Vec::new();
        for key in keys {
            let claims = self.claims.of(&key);
            match claims.len() {
                0 | 1 => self.disputed.remove(&key),
                _ => self.disputed.insert(key.clone()),
            };
            let (now, before) = (self.settled(&key), self.objects.get(&key));
            if now.as_ref() != before.map(|before| &**before) {
                settled.push((key, now));
            }
        }
        let is_new = !settled.is_empty();
        if is_new {
            let objects = Arc::make_mut(&mut self.objects);
            for (key, now) in settled {
                let in_force = now.as_ref().and_then(|now| now.object.clone());
                let before = match now {
                    Some(now) => objects.insert(key.clone(), Arc::new(now)),
                    None => objects.remove(&key),
                };
                let before = before.and_then(|before| before.object.clone());
                // An unchanged object keeps its allocation.
                if before.as_ref().map(Arc::as_ptr) != in_force.as_ref().map(Arc::as_ptr) {
                    self.replaced.push((key, before));
                }
            }
        }
        is_new
    }

    /// Of several claims to one name the first by file and line counts.
    fn settled(&self, key: &ObjectKey) -> Option<Indexed> {
        let (first, others) = self.claims.of(key).split_first()?;
        let before = || self.objects.get(key).and_then(|indexed| indexed.object.clone());
        let spare = || others.iter().find_map(|claim| claim.what.valid());
        let (object, current) = match &first.what {
            What::Valid(object) => (Some(object.clone()), true),
            What::Kept(object) => (object.clone().or_else(spare), false),
            What::Failed(instead) => {
                let good = before().filter(|object| !stands_in(object)).or_else(spare);
                (good.or_else(|| instead.clone()), false)
            }
        };
        let object = self.unchanged(key, object);
        let (manifest, generation) = manifest::of(key, &first.file, self);
        let (file, line) = (first.file.clone(), first.line);
        Some(Indexed { file, line, object, current, manifest, generation })
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
