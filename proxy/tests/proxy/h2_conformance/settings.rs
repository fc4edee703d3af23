//! SETTINGS, windows and pings: RFC 9113, sections 5.2, 6.5, 6.7 and 6.9.

use tidegate_testkit::frames::*;

use super::case::Want::{Alive, Connection, Status, Stream};
use super::case::{Case, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, get, post, send};

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
/// See the framing cases.
const SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR];
/// The word is another, the connection ends all the same.
const FLOW_OR_PROTOCOL: &[u32] = &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR];

const ENABLE_PUSH: u16 = 2;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

pub(super) fn cases() -> Vec<Case> {
    let mut all = settings();
    all.extend(pings());
    all.extend(windows());
    all
}

fn settings() -> Vec<Case> {
    let frames = Case::frames;
    let value = |id, value| Frame::settings(&[(id, value)]);
    vec![
        frames("6.5", "SETTINGS on a stream", &[Frame::new(SETTINGS, 0, 1, [])], Connection(PROTOCOL)),
        frames(
            "6.5",
            "SETTINGS of a length that is no multiple of six",
            &[Frame::new(SETTINGS, 0, 0, [0; 5])],
            Connection(SIZE),
        ),
        frames(
            "6.5",
            "an acknowledgement that says something",
            &[Frame::new(SETTINGS, ACK, 0, [0; 6])],
            Connection(SIZE),
        ),
        frames("6.5.2", "push neither on nor off", &[value(ENABLE_PUSH, 2)], Connection(PROTOCOL)),
        frames(
            "6.5.2",
            "a window beyond the largest",
            &[value(INITIAL_WINDOW_SIZE, LARGEST_WINDOW + 1)],
            Connection(FLOW_OR_PROTOCOL),
        ),
        frames(
            "6.5.2",
            "frames smaller than everybody must take",
            &[value(MAX_FRAME_SIZE, 16_383)],
            Connection(PROTOCOL),
        ),
        frames("6.5.2", "frames larger than can be", &[value(MAX_FRAME_SIZE, 1 << 24)], Connection(PROTOCOL)),
        frames("6.5.2", "a setting that nobody knows", &[value(0xff, 1), get(1)], Status(200)),
        frames(
            "6.5.3",
            "the same setting twice",
            &[Frame::settings(&[(INITIAL_WINDOW_SIZE, 100), (INITIAL_WINDOW_SIZE, 1)]), get(1)],
            Status(200),
        ),
        frames(
            "6.5.3",
            "SETTINGS again and again",
            &[Frame::settings(&[]), Frame::settings(&[]), get(1)],
            Status(200),
        ),
        frames("6.9.2", "a window of nothing", &[value(INITIAL_WINDOW_SIZE, 0), get(1)], Status(200)),
    ]
}

fn pings() -> Vec<Case> {
    let frames = Case::frames;
    vec![
        frames("6.7", "PING", &[Frame::new(PING, 0, 0, [7; 8])], Alive),
        frames("6.7", "an answer to a ping that nobody sent", &[Frame::new(PING, ACK, 0, [7; 8])], Alive),
        frames("6.7", "PING on a stream", &[Frame::new(PING, 0, 1, [0; 8])], Connection(PROTOCOL)),
        frames("6.7", "PING of six bytes", &[Frame::new(PING, 0, 0, [0; 6])], Connection(SIZE)),
    ]
}

fn windows() -> Vec<Case> {
    let frames = Case::frames;
    vec![
        frames("6.9", "no more room for the connection", &[Frame::window(0, 0)], Connection(PROTOCOL)),
        // The RFC would have a stream error of it.
        frames("6.9", "no more room for a stream", &[post(1), Frame::window(1, 0)], Connection(PROTOCOL)),
        frames(
            "6.9",
            "WINDOW_UPDATE of three bytes",
            &[Frame::new(WINDOW_UPDATE, 0, 0, [0; 3])],
            Connection(SIZE),
        ),
        frames(
            "6.9.1",
            "more room for the connection than can be",
            &[Frame::window(0, LARGEST_WINDOW), Frame::window(0, LARGEST_WINDOW)],
            Connection(FLOW),
        ),
        frames(
            "6.9.1",
            "more room for a stream than can be",
            &[post(1), Frame::window(1, LARGEST_WINDOW)],
            Stream(FLOW),
        )
        .hanging(),
        Case::new(
            "6.9.2",
            "SETTINGS that make a window larger than can be",
            [
                send(&[post(1), Frame::window(1, LARGEST_WINDOW - 65_535)]),
                send(&[Frame::settings(&[(INITIAL_WINDOW_SIZE, 65_536)])]),
            ],
            Connection(FLOW),
        )
        .hanging(),
        frames("5.1", "WINDOW_UPDATE on an idle stream", &[Frame::window(1, 1)], Connection(PROTOCOL)),
        Case::new(
            "5.1",
            "WINDOW_UPDATE on a stream that has ended",
            [send(&[get(1)]), super::case::Step::Answered(1), send(&[Frame::window(1, 1)])],
            Alive,
        ),
    ]
}
