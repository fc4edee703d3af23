//! Requests that are malformed (RFC 9113, sections 8.1 to 8.3): refused, and seen by no backend.

use tidegate_testkit::frames::*;

use super::case::Want::{Alive, Connection, Status, Stream};
use super::case::{Case, PROTOCOL_ERROR, Want, post, send};

/// Requests to this path must never reach a backend.
pub(super) const WRONG: &str = "/wrong";

const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
/// What cannot be a field at all ends the connection, where the RFC asks for no more than the stream: the decoder finds
/// it in the middle of a block. It is a broken peer either way, and nothing of the block is used.
const UNREADABLE: Want = Connection(PROTOCOL);
const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "test");
const PATH: (&str, &str) = (":path", WRONG);

pub(super) fn cases() -> Vec<Case> {
    let mut all = names_and_values();
    all.extend(pseudo());
    all.extend(targets());
    all.extend(trailers());
    all
}

fn head(section: &'static str, what: &'static str, fields: &[(&str, &str)], want: Want) -> Case {
    Case::frames(section, what, &[Frame::new(HEADERS, END, 1, block(fields))], want)
}

/// A request that would be fine without this field.
fn with(section: &'static str, what: &'static str, field: (&str, &str), want: Want) -> Case {
    head(section, what, &[METHOD, SCHEME, AUTHORITY, PATH, field], want)
}

fn names_and_values() -> Vec<Case> {
    vec![
        with("8.2.1", "a name with a capital letter", ("X-Test", "a"), UNREADABLE),
        with("8.2.1", "a name with a space", ("x test", "a"), UNREADABLE),
        with("8.2.1", "a name with a line break", ("x\r\ntest", "a"), UNREADABLE),
        with("8.2.1", "a name with a colon", ("x:test", "a"), UNREADABLE),
        with("8.2.1", "no name", ("", "a"), UNREADABLE),
        with("8.2.1", "a value with a line break", ("x-test", "a\r\nx-more: b"), UNREADABLE),
        with("8.2.1", "a value with a line feed", ("x-test", "a\nb"), UNREADABLE),
        with("8.2.1", "a value with a NUL", ("x-test", "a\0b"), UNREADABLE),
        with("8.2.2", "connection", ("connection", "x-test"), Stream(PROTOCOL)),
        with("8.2.2", "keep-alive", ("keep-alive", "timeout=1"), Stream(PROTOCOL)),
        with("8.2.2", "proxy-connection", ("proxy-connection", "keep-alive"), Stream(PROTOCOL)),
        with("8.2.2", "transfer-encoding", ("transfer-encoding", "chunked"), Stream(PROTOCOL)),
        with("8.2.2", "upgrade", ("upgrade", "websocket"), Stream(PROTOCOL)),
        with("8.2.2", "te that asks for codings", ("te", "trailers, deflate"), Stream(PROTOCOL)),
        head(
            "8.2.2",
            "te that asks for trailers",
            &[METHOD, SCHEME, AUTHORITY, (":path", "/"), ("te", "trailers")],
            Status(200),
        ),
    ]
}

