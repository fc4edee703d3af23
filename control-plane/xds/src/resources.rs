//! What one node is to have: an immutable set of versioned resources, cheap to share between streams.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use prost_types::Any;

use crate::wire::MAX_MESSAGE_BYTES;

/// A resource's name, unique within its type.
pub type Name = Arc<str>;

/// An opaque version: two resources of one name and one version are the same.
pub type Version = Arc<str>;

/// Room that a message needs beside its one resource: names, versions, nonce.
const ENVELOPE_BYTES: usize = 64 << 10;

pub(crate) type TypeMap = BTreeMap<Name, Arc<Versioned>>;

static NOTHING: LazyLock<Arc<TypeMap>> = LazyLock::new(Arc::default);

/// A resource's content, encoded once for every stream that carries it.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned {
    pub version: Version,
    pub body: Any,
}

/// Resources by type URL and name. Cloning shares them; a change of one type leaves the others shared.
#[derive(Clone, Debug, Default)]
pub struct ResourceSet {
    types: BTreeMap<&'static str, Arc<TypeMap>>,
    incomplete: bool,
}

/// The resource would never fit in a message, so it cannot be part of a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{type_url} {name:?} is {bytes} bytes; at most {} can be sent", MAX_MESSAGE_BYTES - ENVELOPE_BYTES)]
pub struct TooLarge {
    pub type_url: &'static str,
    pub name: Name,
    pub bytes: usize,
}

impl Versioned {
    /// `value` is the encoded message of type `type_url`.
    pub fn new(type_url: &str, version: impl Into<Version>, value: Vec<u8>) -> Self {
        Self { version: version.into(), body: Any { type_url: type_url.to_owned(), value } }
    }
}

impl ResourceSet {
    /// Adds or replaces a resource.
    ///
    /// # Errors
    /// When the resource cannot fit in one message; the set is then unchanged.
    pub fn insert(
        &mut self,
        type_url: &'static str,
        name: impl Into<Name>,
        resource: impl Into<Arc<Versioned>>,
    ) -> Result<(), TooLarge> {
        let (name, resource) = (name.into(), resource.into());
        let bytes = resource.body.value.len() + name.len() + resource.version.len();
        if bytes > MAX_MESSAGE_BYTES - ENVELOPE_BYTES {
            return Err(TooLarge { type_url, name, bytes });
        }
        Arc::make_mut(self.types.entry(type_url).or_default()).insert(name, resource);
        Ok(())
    }

    /// The set's own memory for a name and version that it holds; what it does not hold comes back as it is.
    pub fn share_name(&self, type_url: &str, name: Name, version: Version) -> (Name, Version) {
        match self.types.get(type_url).and_then(|map| map.get_key_value(&name)) {
            Some((name, held)) if held.version == version => (Arc::clone(name), Arc::clone(&held.version)),
            Some((name, _)) => (Arc::clone(name), version),
            None => (name, version),
        }
    }

    /// Says whether there is more than what is in the set, of which nothing is known (yet). If so, what a client has
    /// from an earlier server is left to it, until that is seen to change.
    pub fn set_incomplete(&mut self, incomplete: bool) {
        self.incomplete = incomplete;
    }

    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Takes over the memory of each type that is the same in `before`: streams pass over a type that they can see at
    /// one glance to be unchanged, without comparing its resources.
    pub fn share(&mut self, before: &Self) {
        for (type_url, map) in &mut self.types {
            if let Some(same) = before.types.get(type_url).filter(|same| is_same(same, map)) {
                *map = Arc::clone(same);
            }
        }
    }

    /// Removes a resource; says whether it was there.
    pub fn remove(&mut self, type_url: &str, name: &str) -> bool {
        let Some(map) = self.types.get_mut(type_url).filter(|map| map.contains_key(name)) else {
            return false;
        };
        Arc::make_mut(map).remove(name);
        if map.is_empty() {
            self.types.remove(type_url);
        }
        true
    }

    pub fn get(&self, type_url: &str, name: &str) -> Option<&Arc<Versioned>> {
        self.types.get(type_url)?.get(name)
    }

    /// The resources of one type, in the order of their names.
    pub fn of_type(&self, type_url: &str) -> impl Iterator<Item = (&Name, &Arc<Versioned>)> {
        self.types.get(type_url).into_iter().flat_map(|map| map.iter())
    }

    pub fn len(&self) -> usize {
        self.types.values().map(|map| map.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn map(&self, type_url: &str) -> &Arc<TypeMap> {
        self.types.get(type_url).unwrap_or(&NOTHING)
    }
}

impl PartialEq for ResourceSet {
    fn eq(&self, other: &Self) -> bool {
        self.incomplete == other.incomplete
            && self.types.len() == other.types.len()
            && self.types.iter().zip(&other.types).all(|(a, b)| a.0 == b.0 && is_same(a.1, b.1))
    }
}

/// What is shared is not looked into.
fn is_same(a: &Arc<TypeMap>, b: &Arc<TypeMap>) -> bool {
    let same = |(a, b): (&Arc<Versioned>, &Arc<Versioned>)| Arc::ptr_eq(a, b) || a == b;
    Arc::ptr_eq(a, b)
        || (a.len() == b.len() && a.iter().zip(&**b).all(|(a, b)| a.0 == b.0 && same((a.1, b.1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_types_that_changed_are_not_shared() {
        let set = |listener: &str| {
            let mut set = ResourceSet::default();
            for (type_url, version) in [("backend", "1"), ("listener", listener)] {
                set.insert(type_url, "a", Versioned::new(type_url, version, Vec::new())).unwrap();
            }
            set
        };
        let before = set("1");
        let mut after = set("2");
        after.share(&before);
        assert!(Arc::ptr_eq(after.map("backend"), before.map("backend")));
        assert_eq!(after.get("listener", "a").unwrap().version, "2".into());
    }
}
