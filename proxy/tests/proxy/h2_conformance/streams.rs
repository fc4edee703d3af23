//! The states of streams and their numbers: RFC 9113, section 5.1.

use tidegate_testkit::frames::*;

use super::case::Want::{Alive, Closed, Connection, Status, Stream};
use super::case::{Case, PROTOCOL_ERROR, STREAM_CLOSED, Step, Want, get, post, send};

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const ENDED: &[u32] = &[STREAM_CLOSED];
/// The RFC asks for no more than the stream: a peer that has lost count of its own streams loses the connection.
const LOST_COUNT: Want = Connection(&[STREAM_CLOSED, PROTOCOL_ERROR]);

pub(super) fn cases() -> Vec<Case> {
    let mut all = idle_and_numbers();
    all.extend(half_closed());
    all.extend(reset());
    all.extend(ended());
    all
}

fn idle_and_numbers() -> Vec<Case> {
    let frames = Case::frames;
    vec![
        frames(
            "5.1",
            "DATA on an idle stream",
            &[Frame::new(DATA, END_STREAM, 1, *b"x")],
            Connection(PROTOCOL),
        ),
        frames("5.1.1", "a stream with an even number", &[get(2)], Connection(PROTOCOL)),
        Case::new(
            "5.1.1",
            "a number below the last",
            [send(&[get(5)]), Step::Answered(5), send(&[get(3)])],
            Connection(PROTOCOL),
        ),
        frames("5.1.1", "numbers that are left out", &[get(99)], Status(200)),
        frames("5.1.1", "the largest number", &[get((1 << 31) - 1)], Status(200)),
    ]
}

fn half_closed() -> Vec<Case> {
    let frames =
        |what, more: &[Frame], want| Case::frames("5.1", what, &[&[get(1)], more].concat(), want).hanging();
    vec![
        frames("DATA after the end of the request", &[Frame::new(DATA, END_STREAM, 1, *b"x")], LOST_COUNT),
        frames("HEADERS after the end of the request", &[get(1)], LOST_COUNT),
        frames("more room after the end of the request", &[Frame::window(1, 1)], Alive),
        frames(
            "PRIORITY after the end of the request",
            &[Frame::new(PRIORITY, 0, 1, [0, 0, 0, 0, 1])],
            Alive,
        ),
        frames("RST_STREAM after the end of the request", &[Frame::reset(1, 8)], Alive),
    ]
}

fn reset() -> Vec<Case> {
    let frames = |what, more: &[Frame], want| {
        Case::frames("5.1", what, &[&[post(1), Frame::reset(1, 8)], more].concat(), want).hanging()
    };
    vec![
        frames(
            "DATA on a stream that its sender has reset",
            &[Frame::new(DATA, END_STREAM, 1, *b"x")],
            Stream(ENDED),
        ),
        frames("HEADERS on a stream that their sender has reset", &[get(1)], LOST_COUNT),
        frames("PRIORITY on a stream that was reset", &[Frame::new(PRIORITY, 0, 1, [0, 0, 0, 0, 1])], Alive),
        frames("RST_STREAM once more", &[Frame::reset(1, 8)], Alive),
        frames("another stream after one that was reset", &[get(3), Frame::reset(3, 8)], Alive),
    ]
}

fn ended() -> Vec<Case> {
    let after = |what, frame: Frame, want| {
        Case::new("5.1", what, [send(&[get(1)]), Step::Answered(1), send(&[frame])], want)
    };
    vec![
        after("DATA on a stream that has ended", Frame::new(DATA, END_STREAM, 1, *b"x"), Stream(ENDED)),
        after("HEADERS on a stream that has ended", get(1), Closed),
        after("PRIORITY on a stream that has ended", Frame::new(PRIORITY, 0, 1, [0, 0, 0, 0, 1]), Alive),
        after("RST_STREAM on a stream that has ended", Frame::reset(1, 8), Alive),
    ]
}
