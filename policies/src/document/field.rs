use std::fmt::Write;

/// A field's path as people write it, `spec.rules[0].matches`, and as a JSON pointer from where it begins.
#[derive(Clone, Debug)]
pub(super) struct Field {
    path: String,
    pointer: String,
}

/// Where a field was before it went down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    path: usize,
    pointer: usize,
}

impl Field {
    /// `path` is where it begins.
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), pointer: String::new() }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.path
    }

    pub(super) fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Goes down to a field; returns what [`Field::truncate`] needs to come back.
    pub(super) fn push(&mut self, key: &str) -> Mark {
        let mark = self.mark();
        self.pointer.push('/');
        self.pointer.push_str(&escaped(key));
        let plain =
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !plain {
            self.path.push_str("[\"");
            self.path.push_str(key);
            self.path.push_str("\"]");
        } else {
            if mark.path > 0 {
                self.path.push('.');
            }
            self.path.push_str(key);
        }
        mark
    }

    pub(super) fn push_index(&mut self, index: usize) -> Mark {
        let mark = self.mark();
        // Writing to a String cannot fail.
        let _ = write!(self.path, "[{index}]");
        let _ = write!(self.pointer, "/{index}");
        mark
    }

    pub(super) fn truncate(&mut self, mark: Mark) {
        self.path.truncate(mark.path);
        self.pointer.truncate(mark.pointer);
    }

    pub(super) fn within(&mut self, key: &str, act: impl FnOnce(&str)) {
        let mark = self.push(key);
        act(&self.path);
        self.truncate(mark);
    }

    fn mark(&self) -> Mark {
        Mark { path: self.path.len(), pointer: self.pointer.len() }
    }
}

/// A key as a part of a pointer (RFC 6901).
pub(super) fn escaped(key: &str) -> std::borrow::Cow<'_, str> {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1").into() } else { key.into() }
}
