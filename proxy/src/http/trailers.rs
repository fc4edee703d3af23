//! Which trailers are passed on. A field that says how to read, route or admit a message comes too late behind its body:
//! whoever merges it into the head would act on what no policy has seen.
//!
//! Source: RFC 9110, section 6.5.1.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    COOKIE, EXPECT, HOST, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName};
use http_body::Frame;

use super::headers::{KEEP_ALIVE, PROXY_CONNECTION, X_FORWARDED_FOR, X_FORWARDED_PROTO};
use crate::upstream::X_TIDEGATE_ATTEMPT;

const FOR_HEADS_ONLY: [HeaderName; 25] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    COOKIE,
    EXPECT,
    HOST,
    KEEP_ALIVE,
    MAX_FORWARDS,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    PROXY_CONNECTION,
    RANGE,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    WWW_AUTHENTICATE,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    X_TIDEGATE_ATTEMPT,
];

/// A frame of a body as it may go on.
pub(super) fn checked(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(trailers) => Frame::trailers(only_trailers(trailers)),
        Err(data) => data,
    }
}

fn only_trailers(mut fields: HeaderMap) -> HeaderMap {
    for name in &FOR_HEADS_ONLY {
        fields.remove(name);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_status_passes_behind_a_body_and_a_length_does_not() {
        let mut fields = HeaderMap::new();
        for name in ["grpc-status", "x-sum", "content-length", "host", "x-tidegate-attempt"] {
            fields.append(HeaderName::from_static(name), HeaderValue::from_static("0"));
        }
        let left = checked(Frame::trailers(fields)).into_trailers().unwrap();
        let mut left: Vec<_> = left.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-status", "x-sum"]);
        assert_eq!(checked(Frame::data(Bytes::from_static(b"x"))).into_data().unwrap(), "x");
    }
}
