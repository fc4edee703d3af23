//! A gRPC-Web request body, piece by piece, as that of a gRPC request.

use bytes::Bytes;

use super::Coding;
use super::base64::{Decoder, NotBase64};
use super::messages::Messages;

/// What a client sent is no gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the text is no base64")]
    Text,
    #[error("something comes that is no message")]
    Frame,
    #[error("it ends within a message")]
    CutShort,
}

#[derive(Debug)]
pub(crate) struct Unpacking {
    text: Option<Decoder>,
    messages: Messages,
}

impl Unpacking {
    pub(crate) fn new(coding: Coding) -> Self {
        Self { text: (coding == Coding::Text).then(Decoder::default), messages: Messages::default() }
    }

    /// # Errors
    /// As soon as it is seen.
    pub(crate) fn pass(&mut self, data: Bytes) -> Result<Bytes, Malformed> {
        let data = match &mut self.text {
            None => data,
            Some(decoder) => decoder.decode(&data)?,
        };
        self.messages.pass(&data);
        if self.messages.is_strange() { Err(Malformed::Frame) } else { Ok(data) }
    }

    /// # Errors
    /// It may not end here.
    pub(crate) fn finish(&self) -> Result<(), Malformed> {
        if self.text.as_ref().is_some_and(|text| !text.is_whole()) {
            return Err(Malformed::Text);
        }
        if self.messages.is_between() { Ok(()) } else { Err(Malformed::CutShort) }
    }
}

impl From<NotBase64> for Malformed {
    fn from(_: NotBase64) -> Self {
        Self::Text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(coding: Coding, body: &'static str) -> Result<Bytes, Malformed> {
        let mut unpacking = Unpacking::new(coding);
        let data = unpacking.pass(Bytes::from_static(body.as_bytes()))?;
        unpacking.finish().map(|()| data)
    }

    #[test]
    fn what_is_no_whole_message_is_told_apart() {
        let whole = "\0\0\0\0\u{2}hi";
        assert_eq!(passed(Coding::Binary, whole).unwrap(), whole);
        assert_eq!(passed(Coding::Text, "AAAAAAJoaQ==").unwrap(), whole);
        assert_eq!(passed(Coding::Text, "AAAAAAJoa"), Err(Malformed::Text));
        assert_eq!(passed(Coding::Text, "<html></html>"), Err(Malformed::Text));
        assert_eq!(passed(Coding::Binary, "\0\0\0\0\u{2}h"), Err(Malformed::CutShort));
        assert_eq!(passed(Coding::Binary, "{}"), Err(Malformed::Frame));
    }
}
