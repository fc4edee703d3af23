//! Which headers of a service's answer are passed on: not those that frame a message, hold a connection together or say what
//! this proxy says itself.

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, RETRY_AFTER, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::kinds::rate_limit::told::Told;

const NEVER: [HeaderName; 12] = [
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    HOST,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Adds to the answer's headers what a service wants there. `Retry-After` is written from what the service says of its
/// limits.
pub(super) fn to_response(written: &[(HeaderName, HeaderValue)], told: Told, headers: &mut HeaderMap) {
    let is_ours = |name: &str| {
        let (draft, x) = (name.starts_with("ratelimit"), name.starts_with("x-ratelimit-"));
        name == RETRY_AFTER.as_str() || is_reserved(name) || (told.draft && draft) || (told.x && x)
    };
    add(written, headers, is_ours);
}

/// Adds to a request's headers what a service wants there. From whom a request came, this proxy says.
pub(super) fn to_request(written: &[(HeaderName, HeaderValue)], headers: &mut HeaderMap) {
    let is_ours =
        |name: &str| name == FORWARDED.as_str() || name.starts_with("x-forwarded-") || is_reserved(name);
    add(written, headers, is_ours);
}

fn is_reserved(name: &str) -> bool {
    name.starts_with("x-tidegate-") || name.starts_with("grpc-")
}

fn add(written: &[(HeaderName, HeaderValue)], headers: &mut HeaderMap, is_ours: impl Fn(&str) -> bool) {
    for (name, value) in written {
        if !NEVER.contains(name) && !is_ours(name.as_str()) {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// The first of that name.
pub(super) fn find<'a>(
    written: &'a [(HeaderName, HeaderValue)],
    name: &HeaderName,
) -> Option<&'a HeaderValue> {
    written.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}
