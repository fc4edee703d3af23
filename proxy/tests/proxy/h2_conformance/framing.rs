//! The preface, frame sizes, and each kind of frame by itself: RFC 9113, sections 3.4, 4 and 6.

use tidegate_testkit::frames::*;

use super::case::Want::{Alive, Closed, Connection, Status, Stream};
use super::case::{Case, ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PROTOCOL_ERROR, Step, get, post, send};

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
/// Where RFC 9113 asks for FRAME_SIZE_ERROR, PROTOCOL_ERROR ends the connection as well, and only the word is another.
const SIZE: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR];
/// What everybody must take (section 4.2).
const LARGEST: usize = 16_384;

pub(super) fn cases() -> Vec<Case> {
    let mut all = preface();
    all.extend(sizes());
    all.extend(data());
    all.extend(headers());
    all.extend(continuation());
    all.extend(priority_and_reset());
    all
}

fn request_block() -> Vec<u8> {
    request("GET", "/", &[])
}

fn preface() -> Vec<Case> {
    let frames = Case::frames;
    vec![
        Case::new(
            "3.4",
            "a preface with another method",
            [Step::Send(b"PRX * HTTP/2.0\r\n\r\nSM\r\n\r\n".into())],
            Closed,
        )
        .bare(),
        Case::new(
            "3.4",
            "a preface that goes wrong in its last line",
            [Step::Send(b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n".into())],
            Closed,
        )
        .bare(),
        Case::new(
            "3.4",
            "a preface in two pieces",
            [Step::Send(PREFACE.into()), send(&[Frame::settings(&[]), get(1)])],
            Status(200),
        )
        .bare(),
        // Nothing could be confused by it: what SETTINGS would say holds by default until they come.
        Case::new(
            "3.4",
            "a request before SETTINGS",
            [Step::Send(PREFACE.into()), send(&[get(1)])],
            Status(200),
        )
        .bare(),
        frames("4.1", "a frame of an unknown kind", &[Frame::new(0x16, 0, 0, [0; 8]), get(1)], Status(200)),
        frames("4.1", "flags that mean nothing", &[Frame::new(PING, 0xfe, 0, [0; 8]), get(1)], Status(200)),
        frames(
            "4.1",
            "the reserved bit of the stream",
            &[Frame::new(PING, 0, 1 << 31, [0; 8]), get(1)],
            Status(200),
        ),
        frames(
            "5.5",
            "an unknown frame within a header block",
            &[
                Frame::new(HEADERS, END_STREAM, 1, request_block()),
                Frame::new(0x16, 0, 0, [0; 8]),
                Frame::new(CONTINUATION, END_HEADERS, 1, []),
            ],
            Connection(PROTOCOL),
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let frames = Case::frames;
    vec![
        frames(
            "4.2",
            "DATA as large as allowed",
            &[post(1), Frame::new(DATA, END_STREAM, 1, [0; LARGEST])],
            Status(200),
        ),
        frames(
            "4.2",
            "DATA larger than allowed",
            &[post(1), Frame::new(DATA, END_STREAM, 1, [0; LARGEST + 1])],
            Connection(SIZE),
        ),
        frames(
            "4.2",
            "HEADERS larger than allowed",
            &[Frame::new(HEADERS, END, 1, [0; LARGEST + 1])],
            Connection(SIZE),
        ),
        frames(
            "4.2",
            "an unknown frame larger than allowed",
            &[Frame::new(0x16, 0, 0, [0; LARGEST + 1])],
            Connection(SIZE),
        ),
    ]
}

fn data() -> Vec<Case> {
    let frames = Case::frames;
    vec![
        frames("6.1", "DATA on stream 0", &[Frame::new(DATA, 0, 0, *b"x")], Connection(PROTOCOL)),
        frames(
            "6.1",
            "padded DATA",
            &[post(1), Frame::new(DATA, PADDED | END_STREAM, 1, *b"\x03ok\0\0\0")],
            Status(200),
        ),
        frames(
            "6.1",
            "padding that is all of the DATA",
            &[post(1), Frame::new(DATA, PADDED | END_STREAM, 1, *b"\x03\0\0\0")],
            Status(200),
        ),
        frames(
            "6.1",
            "padding as long as the DATA",
            &[post(1), Frame::new(DATA, PADDED, 1, *b"\x05ok\0\0")],
            Connection(PROTOCOL),
        ),
        frames(
            "6.1",
            "padded DATA without its length",
            &[post(1), Frame::new(DATA, PADDED, 1, [])],
            Connection(SIZE),
        ),
        frames(
            "6.1",
            "an empty DATA that ends the stream",
            &[post(1), Frame::new(DATA, END_STREAM, 1, [])],
            Status(200),
        ),
    ]
}

fn headers() -> Vec<Case> {
    let frames = Case::frames;
    let padded = [&[2][..], &request_block(), &[0, 0]].concat();
    let first = |weight: &[u8]| [weight, &request_block()].concat();
    vec![
        frames(
            "6.2",
            "HEADERS on stream 0",
            &[Frame::new(HEADERS, END, 0, request_block())],
            Connection(PROTOCOL),
        ),
        frames("6.2", "padded HEADERS", &[Frame::new(HEADERS, PADDED | END, 1, padded)], Status(200)),
        frames(
            "6.2",
            "padding longer than the HEADERS",
            &[Frame::new(HEADERS, PADDED | END, 1, *b"\xff\x88")],
            Connection(PROTOCOL),
        ),
        frames(
            "6.2",
            "HEADERS with a priority",
            &[Frame::new(HEADERS, WITH_PRIORITY | END, 1, first(b"\0\0\0\x03\x10"))],
            Status(200),
        ),
        frames(
            "6.2",
            "a priority cut short",
            &[Frame::new(HEADERS, WITH_PRIORITY | END, 1, *b"\0\0\0")],
            Connection(SIZE),
        ),
        frames(
            "5.3.1",
            "HEADERS that depend on themselves",
            &[Frame::new(HEADERS, WITH_PRIORITY | END, 1, first(b"\0\0\0\x01\x10"))],
            Stream(PROTOCOL),
        ),
    ]
}

fn continuation() -> Vec<Case> {
    let frames = Case::frames;
    let begun = || Frame::new(HEADERS, END_STREAM, 1, request_block());
    let (head, tail) = (request_block()[..10].to_vec(), request_block()[10..].to_vec());
    vec![
        frames(
            "6.10",
            "a block in three frames",
            &[
                Frame::new(HEADERS, END_STREAM, 1, head.clone()),
                Frame::new(CONTINUATION, 0, 1, []),
                Frame::new(CONTINUATION, END_HEADERS, 1, tail.clone()),
            ],
            Status(200),
        ),
        // Allowed, and of no use but to keep us busy: the decoder ends it after a few.
        frames(
            "6.10",
            "one byte in each frame",
            &[
                vec![Frame::new(HEADERS, END_STREAM, 1, [])],
                head.iter().map(|byte| Frame::new(CONTINUATION, 0, 1, [*byte])).collect(),
                vec![Frame::new(CONTINUATION, END_HEADERS, 1, tail)],
            ]
            .concat(),
            Connection(&[ENHANCE_YOUR_CALM]),
        ),
        frames(
            "4.3",
            "PRIORITY within a header block",
            &[begun(), Frame::new(PRIORITY, 0, 1, [0; 5])],
            Connection(PROTOCOL),
        ),
        frames(
            "4.3",
            "HEADERS of another stream within a header block",
            &[begun(), get(3)],
            Connection(PROTOCOL),
        ),
        frames(
            "6.2",
            "PING within a header block",
            &[begun(), Frame::new(PING, 0, 0, [0; 8])],
            Connection(PROTOCOL),
        ),
        frames(
            "6.10",
            "DATA within a header block",
            &[begun(), Frame::new(DATA, END_STREAM, 1, [])],
            Connection(PROTOCOL),
        ),
        frames(
            "6.10",
            "CONTINUATION of another stream",
            &[begun(), Frame::new(CONTINUATION, END_HEADERS, 3, [])],
            Connection(PROTOCOL),
        ),
        frames(
            "6.10",
            "CONTINUATION on stream 0",
            &[begun(), Frame::new(CONTINUATION, END_HEADERS, 0, [])],
            Connection(PROTOCOL),
        ),
        frames(
            "6.10",
            "CONTINUATION of a block that has ended",
            &[get(1), Frame::new(CONTINUATION, END_HEADERS, 1, [])],
            Connection(PROTOCOL),
        ),
        frames(
            "6.10",
            "CONTINUATION after DATA",
            &[post(1), Frame::new(DATA, 0, 1, *b"x"), Frame::new(CONTINUATION, END_HEADERS, 1, [])],
            Connection(PROTOCOL),
        ),
        frames(
            "5.1",
            "CONTINUATION on an idle stream",
            &[Frame::new(CONTINUATION, END_HEADERS, 1, request_block())],
            Connection(PROTOCOL),
        ),
    ]
}

fn priority_and_reset() -> Vec<Case> {
    let frames = Case::frames;
    let priority = |stream, payload: &[u8]| Frame::new(PRIORITY, 0, stream, payload);
    vec![
        frames("6.3", "PRIORITY on an idle stream", &[priority(5, &[0, 0, 0, 0, 1]), get(7)], Status(200)),
        frames("6.3", "PRIORITY on stream 0", &[priority(0, &[0; 5])], Connection(PROTOCOL)),
        // The RFC would have a stream error of it.
        frames("6.3", "PRIORITY of four bytes", &[priority(1, &[0; 4])], Connection(SIZE)),
        frames(
            "5.3.1",
            "PRIORITY that depends on itself",
            &[post(1), priority(1, &[0, 0, 0, 1, 1])],
            Stream(PROTOCOL),
        )
        .hanging(),
        frames("6.4", "RST_STREAM on stream 0", &[Frame::reset(0, 8)], Connection(PROTOCOL)),
        frames("6.4", "RST_STREAM on an idle stream", &[Frame::reset(1, 8)], Connection(PROTOCOL)),
        frames(
            "6.4",
            "RST_STREAM of three bytes",
            &[post(1), Frame::new(RST_STREAM, 0, 1, [0; 3])],
            Connection(SIZE),
        ),
        frames(
            "7",
            "RST_STREAM with a code that nobody knows",
            &[post(1), Frame::reset(1, 0xff), get(3)],
            Alive,
        ),
        frames("7", "GOAWAY with a code that nobody knows", &[Frame::go_away(0, 0xff)], Alive),
        frames("6.8", "GOAWAY on a stream", &[Frame::new(GOAWAY, 0, 1, [0; 8])], Connection(PROTOCOL)),
        frames(
            "8.4",
            "PUSH_PROMISE from a client",
            &[
                post(1),
                Frame::new(PUSH_PROMISE, END_HEADERS, 1, [&[0, 0, 0, 2][..], &request_block()].concat()),
            ],
            Connection(PROTOCOL),
        ),
    ]
}
