use std::fmt::Write;

/// A field's path as people write it: `spec.rules[0].matches`.
#[derive(Clone, Debug)]
pub(super) struct Field(String);

impl Field {
    pub(super) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Goes down to a field; returns what [`Field::truncate`] needs to come back.
    pub(super) fn push(&mut self, key: &str) -> usize {
        let length = self.0.len();
        let plain =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !plain {
            self.0.push_str("[\"");
            self.0.push_str(key);
            self.0.push_str("\"]");
        } else {
            if length > 0 {
                self.0.push('.');
            }
            self.0.push_str(key);
        }
        length
    }

    pub(super) fn push_index(&mut self, index: usize) -> usize {
        let length = self.0.len();
        // Writing to a String cannot fail.
        let _ = write!(self.0, "[{index}]");
        length
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    pub(super) fn within(&mut self, key: &str, act: impl FnOnce(&str)) {
        let length = self.push(key);
        act(&self.0);
        self.truncate(length);
    }
}
