//! Where the frames of an HTTP/3 stream begin and end (RFC 9114, section 7.1), as its bytes pass.
//!
//! h3 keeps a frame that is not DATA in memory until all of it is there, as long as it claims to be, keeps what came
//! behind a DATA frame, and takes the end of a stream within one for the end of the body. So what a client may make us
//! keep is bounded before h3 sees it, and a stream that ends too early is told apart from one that is over.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Of a frame that is kept as a whole: headers may be 64 KiB, and a bad choice of codes makes them longer on the wire.
const MAX_FRAME: u64 = 128 * 1024;
/// How much h3 may hold of a stream before what it holds is used up.
const MAX_AHEAD: usize = 128 * 1024;
const DATA: u64 = 0x0;
const CONTROL: u64 = 0x0;

/// Why a stream cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes is too large")]
    TooLarge(u64),
    #[error("the stream ended within a frame")]
    Truncated,
}

/// Follows the bytes of one stream.
#[derive(Debug)]
pub(super) enum Frames {
    /// The type of a unidirectional stream.
    Stream(Number),
    Type(Number),
    Length {
        is_data: bool,
        length: Number,
    },
    Payload {
        is_data: bool,
        left: u64,
    },
    /// What is on it is kept by nobody.
    Unread,
}

/// A variable-length integer (RFC 9000, section 16) of which some bytes have come.
#[derive(Debug, Default)]
pub(super) struct Number {
    value: u64,
    /// Bytes that are still to come; `None` before the first.
    left: Option<u8>,
}

/// How far h3 is ahead of whoever reads the body. Shared by what feeds h3 and the body.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Of DATA frames, not yet given out.
    data: AtomicUsize,
    /// Everything that has passed since there was none of that.
    bytes: AtomicUsize,
}

impl Frames {
    pub(super) fn of_request() -> Self {
        Self::Type(Number::default())
    }

    pub(super) fn of_unidirectional() -> Self {
        Self::Stream(Number::default())
    }

    /// Lets bytes pass; returns how many of them are body.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`]
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<usize, FrameError> {
        let mut body = 0;
        while let Some((first, rest)) = bytes.split_first() {
            match self {
                Self::Unread => return Ok(body),
                Self::Payload { is_data, left } => {
                    let here = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    body += if *is_data { here } else { 0 };
                    *left -= here as u64;
                    bytes = bytes.get(here..).unwrap_or_default();
                    if *left == 0 {
                        *self = Self::Type(Number::default());
                    }
                    continue;
                }
                Self::Stream(number) => match number.push(*first) {
                    Some(CONTROL) => *self = Self::Type(Number::default()),
                    Some(_) => *self = Self::Unread,
                    None => {}
                },
                Self::Type(number) => {
                    if let Some(kind) = number.push(*first) {
                        *self = Self::Length { is_data: kind == DATA, length: Number::default() };
                    }
                }
                Self::Length { is_data, length } => {
                    if let Some(length) = length.push(*first) {
                        *self = Self::payload(*is_data, length)?;
                    }
                }
            }
            bytes = rest;
        }
        Ok(body)
    }

    fn payload(is_data: bool, length: u64) -> Result<Self, FrameError> {
        match length {
            0 => Ok(Self::Type(Number::default())),
            length if !is_data && length > MAX_FRAME => Err(FrameError::TooLarge(length)),
            left => Ok(Self::Payload { is_data, left }),
        }
    }

    /// # Errors
    /// [`FrameError::Truncated`]
    pub(super) fn end(&self) -> Result<(), FrameError> {
        match self {
            Self::Type(Number { left: None, .. }) | Self::Stream(_) | Self::Unread => Ok(()),
            Self::Type(_) | Self::Length { .. } | Self::Payload { .. } => Err(FrameError::Truncated),
        }
    }
}

