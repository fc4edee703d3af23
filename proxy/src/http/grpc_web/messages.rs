//! Where the messages of a stream begin and end, told as their bytes pass; nothing is kept but a count.

/// A flag, and the length in four bytes.
pub(super) const PREFIX: u8 = 5;
/// The one flag that a gRPC message may have.
const COMPRESSED: u8 = 1;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Of the prefix at hand.
    seen: u8,
    length: u32,
    /// Of the message at hand.
    left: u32,
    strange: bool,
}

impl Messages {
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let Some((byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                let passed = self.left.min(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                self.left -= passed;
                bytes = bytes.get(passed as usize..).unwrap_or_default();
                continue;
            }
            match self.seen {
                0 => self.strange |= *byte > COMPRESSED,
                _ => self.length = self.length << 8 | u32::from(*byte),
            }
            self.seen += 1;
            if self.seen == PREFIX {
                (self.seen, self.left) = (0, std::mem::take(&mut self.length));
            }
            bytes = rest;
        }
    }

    /// Whether no message is under way.
    pub(super) fn is_between(&self) -> bool {
        self.seen == 0 && self.left == 0
    }

    /// Whether something came that is no message: trailers, or noise.
    pub(super) fn is_strange(&self) -> bool {
        self.strange
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let stream = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 0], &[0, 0, 0, 1, 0], &[7; 256]].concat();
        let ends = [0, 8, 13, stream.len()];
        for size in [1, 2, 5, 300] {
            let (mut messages, mut passed) = (Messages::default(), 0);
            for piece in stream.chunks(size) {
                messages.pass(piece);
                passed += piece.len();
                assert_eq!(messages.is_between(), ends.contains(&passed), "{passed} by {size}");
            }
            assert!(!messages.is_strange());
        }
    }

    #[test]
    fn a_flag_that_no_message_has_is_noticed() {
        let mut messages = Messages::default();
        messages.pass(&[0, 0, 0, 0, 1, 0x80]);
        assert!(!messages.is_strange(), "inside of a message");
        messages.pass(&[0x80]);
        assert!(messages.is_strange());
    }
}
