//! Header blocks that cannot be decoded: RFC 7541, and RFC 9113, section 4.3. The compression state of the connection is lost
//! with them, so each of them ends it.

use tidegate_testkit::frames::*;

use super::case::Want::{Connection, Status};
use super::case::{COMPRESSION_ERROR, Case, PROTOCOL_ERROR, Want, get};

/// The RFC asks for COMPRESSION_ERROR; PROTOCOL_ERROR ends the connection as well, and only the word is another.
const UNREADABLE: &[u32] = &[COMPRESSION_ERROR, PROTOCOL_ERROR];

pub(super) fn cases() -> Vec<Case> {
    let after = |section, what, more: &[u8], want: Want| {
        let fine = request("GET", "/", &[]);
        Case::frames(section, what, &[Frame::new(HEADERS, END, 1, [&fine, more].concat())], want)
    };
    let before = |section, what, first: &[u8], want: Want| {
        let fine = request("GET", "/", &[]);
        Case::frames(section, what, &[Frame::new(HEADERS, END, 1, [first, &fine].concat())], want)
    };
    let lost = Connection(UNREADABLE);
    vec![
        after("7541 2.3.3", "an index beyond both tables", &[0xff, 0x00], lost),
        after("7541 6.1", "index 0", &[0x80], lost),
        after("7541 2.3.3", "a name by an index beyond both tables", &[0x7f, 0x10, 0x01, b'a'], lost),
        before("7541 6.3", "a table of nothing at the beginning of a block", &[0x20], Status(200)),
        before("7541 6.3", "two new sizes of the table", &[0x20, 0x3f, 0xe1, 0x1f], Status(200)),
        before("7541 6.3", "a table larger than we allow", &[0x3f, 0xe2, 0x1f], lost),
        after("7541 4.2", "a new size of the table at the end of a block", &[0x20], lost),
        after(
            "7541 5.1",
            "a number that never ends",
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            lost,
        ),
        after("7541 5.2", "a string longer than its block", &[0x00, 0x05, b'x'], lost),
        // `x-test: test`, and then the same with something wrong at its end.
        after("7541 5.2", "Huffman code", b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x9f", Status(200)),
        after(
            "7541 5.2",
            "padding of Huffman code longer than seven bits",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff",
            lost,
        ),
        after(
            "7541 5.2",
            "padding of Huffman code with zeros",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90",
            lost,
        ),
        after(
            "7541 5.2",
            "the end of string within Huffman code",
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x3f\xff\xff\xff\xff\xff\xff",
            lost,
        ),
        Case::frames("4.3", "a block that ends within a field", &[Frame::new(HEADERS, END, 1, [0x40])], lost),
        Case::frames(
            "4.3",
            "a block that was refused still counts for the next",
            &[
                // Refused for its `connection`, after `x-a: 1` has gone into the table: the next block refers to it.
                Frame::new(
                    HEADERS,
                    END,
                    1,
                    [&request("GET", "/wrong", &[])[..], b"\x40\x03x-a\x011", &block(&[("connection", "x")])]
                        .concat(),
                ),
                Frame::new(HEADERS, END, 3, [&request("GET", "/", &[])[..], &[0xbe]].concat()),
            ],
            Want::Stream(&[PROTOCOL_ERROR]),
        ),
        Case::frames("4.3", "nothing wrong", &[get(1)], Status(200)),
    ]
}
