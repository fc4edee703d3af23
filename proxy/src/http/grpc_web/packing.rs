//! A gRPC response body, frame by frame, as gRPC-Web: the trailers become the last frame.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tidegate_policy::Reason;

use super::super::reply::trailers_for;
use super::messages::{Messages, PREFIX};
use super::{Coding, base64};

/// The flag of a frame of trailers.
const TRAILERS: u8 = 0x80;

#[derive(Debug)]
pub(crate) struct Packing {
    coding: Coding,
    messages: Messages,
    over: bool,
}

impl Packing {
    pub(super) fn new(coding: Coding) -> Self {
        Self { coding, messages: Messages::default(), over: false }
    }

    /// One frame for one, so that whatever the backend flushes is flushed.
    pub(crate) fn pass(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(data) => {
                self.messages.pass(&data);
                Frame::data(self.coding.coded(data))
            }
            Err(frame) => match frame.into_trailers() {
                Ok(map) => {
                    self.over = true;
                    Frame::data(trailers(&map, self.coding))
                }
                Err(other) => other,
            },
        }
    }

    /// Trailers in the place of those that will not come; `None` within a message, where they would be taken for
    /// a part of it.
    pub(crate) fn end_with(&mut self, reason: Reason) -> Option<Frame<Bytes>> {
        let possible = !self.over && self.messages.is_between();
        self.over = true;
        possible.then(|| Frame::data(trailers(&trailers_for(reason), self.coding)))
    }

    /// Whether the trailers have passed.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

impl Coding {
    fn coded(self, data: Bytes) -> Bytes {
        match self {
            Self::Binary => data,
            Self::Text => base64::encode(&data),
        }
    }
}

/// A frame of trailers.
pub(crate) fn trailers(map: &HeaderMap, coding: Coding) -> Bytes {
    let mut frame = BytesMut::from(&[TRAILERS, 0, 0, 0, 0][..]);
    for (name, value) in map {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            frame.put_slice(part);
        }
    }
    let length = u32::try_from(frame.len() - usize::from(PREFIX)).unwrap_or(u32::MAX);
    if let Some(written) = frame.get_mut(1..usize::from(PREFIX)) {
        written.copy_from_slice(&length.to_be_bytes());
    }
    coding.coded(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn data(frame: Frame<Bytes>) -> Bytes {
        frame.into_data().unwrap()
    }

    #[test]
    fn trailers_become_a_frame_of_lines() {
        let mut map = HeaderMap::new();
        map.insert("grpc-status", HeaderValue::from_static("0"));
        map.append("x-a", HeaderValue::from_static("1"));
        map.append("x-a", HeaderValue::from_static("2"));
        assert_eq!(
            &trailers(&map, Coding::Binary)[..],
            b"\x80\0\0\0\x20grpc-status: 0\r\nx-a: 1\r\nx-a: 2\r\n"
        );
        assert_eq!(trailers(&HeaderMap::new(), Coding::Text), "gAAAAAA=");
    }

    #[test]
    fn an_answer_that_breaks_off_between_messages_still_says_why() {
        let mut packing = Packing::new(Coding::Binary);
        let message = Bytes::from_static(b"\0\0\0\0\x02hi");
        assert_eq!(data(packing.pass(Frame::data(message.clone()))), message);
        let last = data(packing.end_with(Reason::UpstreamReset).unwrap());
        assert!(last.starts_with(b"\x80\0\0\0") && packing.is_over());
        assert!(String::from_utf8_lossy(&last).contains("grpc-status: 14\r\n"), "{last:?}");
        assert!(packing.end_with(Reason::UpstreamReset).is_none());

        let mut packing = Packing::new(Coding::Binary);
        packing.pass(Frame::data(Bytes::from_static(b"\0\0\0\0\x02h")));
        assert!(packing.end_with(Reason::UpstreamReset).is_none());
    }
}
