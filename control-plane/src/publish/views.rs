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
    /// Of the whole before: what is the same shares its memory, until it is cut anew.
    before: Mutex<BTreeMap<Scope, Arc<ResourceSet>>>,
}

impl Views {
    /// Of the whole that comes after that of `before`.
    pub(super) fn after(before: &Self) -> Arc<Self> {
        let mut known = before.before.lock().clone();
        known.extend(before.cut.lock().iter().map(|(scope, set)| (scope.clone(), set.clone())));
        Arc::new(Self { cut: Mutex::default(), before: Mutex::new(known) })
    }

    pub(super) fn of(&self, scope: &Scope, cut: impl FnOnce() -> ResourceSet) -> Arc<ResourceSet> {
        if let Some(known) = self.cut.lock().get(scope) {
            return known.clone();
        }
        let mut set = cut();
        let before = self.before.lock().remove(scope);
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
