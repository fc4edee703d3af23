//! What is kept of a request that may have to be sent again. Most never are, so it is made to be cheap to write: one
//! block of bytes, and not a map.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use tidegate_policy::call::is_idempotent;

use crate::http::RequestBody;

/// A copy of a request without a body.
#[derive(Debug)]
pub(crate) struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    fields: Fields,
}

/// Header fields in their order: for each, whether it is sensitive, the lengths of its name and value, and both.
#[derive(Debug)]
struct Fields(Vec<u8>);

const LENGTH: usize = size_of::<u32>();
/// For most heads.
const ROOM: usize = 512;
/// Before a name.
const PREFIX: usize = 1 + 2 * LENGTH;

impl Spare {
    pub(crate) fn of(request: &Request<RequestBody>) -> Option<Self> {
        // What opens a tunnel is more than its head.
        let whole = request.body().is_empty() && request.method() != Method::CONNECT;
        whole.then(|| Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            fields: Fields::of(request.headers()),
        })
    }

    /// Whether twice is as good as once (RFC 9110 section 9.2.2).
    pub(crate) fn is_repeatable(&self) -> bool {
        is_idempotent(&self.method)
    }

    pub(crate) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::EMPTY);
        *request.headers_mut() = self.fields.read();
        (*request.method_mut(), *request.uri_mut()) = (self.method, self.uri);
        *request.version_mut() = self.version;
        request
    }
}

impl Fields {
    fn of(headers: &HeaderMap) -> Self {
        let mut bytes = Vec::with_capacity(ROOM);
        for (name, value) in headers {
            let name = name.as_str().as_bytes();
            let mut prefix = [u8::from(value.is_sensitive()); PREFIX];
            prefix[1..=LENGTH].copy_from_slice(&length(name));
            prefix[1 + LENGTH..].copy_from_slice(&length(value.as_bytes()));
            bytes.extend_from_slice(&prefix);
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value.as_bytes());
        }
        Self(bytes)
    }

    fn read(&self) -> HeaderMap {
        let (mut headers, mut rest) = (HeaderMap::new(), &self.0[..]);
        while let Some((name, value, after)) = next(rest) {
            headers.append(name, value);
            rest = after;
        }
        headers
    }
}

/// No head is longer than what its protocol takes, which is far below this.
fn length(bytes: &[u8]) -> [u8; LENGTH] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn next(bytes: &[u8]) -> Option<(HeaderName, HeaderValue, &[u8])> {
    let (sensitive, bytes) = bytes.split_first()?;
    let (name, bytes) = bytes.split_first_chunk()?;
    let (value, bytes) = bytes.split_first_chunk()?;
    let (name, bytes) = bytes.split_at_checked(read_length(*name)?)?;
    let (value, bytes) = bytes.split_at_checked(read_length(*value)?)?;
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(*sensitive != 0);
    Some((HeaderName::from_bytes(name).ok()?, value, bytes))
}

fn read_length(bytes: [u8; LENGTH]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_requests_may_be_sent_twice_whatever_became_of_the_first() {
        let spare = |method| {
            let request = Request::builder().method(method).uri("/").body(RequestBody::EMPTY).unwrap();
            Spare::of(&request).is_some_and(|spare| spare.is_repeatable())
        };
        assert!(spare(Method::GET) && spare(Method::DELETE));
        assert!(!spare(Method::POST) && !spare(Method::PATCH));
    }

    #[test]
    fn what_is_sent_again_is_what_was_sent() {
        let mut secret = HeaderValue::from_static("s3cret");
        secret.set_sensitive(true);
        let request = Request::delete("/a?b=c")
            .version(Version::HTTP_2)
            .header("x-twice", "1")
            .header("authorization", secret)
            .header("x-empty", "")
            .header("x-twice", "2")
            .header("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap())
            .header("x-long", "x".repeat(70_000))
            .body(RequestBody::EMPTY)
            .unwrap();
        let again = Spare::of(&request).unwrap().into_request();
        assert_eq!(
            (again.method(), again.uri(), again.version(), again.headers()),
            (request.method(), request.uri(), request.version(), request.headers())
        );
        assert!(
            again.headers()["authorization"].is_sensitive() && !again.headers()["x-empty"].is_sensitive()
        );
    }
}
