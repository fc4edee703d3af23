//! From which namespaces a Gateway or a listener takes what wants to attach.

use std::sync::Arc;

use super::objects::Objects;
use crate::objects::{FromNamespaces, LabelSelector};

/// The label that every Namespace has, whether there is an object for it or not.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    pub(super) from: FromNamespaces,
    pub(super) selector: Option<&'a LabelSelector>,
    /// The namespace that `Same` means.
    pub(super) own: &'a Arc<str>,
}

pub(super) fn allows(objects: &Objects<'_>, choice: Choice<'_>, namespace: &Arc<str>) -> bool {
    match choice.from {
        FromNamespaces::All => true,
        FromNamespaces::Same => namespace == choice.own,
        FromNamespaces::None => false,
        FromNamespaces::Selector => {
            let object = objects.namespaces.get(&**namespace);
            let mut labels = object.map(|object| object.labels.clone()).unwrap_or_default();
            labels.insert(NAMESPACE_NAME.to_owned(), namespace.to_string());
            choice.selector.is_some_and(|selector| selector.matches(&labels))
        }
    }
}
