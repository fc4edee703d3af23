//! Who says what about which object, before it is settled whose word counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;
use tidegate_policy::document::{Diagnostic, ObjectKey, Parsed};
use tidegate_policy::objects::Object;

use super::Indexed;

/// One file's word on one object.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) file: Arc<str>,
    /// Of the document; 0 if it is not known.
    pub(super) line: u32,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Valid(Arc<Object>),
    /// It is written here, but not validly; with what holds as long as it never was.
    Failed(Option<Arc<Object>>),
    /// It was here and may still be: the file, or part of it, cannot be read.
    Kept(Option<Arc<Object>>),
}

/// What a text says, in shareable form.
#[derive(Debug)]
pub(super) struct Words {
    valid: Vec<(Arc<ObjectKey>, u32, Arc<Object>)>,
    failed: Vec<(Arc<ObjectKey>, u32, Option<Arc<Object>>)>,
    /// Nothing unreadable hides further objects.
    pub(super) complete: bool,
    pub(super) manifests: HashMap<ObjectKey, Arc<Json>>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Claims by object, in the order of the files' paths; a file claims an object once.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_object: BTreeMap<Arc<ObjectKey>, Vec<Claim>>,
    by_file: HashMap<Arc<str>, Vec<Arc<ObjectKey>>>,
}

/// What a file held in the last round.
pub(super) type Held = Vec<(Arc<ObjectKey>, Arc<Indexed>)>;

impl From<Parsed> for Words {
    fn from(parsed: Parsed) -> Self {
        let Parsed { objects, diagnostics, complete, failed, mut stand_ins, lines, manifests } = parsed;
        let line = |key: &ObjectKey| lines.get(key).copied().unwrap_or_default();
        let valid = objects.into_iter().filter_map(|object| {
            let key = ObjectKey::of(&object)?;
            let line = line(&key);
            Some((Arc::new(key), line, Arc::new(object)))
        });
        let valid = valid.collect();
        let failed = failed.into_iter().map(|key| {
            let instead = stand_ins.remove(&key).map(Arc::new);
            let line = line(&key);
            (Arc::new(key), line, instead)
        });
        let failed = failed.collect();
        let manifests = manifests.into_iter().map(|(key, manifest)| (key, Arc::new(manifest))).collect();
        Self { valid, failed, complete, manifests, diagnostics }
    }
}

impl Words {
    pub(super) fn is_whole(&self) -> bool {
        self.complete && self.failed.is_empty()
    }
}

impl Claims {
    /// Of one object.
    pub(super) fn of(&self, key: &ObjectKey) -> &[Claim] {
        self.by_object.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// What a file claims.
    pub(super) fn of_file(&self, file: &str) -> &[Arc<ObjectKey>] {
        self.by_file.get(file).map(Vec::as_slice).unwrap_or_default()
    }

    /// Takes back all that a file has claimed; what that was.
    pub(super) fn take_back(&mut self, file: &str) -> Vec<Arc<ObjectKey>> {
        let keys = self.by_file.remove(file).unwrap_or_default();
        for key in &keys {
            let Some(claims) = self.by_object.get_mut(key) else { continue };
            claims.retain(|claim| *claim.file != *file);
            if claims.is_empty() {
                self.by_object.remove(key);
            }
        }
        keys
    }

    /// What a file says that was read. `before` is what it held in the last round.
    pub(super) fn read(&mut self, file: &Arc<str>, words: &Words, before: &Held) {
        for (key, line, object) in &words.valid {
            self.add(file, key, *line, What::Valid(object.clone()));
        }
        for (key, line, instead) in &words.failed {
            self.add(file, key, *line, What::Failed(instead.clone()));
        }
        // A mistake in `kind` or `namespace` gives a refused object another identity than the one it was written for.
        let failed: BTreeSet<&str> = words.failed.iter().map(|(key, ..)| key.name.as_str()).collect();
        let hidden = before.iter().filter(|(key, _)| !words.complete || failed.contains(key.name.as_str()));
        for (key, held) in hidden {
            self.keep(file, key, held);
        }
    }

    /// What a file is believed to say that cannot be read now.
    pub(super) fn unread(&mut self, file: &Arc<str>, before: &Held) {
        for (key, held) in before {
            self.keep(file, key, held);
        }
    }

    /// What a file held that is gone, as far as nobody else speaks of it.
    pub(super) fn left_behind(&mut self, file: &Arc<str>, before: &Held) {
        for (key, held) in before {
            if !self.by_object.contains_key(key) {
                self.keep(file, key, held);
            }
        }
    }

    fn keep(&mut self, file: &Arc<str>, key: &Arc<ObjectKey>, held: &Indexed) {
        self.add(file, key, held.line, What::Kept(held.object.clone()));
    }

    fn add(&mut self, file: &Arc<str>, key: &Arc<ObjectKey>, line: u32, what: What) {
        let claims = self.by_object.entry(key.clone()).or_default();
        let at = claims.partition_point(|claim| claim.file < *file);
        if claims.get(at).is_none_or(|next| next.file != *file) {
            claims.insert(at, Claim { file: file.clone(), line, what });
            self.by_file.entry(file.clone()).or_default().push(key.clone());
        }
    }
}

impl What {
    pub(super) fn valid(&self) -> Option<Arc<Object>> {
        match self {
            Self::Valid(object) => Some(object.clone()),
            Self::Failed(_) | Self::Kept(_) => None,
        }
    }
}
