use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::ResourceName;

/// Where something was written: a line of a file, or an object's generation in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SourceRef {
    File { path: Arc<str>, line: u32 },
    Object { name: ResourceName, generation: i64 },
}

impl fmt::Display for SourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Object { name, generation } => write!(f, "{name}@{generation}"),
        }
    }
}

impl Serialize for SourceRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An object's identity and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub name: ResourceName,
    pub source: SourceRef,
    /// Seconds since the Unix epoch, when the author or the cluster said; decides between equals (older wins).
    pub created: Option<i64>,
}

impl Meta {
    /// The same object, at another line of its file. In a cluster the object itself is the closest there is.
    pub fn at(&self, line: Option<u32>) -> SourceRef {
        match (&self.source, line) {
            (SourceRef::File { path, .. }, Some(line)) => SourceRef::File { path: path.clone(), line },
            (source, _) => source.clone(),
        }
    }

    /// Gateway API conflict order: older first, then by namespace/name. Objects without a time come last.
    pub fn precedence(&self) -> (i64, &ResourceName) {
        (self.created.unwrap_or(i64::MAX), &self.name)
    }
}

/// Lines of the places in a spec that explanations point to, by JSON pointer relative to the spec
/// (`/limits/0` -> 12). Empty for objects from a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct SourceMap(pub BTreeMap<String, u32>);

impl SourceMap {
    /// The line of `pointer`, or of its nearest parent that has one.
    pub fn line(&self, pointer: &str) -> Option<u32> {
        let mut at = pointer;
        loop {
            if let Some(line) = self.0.get(at) {
                return Some(*line);
            }
            at = &at[..at.rfind('/')?];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_without_a_line_takes_its_parents() {
        let map = SourceMap(BTreeMap::from([(String::from("/limits/0"), 12)]));
        assert_eq!(map.line("/limits/0/requests"), Some(12));
        assert_eq!(map.line("/limits/1"), None);
    }
}
