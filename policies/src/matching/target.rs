//! One way to write a path: what is matched is what is forwarded, and no other way to write it meets other policies.
//!
//! | in the path | what becomes of it | why |
//! |---|---|---|
//! | `%41`, `%7E`, `%2D` (unreserved) | decoded | equivalent, RFC 3986 section 6.2.2.2 |
//! | `%c3`, `%2f` | `%C3`, `%2F` | equivalent, section 6.2.2.1 |
//! | `é`, `"`, `<`, `{`, `\|`, `^` … as they are | percent-encoded | not allowed in a path (section 3.3); encoded is what they mean |
//! | `.` and `..`, `%2e` too | resolved; no further up than `/` | section 6.2.2.3 |
//! | `//` | one slash | servers differ over empty elements, and a match cannot be written with one |
//! | `%2F`, `%5C`, `\`, other reserved characters encoded | kept, if decoding them leads to no other rule; else refused | see [`decoded`] |
//! | an element that is `.` or `..` once these are decoded or `;params` are left out | refused | only meant to climb |
//! | `%00` | refused | ends the path for some servers |
//! | `%`, `%4`, `%zz` | refused | means nothing, section 2.1 |
//! | `;params` | kept as text | a server's own affair, section 3.3 |
//! | the query | kept | opaque; parameters are decoded where they are compared |
//! | a fragment | cut off by the HTTP parser | never part of a request, RFC 9110 section 4.2.5 |
//!
//! `OPTIONS *` has no path and CONNECT no target of ours: the shell deals with both, as with absolute-form targets. What
//! a sidecar passes on to an address that is no Service's stays as it is: no policy looks at it.
//!
//! Envoy's names for the same choices: `normalize_path: true`, `merge_slashes: true`, and for
//! `path_with_escaped_slashes_action` neither of its four: `KEEP_UNCHANGED` where it is harmless, `REJECT_REQUEST` where
//! it is not. To refuse them all would break names with a slash in them (`/@scope%2Fname`), to keep them all lets
//! `/admin%2Fusers` pass by the rule for `/admin`, and to decode them changes what the client asked for.

use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// Why a path cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathFault {
    #[error("`%` is not followed by two hexadecimal digits")]
    Escape,
    #[error("it holds a NUL character")]
    Nul,
    #[error("it hides a `.` or `..` element")]
    HiddenDots,
}

/// The one way to write `path`, an absolute path without query. Borrowed where it is written so already.
///
/// # Errors
/// See the table of the module.
pub fn normalize_path(path: &str) -> Result<Cow<'_, str>, PathFault> {
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let escaped = escape(path)?;
    if hides_dots(&escaped) {
        return Err(PathFault::HiddenDots);
    }
    Ok(Cow::Owned(resolve(&escaped)))
}

/// What a server reads that decodes `path` before it takes it apart: `\` and encoded slashes as slashes, reserved
/// characters as themselves. `None` where there is only one way to read it. `path` is normalised.
///
/// If this reading leads to another rule than the path itself, an encoding would decide which policies apply: such a
/// request must be refused.
pub fn decoded(path: &str) -> Option<String> {
    // Not `contains`, which costs more than a short path has bytes.
    if path.bytes().all(|b| b != b'%') {
        return None;
    }
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        let escape = rest.get(at..at + 3)?;
        match byte(escape) {
            Some(b'/' | b'\\') => text.push('/'),
            Some(b) if is_path_byte(b) => text.push(char::from(b)),
            _ => text.push_str(escape),
        }
        rest = &rest[at + 3..];
    }
    text.push_str(rest);
    (text != path).then(|| resolve(&text))
}

/// Whether there is nothing to do. Most paths: one pass over the bytes.
fn is_plain(path: &str) -> bool {
    let mut before = b'-';
    path.bytes().all(|b| {
        let dubious = before == b'/' && matches!(b, b'/' | b'.');
        before = b;
        !dubious && (b == b'/' || is_path_byte(b))
    })
}

/// RFC 3986 `pchar`, without escapes: what may stand in an element as it is.
fn is_path_byte(b: u8) -> bool {
    PATH_BYTES[usize::from(b)]
}

const fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

/// A table, because each request is asked about each byte.
const PATH_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut b = 0_u8;
    while b < 128 {
        let is_sub_delim =
            matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        bytes[b as usize] = is_unreserved(b) || is_sub_delim || matches!(b, b':' | b'@');
        b += 1;
    }
    bytes
};

/// The byte that `%XX` stands for.
fn byte(escape: &str) -> Option<u8> {
    let digits = escape.strip_prefix('%').filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Each character in the one way to write it, slashes and dots left where they are.
fn escape(path: &str) -> Result<String, PathFault> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(path.len() + 8);
    let mut at = 0;
    while let Some(found) = path.as_bytes().get(at) {
        let (b, is_escape) = match found {
            b'%' => (path.get(at..at + 3).and_then(byte).ok_or(PathFault::Escape)?, true),
            b => (*b, false),
        };
        at += if is_escape { 3 } else { 1 };
        let as_it_is = if is_escape { is_unreserved(b) } else { b == b'/' || is_path_byte(b) };
        match b {
            0 => return Err(PathFault::Nul),
            _ if as_it_is => text.push(char::from(b)),
            _ => {
                let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
                text.extend(['%', digit(b >> 4), digit(b & 15)]);
            }
        }
    }
    Ok(text)
}

/// `..%2F`, `%5C..`, `..;x`: dots that only some servers would see.
fn hides_dots(escaped: &str) -> bool {
    let ambiguous = |element: &&str| element.contains(['%', ';']);
    escaped.split('/').filter(ambiguous).any(|element| {
        let parts = element.split("%2F").flat_map(|part| part.split("%5C"));
        parts.flat_map(|part| part.split("%3B").next()).filter_map(|part| part.split(';').next()).any(is_dots)
    })
}

fn is_dots(element: &str) -> bool {
    element == "." || element == ".."
}

/// Without dot segments and empty elements. A trailing slash stays, and a dot segment at the end leaves one.
fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut open = true;
    for element in path.split('/') {
        open = element.is_empty() || is_dots(element);
        match element {
            ".." => drop(kept.pop()),
            "" | "." => {}
            name => kept.push(name),
        }
    }
    let mut text = String::with_capacity(path.len());
    for name in &kept {
        text.push('/');
        text.push_str(name);
    }
    if open {
        text.push('/');
    }
    text
}
