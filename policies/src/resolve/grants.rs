//! ReferenceGrants: whether one namespace's object may refer to another's.

use std::collections::BTreeMap;

use crate::model::ResourceName;
use crate::objects::ReferenceGrant;

/// By the namespace that grants.
#[derive(Debug, Default)]
pub(super) struct Grants<'a>(BTreeMap<&'a str, Vec<&'a ReferenceGrant>>);

/// Who refers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referrer<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

impl<'a> Grants<'a> {
    pub(super) fn insert(&mut self, grant: &'a ReferenceGrant) {
        self.0.entry(&grant.meta.name.namespace).or_default().push(grant);
    }

    /// Within a namespace nothing needs a grant.
    pub(super) fn permit(
        &self,
        from: Referrer<'_>,
        (group, kind): (&str, &str),
        name: &ResourceName,
    ) -> bool {
        let is_from = |grant: &ReferenceGrant| {
            let mut from_any = grant.spec.from.iter();
            from_any.any(|f| f.group == from.group && f.kind == from.kind && f.namespace == from.namespace)
        };
        let is_to = |grant: &ReferenceGrant| {
            let named =
                |wanted: &Option<String>| wanted.as_deref().is_none_or(|wanted| *wanted == *name.name);
            grant.spec.to.iter().any(|t| t.group == group && t.kind == kind && named(&t.name))
        };
        *name.namespace == *from.namespace
            || self.0.get(&*name.namespace).is_some_and(|all| all.iter().any(|g| is_from(g) && is_to(g)))
    }
}
