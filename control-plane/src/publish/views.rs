//! What was cut out of the whole for each scope, kept for as long as the whole is the newest: nodes of one scope share it,
//! and so do those who push and those who count.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidegate_xds::ResourceSet;

use super::Scope;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Views {
    cut: Mutex<BTreeMap<Scope, Arc<ResourceSet>>>,
    /// Of wholes before: what is the same shares its memory, until it is cut anew.
    before: Mutex<BTreeMap<Scope, Before>>,
}

#[derive(Clone, Debug)]
struct Before {
    set: Arc<ResourceSet>,
    /// It is of the whole right before this one.
    is_last: bool,
}

impl Views {
    /// Of the whole that comes after that of `before`.
    pub(super) fn after(before: &Self) -> Arc<Self> {
        let mut known = before.before.lock().clone();
        known.values_mut().for_each(|before| before.is_last = false);
        let last = |set: &Arc<ResourceSet>| Before { set: set.clone(), is_last: true };
        known.extend(before.cut.lock().iter().map(|(scope, set)| (scope.clone(), last(set))));
        Arc::new(Self { cut: Mutex::default(), before: Mutex::new(known) })
    }

    /// `holds`: whether what was cut out of the whole right before is what would be cut now.
    pub(super) fn of(
        &self,
        scope: &Scope,
        holds: impl FnOnce(&ResourceSet) -> bool,
        cut: impl FnOnce() -> ResourceSet,
    ) -> Arc<ResourceSet> {
        if let Some(known) = self.cut.lock().get(scope) {
            return known.clone();
        }
        let before = self.before.lock().remove(scope);
        if let Some(before) = before.as_ref().filter(|before| before.is_last && holds(&before.set)) {
            return self.cut.lock().entry(scope.clone()).or_insert(before.set.clone()).clone();
        }
        let before = before.map(|before| before.set);
        let mut set = cut();
        if let Some(before) = &before {
            set.share(before);
        }
        let set = before.filter(|before| **before == set).unwrap_or_else(|| Arc::new(set));
        self.cut.lock().entry(scope.clone()).or_insert(set).clone()
    }

    pub(super) fn forget(&self, scope: &Scope) {
        self.cut.lock().remove(scope);
        self.before.lock().remove(scope);
    }
}
