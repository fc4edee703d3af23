//! base64 in pieces: cut anywhere by the network, and padded wherever its sender flushed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Four letters are three bytes.
const GROUP: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a group.
    kept: [u8; GROUP],
    length: usize,
}

/// It is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotBase64;

impl Decoder {
    /// As many bytes as are whole by now.
    pub(super) fn decode(&mut self, mut text: &[u8]) -> Result<Bytes, NotBase64> {
        let mut decoded = Vec::with_capacity(text.len() / GROUP * 3 + 3);
        while self.length > 0 && !text.is_empty() {
            let (letter, rest) = text.split_first().ok_or(NotBase64)?;
            *self.kept.get_mut(self.length).ok_or(NotBase64)? = *letter;
            (self.length, text) = (self.length + 1, rest);
            if self.length == GROUP {
                self.length = 0;
                group(&self.kept, &mut decoded)?;
            }
        }
        let (mut whole, rest) = text.split_at(text.len() / GROUP * GROUP);
        while !whole.is_empty() {
            // Up to the end of the group that is padded.
            let padded = whole.iter().position(|letter| *letter == b'=');
            let end = padded.map_or(whole.len(), |at| (at / GROUP + 1) * GROUP);
            let (segment, after) = whole.split_at_checked(end).ok_or(NotBase64)?;
            group(segment, &mut decoded)?;
            whole = after;
        }
        for letter in rest {
            *self.kept.get_mut(self.length).ok_or(NotBase64)? = *letter;
            self.length += 1;
        }
        Ok(decoded.into())
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.length == 0
    }
}

fn group(letters: &[u8], decoded: &mut Vec<u8>) -> Result<(), NotBase64> {
    STANDARD.decode_vec(letters, decoded).map_err(|_| NotBase64)
}

/// One padded segment.
pub(super) fn encode(bytes: &[u8]) -> Bytes {
    STANDARD.encode(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, NotBase64> {
        let mut decoder = Decoder::default();
        let mut all = Vec::new();
        for piece in pieces {
            all.extend_from_slice(&decoder.decode(piece)?);
        }
        if decoder.is_whole() { Ok(all) } else { Err(NotBase64) }
    }

    #[test]
    fn segments_may_be_padded_anywhere_and_nothing_else_is_let_through() {
        assert_eq!(decoded(&[b"YQ==YmM=ZGVm"]).unwrap(), b"abcdef");
        assert_eq!(decoded(&[b"Y", b"Q=", b"=Ym", b"M=ZGVm"]).unwrap(), b"abcdef");
        for bad in ["YQ=", "YQ", "Y===", "YQ==Y", "Y Q=", "YQ\r\n", "-_-_", "=YQ=", "YR=="] {
            assert_eq!(decoded(&[bad.as_bytes()]), Err(NotBase64), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_in_segments_comes_back_however_it_is_cut(
            segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in prop::collection::vec(1..9_usize, 1..6),
        ) {
            let text: Vec<u8> = segments.iter().flat_map(|segment| encode(segment)).collect();
            let (mut pieces, mut rest, mut cuts) = (Vec::new(), &text[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let at = rest.len().min(*cuts.next().unwrap());
                pieces.push(&rest[..at]);
                rest = &rest[at..];
            }
            prop_assert_eq!(decoded(&pieces).unwrap(), segments.concat());
        }
    }
}
