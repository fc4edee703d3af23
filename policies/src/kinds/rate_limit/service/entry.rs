//! What a service is asked by: the entries of a descriptor, with values that are written or come from the request.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::CompileContext;
use crate::kinds::rate_limit::key::{self, KeyPart, KeySpec, KeyType};
use crate::kinds::rate_limit::{LimitSpec, MOST_KEY_PARTS};
use crate::pipeline::RequestContext;

/// Write one of `value` and `from`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct EntrySpec {
    /// As the service knows it.
    #[schemars(length(min = 1, max = 255))]
    key: String,
    /// The same for every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    value: Option<String>,
    /// What the request has, as a part of a limit's `key`. Several values are joined by commas; a request without one that is
    /// not skipped or denied has an empty value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<KeySpec>,
}

/// The same, valid.
#[derive(Debug)]
pub(super) struct Entry {
    key: Arc<str>,
    value: EntryValue,
}

#[derive(Debug)]
enum EntryValue {
    Written(String),
    /// The next part of the limit's key.
    Part,
}

/// What the entries take from requests: what is counted apart, while it is counted here.
pub(in super::super) fn parts(
    descriptor: &[EntrySpec],
    at: &str,
    cx: &mut CompileContext<'_>,
) -> Option<Arc<[KeyPart]>> {
    let each = descriptor.iter().enumerate();
    let each =
        each.filter_map(|(n, entry)| Some((format!("{at}/descriptor/{n}/from"), entry.from.as_ref()?)));
    let parts: Vec<_> = each.map(|(at, from)| from.compile(&at, cx)).collect();
    parts.into_iter().collect()
}

/// The entries of a limit; those of its key, where no others are written.
pub(super) fn compile(limit: &LimitSpec, at: &str, cx: &mut CompileContext<'_>) -> Option<Box<[Entry]>> {
    let LimitSpec { key, descriptor, .. } = limit;
    if key.is_empty() && descriptor.is_empty() {
        cx.error(at, "a service is asked by a descriptor: write `descriptor`, or a `key` to make one of");
        return None;
    }
    if !key.is_empty() && !descriptor.is_empty() {
        cx.error(format!("{at}/key"), "write `key` or `descriptor`, whose `from` are the key");
        return None;
    }
    if descriptor.len() > MOST_KEY_PARTS {
        let message = format!("{} entries: write at most {MOST_KEY_PARTS}", descriptor.len());
        cx.error(format!("{at}/descriptor"), message);
    }
    let named = key.iter().enumerate().map(|(n, part)| {
        let name = part.entry_name();
        if name.is_none() {
            let message = format!("type {:?} has no name of its own: write `descriptor`", part.r#type);
            cx.error(format!("{at}/key/{n}"), message);
        }
        Some(Entry { key: name?.into(), value: EntryValue::Part })
    });
    let named: Vec<_> = named.collect();
    let written = descriptor.iter().enumerate();
    let written = written.map(|(n, entry)| entry.compile(&format!("{at}/descriptor/{n}"), cx));
    named.into_iter().chain(written.collect::<Vec<_>>()).collect()
}

impl EntrySpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Entry> {
        if self.key.is_empty() {
            cx.error(format!("{at}/key"), "an entry has a key");
        }
        let value = match (&self.value, &self.from) {
            (Some(value), None) => {
                if value.is_empty() {
                    cx.error(format!("{at}/value"), "a written value is not empty");
                }
                EntryValue::Written(value.clone())
            }
            (None, Some(from)) => {
                if from.r#type == KeyType::Descriptor {
                    cx.error(format!("{at}/from/type"), "Descriptor goes with a `domain` only");
                }
                EntryValue::Part
            }
            _ => {
                cx.error(at, "write one of `value` and `from`");
                return None;
            }
        };
        Some(Entry { key: self.key.as_str().into(), value })
    }
}

/// The descriptor of a request, where its key has all that it must have.
pub(super) fn values(
    entries: &[Entry],
    parts: &[KeyPart],
    cx: &RequestContext<'_>,
) -> Vec<(Arc<str>, String)> {
    let mut parts = parts.iter();
    let value = |entry: &Entry| match &entry.value {
        EntryValue::Written(value) => value.clone(),
        EntryValue::Part => parts.next().map(|part| key::text(part, cx)).unwrap_or_default(),
    };
    let values: Vec<_> = entries.iter().map(value).collect();
    entries.iter().map(|entry| Arc::clone(&entry.key)).zip(values).collect()
}