fn pseudo() -> Vec<Case> {
    let extra = ("x-test", "a");
    vec![
        with("8.3", "a pseudo-header that nobody knows", (":test", "a"), UNREADABLE),
        with("8.3", "the status of a response", (":status", "200"), Stream(PROTOCOL)),
        with("8.3", ":protocol without extended CONNECT", (":protocol", "websocket"), Stream(PROTOCOL)),
        head(
            "8.3",
            "a pseudo-header after a field",
            &[METHOD, SCHEME, AUTHORITY, extra, PATH],
            Stream(PROTOCOL),
        ),
        head("8.3.1", "no method", &[SCHEME, AUTHORITY, PATH], Stream(PROTOCOL)),
        head("8.3.1", "no scheme", &[METHOD, AUTHORITY, PATH], Stream(PROTOCOL)),
        head("8.3.1", "no path", &[METHOD, SCHEME, AUTHORITY], Stream(PROTOCOL)),
        head("8.3.1", "an empty path", &[METHOD, SCHEME, AUTHORITY, (":path", "")], Stream(PROTOCOL)),
        head("8.3.1", "two methods", &[METHOD, METHOD, SCHEME, AUTHORITY, PATH], Stream(PROTOCOL)),
        head("8.3.1", "two schemes", &[METHOD, SCHEME, SCHEME, AUTHORITY, PATH], Stream(PROTOCOL)),
        head("8.3.1", "two paths", &[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/")], Stream(PROTOCOL)),
        head(
            "8.3.1",
            "two authorities",
            &[METHOD, SCHEME, AUTHORITY, (":authority", "other"), PATH],
            Stream(PROTOCOL),
        ),
        head("8.3.1", "a method that is none", &[(":method", "GE T"), SCHEME, AUTHORITY, PATH], UNREADABLE),
    ]
}

fn targets() -> Vec<Case> {
    let path =
        |what, path| head("8.3.1", what, &[METHOD, SCHEME, AUTHORITY, (":path", path)], Stream(PROTOCOL));
    let authority =
        |what, name, want| head("8.3.1", what, &[METHOD, SCHEME, (":authority", name), PATH], want);
    vec![
        path("a path that does not begin with a slash", "wrong"),
        path("a path with a space", "/wrong /"),
        path("a path with a line break", "/wrong HTTP/1.1\r\nx: "),
        head(
            "8.3.1",
            "an absolute path",
            &[METHOD, SCHEME, AUTHORITY, (":path", "http://other/wrong")],
            Stream(PROTOCOL),
        ),
        head(
            "8.3.1",
            "* of a method other than OPTIONS",
            &[METHOD, SCHEME, AUTHORITY, (":path", "*")],
            Status(400),
        ),
        authority("an authority with a user", "me@test", Status(400)),
        authority("an authority with a path", "test/x", Stream(PROTOCOL)),
        authority("an authority with a line break", "test\r\nx: y", Stream(PROTOCOL)),
        head(
            "8.3.1",
            "two hosts beside no authority",
            &[METHOD, SCHEME, PATH, ("host", "a"), ("host", "b")],
            Status(400),
        ),
        head("8.5", "CONNECT", &[(":method", "CONNECT"), AUTHORITY], Status(400)),
        head(
            "8.5",
            "CONNECT with a path",
            &[(":method", "CONNECT"), SCHEME, AUTHORITY, PATH],
            Stream(PROTOCOL),
        ),
    ]
}

fn trailers() -> Vec<Case> {
    let after =
        |what, trailers: Frame, want| Case::new("8.1", what, [send(&[post(1), trailers])], want).hanging();
    vec![
        after(
            "HEADERS in the middle that do not end the stream",
            Frame::new(HEADERS, END_HEADERS, 1, block(&[("x-test", "a")])),
            Stream(PROTOCOL),
        ),
        // Malformed, but it goes no further: trailers have fields only, where they are kept.
        after(
            "a pseudo-header among the trailers",
            Frame::new(HEADERS, END, 1, block(&[(":method", "GET")])),
            Alive,
        ),
        after(
            "a capital letter among the trailers",
            Frame::new(HEADERS, END, 1, block(&[("X-Test", "a")])),
            UNREADABLE,
        ),
        after(
            "transfer-encoding among the trailers",
            Frame::new(HEADERS, END, 1, block(&[("transfer-encoding", "chunked")])),
            Stream(PROTOCOL),
        ),
    ]
}

/// Bodies that are not as long as was said (section 8.1.1).
pub(super) fn lengths() -> Vec<Case> {
    let begun =
        |length| Frame::new(HEADERS, END_HEADERS, 1, request("POST", "/", &[("content-length", length)]));
    let data = |bytes: &[u8], flags| Frame::new(DATA, flags, 1, bytes);
    let case = |what, frames: &[Frame]| Case::frames("8.1.1", what, frames, Stream(PROTOCOL));
    vec![
        case("less than was said", &[begun("4"), data(b"x", END_STREAM)]),
        case("less than was said, in two frames", &[begun("4"), data(b"x", 0), data(b"x", END_STREAM)]),
        case("more than was said", &[begun("1"), data(b"xyz", END_STREAM)]),
        case("more than was said, in two frames", &[begun("1"), data(b"x", 0), data(b"x", END_STREAM)]),
        case(
            "nothing where something was said",
            &[Frame::new(HEADERS, END, 1, request("POST", "/", &[("content-length", "4")]))],
        ),
        case(
            "trailers before the end of what was said",
            &[begun("4"), data(b"x", 0), Frame::new(HEADERS, END, 1, block(&[("x-test", "a")]))],
        ),
        case("a length that is no number", &[begun("+1"), data(b"x", END_STREAM)]),
        case(
            "two lengths",
            &[
                Frame::new(
                    HEADERS,
                    END_HEADERS,
                    1,
                    request("POST", "/", &[("content-length", "1"), ("content-length", "2")]),
                ),
                data(b"x", END_STREAM),
            ],
        ),
    ]
}
