//! The bytes of a body that a plugin sees. What passes through untouched is not copied.

use bytes::{Bytes, BytesMut};

use crate::status::Status;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Bytes,
    /// A plugin has written to it since it was last emptied.
    touched: bool,
}

impl Buffer {
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// More has come.
    pub(crate) fn append(&mut self, more: Bytes) {
        if self.bytes.is_empty() {
            self.bytes = more;
        } else if !more.is_empty() {
            self.rewrite(|bytes| bytes.extend_from_slice(&more));
        }
    }

    /// All of it, and whether a plugin changed it.
    pub(crate) fn take(&mut self) -> (Bytes, bool) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.touched))
    }

    /// `proxy_set_buffer_bytes`.
    pub(crate) fn set(&mut self, start: usize, size: usize, with: &[u8]) -> Result<(), Status> {
        let length = self.bytes.len();
        if start == 0 {
            let rest = self.bytes.split_off(size.min(length));
            let mut bytes = BytesMut::with_capacity(with.len() + rest.len());
            bytes.extend_from_slice(with);
            bytes.extend_from_slice(&rest);
            self.bytes = bytes.freeze();
        } else if start >= length {
            self.rewrite(|bytes| bytes.extend_from_slice(with));
        } else {
            // The specification would splice; Envoy refuses, and plugins know only that.
            return Err(Status::BadArgument);
        }
        self.touched = true;
        Ok(())
    }

    fn rewrite(&mut self, change: impl FnOnce(&mut BytesMut)) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut bytes = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&*shared));
        change(&mut bytes);
        self.bytes = bytes.freeze();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: usize, size: usize, with: &str) -> Result<String, Status> {
        let mut buffer = Buffer::default();
        buffer.append(Bytes::from_static(b"hel"));
        buffer.append(Bytes::from_static(b"lo"));
        buffer.set(start, size, with.as_bytes())?;
        Ok(String::from_utf8(buffer.take().0.to_vec()).unwrap())
    }

    #[test]
    fn writing_prepends_replaces_or_appends_and_never_splices() {
        assert_eq!(after(0, 0, "ab").unwrap(), "abhello");
        assert_eq!(after(0, 5, "ab").unwrap(), "ab");
        assert_eq!(after(0, 99, "").unwrap(), "");
        assert_eq!(after(0, 2, "J").unwrap(), "Jllo");
        assert_eq!(after(5, 0, "!").unwrap(), "hello!");
        assert_eq!(after(99, 7, "!").unwrap(), "hello!");
        assert_eq!(after(2, 1, "x").unwrap_err(), Status::BadArgument);
    }

    #[test]
    fn what_was_written_to_is_known_until_it_is_taken() {
        let mut buffer = Buffer::default();
        buffer.append(Bytes::from_static(b"a"));
        assert_eq!(buffer.take(), (Bytes::from_static(b"a"), false));
        buffer.set(0, 0, b"b").unwrap();
        assert_eq!(buffer.take(), (Bytes::from_static(b"b"), true));
        assert_eq!(buffer.take(), (Bytes::new(), false));
    }
}
