//! What must hold whatever bytes a stranger sends, one function each: `fuzz/` throws bytes at them for as long as one likes,
//! and a test throws some at each in every run. A property that does not hold panics; no parser may panic, whatever holds.

use http::{HeaderMap, HeaderValue};

use super::{client_hello, proxy_header};
use crate::telemetry::passed_on;

/// Panics where it does not hold.
pub type Property = fn(&[u8]);

/// Properties by the name of their fuzz target.
pub const ALL: [(&str, Property); 3] =
    [("client_hello", hello), ("proxy_header", header), ("trace_context", trace_context)];

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.96.0.7 4000 80\r\nGET / HTTP/1.1\r\n";
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN whatever\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\x60\0\x07\x0f\xa0\0\x50more";
/// A client that asks for `a.example` and offers TLS 1.3 without a key.
const HELLO: &[u8] = b"\x16\x03\x01\0\x54\x01\0\0\x50\x03\x03\
    0123456789abcdef0123456789abcdef\0\0\x04\x13\x01\x13\x02\x01\0\0\x23\
    \0\0\0\x0e\0\x0c\0\0\x09a.example\0\x2b\0\x05\x04\x03\x04\x03\x03\0\x0d\0\x04\0\x02\x04\x03";
const PARENT: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\na=b,c@d=e";

/// Where throwing bytes begins.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let seeds: &[&[u8]] = match target {
        "client_hello" => &[HELLO],
        "proxy_header" => &[V1, V1_UNKNOWN, V2],
        _ => &[PARENT],
    };
    seeds.iter().map(|seed| seed.to_vec()).collect()
}

/// A header takes no more than it has, and what follows it changes nothing.
///
/// # Panics
/// Where that does not hold.
pub fn header(bytes: &[u8]) {
    let Some((told, length)) = proxy_header(bytes) else { return };
    assert!((1..=bytes.len()).contains(&length), "{length} of {}", bytes.len());
    assert_eq!(proxy_header(&bytes[..length]), Some((told, length)));
    assert_eq!(proxy_header(&[bytes, b"more"].concat()), Some((told, length)));
    assert_eq!(proxy_header(&bytes[..length - 1]), None, "the last byte belongs to it");
}

/// A name is one that DNS can hold, in lower case.
///
/// # Panics
/// Where that does not hold.
pub fn hello(bytes: &[u8]) {
    let Some(Some(name)) = client_hello(bytes) else { return };
    assert!(!name.is_empty() && name.len() <= 253, "{name:?}");
    assert!(!name.bytes().any(|b| b.is_ascii_uppercase() || b.is_ascii_control()), "{name:?}");
}

/// The trace that is passed on is passed on unchanged by the next, in the one form that we write. Lines are the
/// `traceparent` and any number of `tracestate`.
///
/// # Panics
/// Where that does not hold.
pub fn trace_context(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for (at, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        headers.append(if at == 0 { "traceparent" } else { "tracestate" }, value);
    }
    let Some(out) = passed_on(&headers) else { return };
    assert_eq!(out["traceparent"].len(), 55, "{out:?}");
    assert_eq!(&out["traceparent"].as_bytes()[3..52], &headers["traceparent"].as_bytes()[3..52]);
    assert_eq!(passed_on(&out).as_ref(), Some(&out));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::Index;

    #[test]
    fn the_seeds_are_read_and_every_property_holds_for_them() {
        for (name, property) in ALL {
            seeds(name).iter().for_each(|seed| property(seed));
        }
        assert_eq!(client_hello(HELLO), Some(Some("a.example".into())));
        let told = proxy_header(V2).unwrap();
        assert_eq!((told.0, told.1), (proxy_header(V1).unwrap().0, 28));
        assert_eq!(proxy_header(V1_UNKNOWN), Some((None, V1_UNKNOWN.len())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn every_property_holds_for_bytes_near_the_seeds(
            property in 0..ALL.len(),
            seed in any::<Index>(),
            edits in prop::collection::vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..6),
            end in prop::option::of(any::<Index>()),
        ) {
            let (name, property) = ALL[property];
            let mut bytes = seed.get(&seeds(name)).clone();
            for (at, byte, how) in edits {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => bytes[at] ^= 1 << (byte % 8),
                }
            }
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len()));
            }
            property(&bytes);
        }
    }
}
