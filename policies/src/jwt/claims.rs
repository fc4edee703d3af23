//! What a verified token says of its bearer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

/// The claims of a token whose signature, issuer, audience and time have been checked.
#[derive(Clone, PartialEq)]
pub struct Claims(Map<String, Value>);

/// Which claim: a name, or one name within the other. A name is taken as it is, whatever dots and slashes are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimPath(Arc<[Box<str>]>);

impl Claims {
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        Self(claims)
    }

    pub(crate) fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    pub(super) fn named(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn get(&self, path: &ClaimPath) -> Option<&Value> {
        let (first, rest) = path.0.split_first()?;
        rest.iter().try_fold(self.0.get(&**first)?, |value, name| value.get(&**name))
    }

    /// A guess at the bytes that they take up.
    pub(super) fn weight(&self) -> usize {
        fn of(value: &Value) -> usize {
            let own = size_of::<Value>();
            own + match value {
                Value::String(text) => text.len(),
                Value::Array(list) => list.iter().map(of).sum(),
                Value::Object(map) => map_weight(map),
                Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            }
        }
        // A tree's nodes are about half full.
        fn map_weight(map: &Map<String, Value>) -> usize {
            map.iter().map(|(name, value)| 2 * size_of::<String>() + name.len() + 2 * of(value)).sum()
        }
        map_weight(&self.0)
    }
}

/// How many, and nothing of what they say: it is about people.
impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claims").field(&self.0.len()).finish()
    }
}

impl ClaimPath {
    /// `None` for no name at all, or an empty one.
    pub(crate) fn new<'n>(names: impl IntoIterator<Item = &'n str>) -> Option<Self> {
        let names: Arc<[Box<str>]> = names.into_iter().map(Box::from).collect();
        (!names.is_empty() && names.iter().all(|name| !name.is_empty())).then_some(Self(names))
    }
}

/// A text, a number or a truth value, as text.
pub(crate) fn plain(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(true) => Some("true".into()),
        Value::Bool(false) => Some("false".into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