impl Number {
    /// The number, with its last byte.
    fn push(&mut self, byte: u8) -> Option<u64> {
        let left = match self.left {
            // The first two bits say how many bytes there are: 1, 2, 4 or 8.
            None => {
                self.value = u64::from(byte & 0x3f);
                (1 << (byte >> 6)) - 1
            }
            Some(left) => {
                self.value = (self.value << 8) | u64::from(byte);
                left - 1
            }
        };
        self.left = Some(left);
        (left == 0).then_some(self.value)
    }
}

impl Ahead {
    pub(super) fn passed(&self, bytes: usize, body: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.data.fetch_add(body, Ordering::Relaxed);
    }

    /// Some of the body was given out.
    pub(super) fn taken(&self, body: usize) {
        if self.data.fetch_sub(body, Ordering::Relaxed) == body {
            self.bytes.store(0, Ordering::Relaxed);
        }
    }

    /// Whether h3 has enough to give out for now. Asked again, it then gives out some of that.
    pub(super) fn is_enough(&self) -> bool {
        self.data.load(Ordering::Relaxed) > 0 && self.bytes.load(Ordering::Relaxed) >= MAX_AHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: u8 = 0x1;

    #[test]
    fn bodies_are_counted_however_the_bytes_are_cut() {
        // HEADERS of 3, DATA of 5 with a length of two bytes, one of no known type, DATA of 0, DATA of 2.
        let mut bytes = vec![HEADERS, 3, 1, 2, 3, 0, 0x40, 5, 9, 9, 9, 9, 9];
        bytes.extend([0x40, 0x21, 1, 7, 0, 0, 0, 2, 8, 8]);
        for size in 1..=bytes.len() {
            let mut frames = Frames::of_request();
            let body: usize = bytes.chunks(size).map(|chunk| frames.pass(chunk).unwrap()).sum();
            assert_eq!((body, frames.end()), (7, Ok(())), "in pieces of {size}");
        }
    }

    #[test]
    fn the_end_of_a_stream_within_a_frame_is_noticed() {
        for cut in [&[0][..], &[0, 0x40], &[0, 3, 1, 2], &[0x40]] {
            let mut frames = Frames::of_request();
            frames.pass(cut).unwrap();
            assert_eq!(frames.end(), Err(FrameError::Truncated), "{cut:?}");
        }
        assert_eq!(Frames::of_request().end(), Ok(()));
    }

    #[test]
    fn only_data_may_be_of_any_length() {
        let sized = |kind: u8, length: u32| {
            let [a, b, c, d] = length.to_be_bytes();
            Frames::of_request().pass(&[kind, a | 0x80, b, c, d])
        };
        assert_eq!(sized(0, 0x3fff_ffff), Ok(0));
        assert_eq!(sized(HEADERS, 128 * 1024), Ok(0));
        assert_eq!(sized(HEADERS, 128 * 1024 + 1), Err(FrameError::TooLarge(128 * 1024 + 1)));
        assert_eq!(sized(0x21, 0x3fff_ffff), Err(FrameError::TooLarge(0x3fff_ffff)));
    }

    #[test]
    fn on_a_unidirectional_stream_frames_are_looked_for_only_if_it_is_the_control_stream() {
        let huge = [HEADERS, 0xbf, 0xff, 0xff, 0xff];
        let mut control = Frames::of_unidirectional();
        assert_eq!(control.pass(&[0]), Ok(0));
        assert!(control.pass(&huge).is_err());
        let mut other = Frames::of_unidirectional();
        assert_eq!(other.pass(&[2]).and_then(|_| other.pass(&huge)), Ok(0));
    }

    #[test]
    fn who_is_far_ahead_waits_until_everything_is_used_up() {
        let ahead = Ahead::default();
        ahead.passed(MAX_AHEAD * 2, 0);
        assert!(!ahead.is_enough(), "there is nothing to be given out");
        ahead.passed(10, 2);
        assert!(ahead.is_enough());
        ahead.taken(1);
        assert!(ahead.is_enough());
        ahead.taken(1);
        assert!(!ahead.is_enough());
    }
}
