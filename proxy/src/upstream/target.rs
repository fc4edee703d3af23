//! The request in the form that the next hop's protocol wants.

use http::header::{CONNECTION, HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request};
use tidegate_policy::Reason;
use tidegate_policy::call::is_idempotent;

use super::pool::Protocol;
use crate::http::RequestBody;

/// Turns a normalised request (path in the URI, authority in `host`) into one for `protocol`. `endpoint` stands in for
/// a host that an HTTP/1.0 client did not send. The scheme is that of the connection.
///
/// # Errors
/// [`Reason::BadRequest`]: the target has no form in that protocol.
pub(crate) fn addressed<B>(
    mut request: Request<B>,
    (protocol, scheme): (Protocol, Scheme),
    endpoint: &str,
) -> Result<Request<B>, Reason> {
    match protocol {
        Protocol::Http1 => {
            *request.version_mut() = Version::HTTP_11;
            let headers = request.headers_mut();
            if !headers.contains_key(HOST) {
                let host = HeaderValue::from_str(endpoint).map_err(|_| Reason::BadRequest)?;
                headers.insert(HOST, host);
            }
            if headers.contains_key(TE) {
                // RFC 9110 10.1.4: whoever sends TE says so.
                headers.insert(CONNECTION, HeaderValue::from_static("te"));
            }
        }
        Protocol::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            let authority = match request.headers_mut().remove(HOST) {
                Some(host) => Authority::try_from(host.as_bytes()),
                None => Authority::try_from(endpoint),
            };
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(scheme);
            parts.authority = Some(authority.map_err(|_| Reason::BadRequest)?);
            parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Reason::BadRequest)?;
        }
    }
    Ok(request)
}

/// A copy of a request that may be sent twice: without a body, and of a method that says twice is as good as once
/// (RFC 9110 section 9.2.2).
#[derive(Debug)]
pub(crate) struct Spare(request::Parts);

impl Spare {
    pub(crate) fn of(request: &Request<RequestBody>) -> Option<Self> {
        let repeatable = request.body().is_empty() && is_idempotent(request.method());
        let head = (request.method(), request.uri(), request.version(), request.headers());
        repeatable.then(|| Self(copy(head)))
    }

    pub(crate) fn into_request(self) -> Request<RequestBody> {
        Request::from_parts(self.0, RequestBody::EMPTY)
    }
}

/// A copy of a head without its extensions, which belong to one connection.
pub(crate) fn head_copy(head: &request::Parts) -> request::Parts {
    copy((&head.method, &head.uri, head.version, &head.headers))
}

fn copy((method, uri, version, headers): (&Method, &Uri, Version, &HeaderMap)) -> request::Parts {
    let mut copy = Request::new(()).into_parts().0;
    copy.method.clone_from(method);
    copy.uri.clone_from(uri);
    copy.version = version;
    copy.headers.clone_from(headers);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: &str, path: &str) -> Request<()> {
        Request::get(path).header(HOST, host).body(()).unwrap()
    }

    #[test]
    fn http_2_carries_the_host_as_authority() {
        let request =
            addressed(request("cart.shop:8080", "/a?b"), (Protocol::Http2, Scheme::HTTPS), "10.0.0.1:80")
                .unwrap();
        assert_eq!(request.uri(), "https://cart.shop:8080/a?b");
        assert!(!request.headers().contains_key(HOST));
        assert_eq!(request.version(), Version::HTTP_2);
    }

    #[test]
    fn http_1_keeps_the_host_and_gets_one_where_there_was_none() {
        let with = addressed(request("cart", "/a"), (Protocol::Http1, Scheme::HTTP), "10.0.0.1:80").unwrap();
        assert_eq!(
            (with.uri().to_string().as_str(), &with.headers()[HOST]),
            ("/a", &HeaderValue::from_static("cart"))
        );
        let without =
            addressed(Request::get("/").body(()).unwrap(), (Protocol::Http1, Scheme::HTTP), "10.0.0.1:80")
                .unwrap();
        assert_eq!(without.headers()[HOST], "10.0.0.1:80");
    }

    #[test]
    fn only_idempotent_requests_without_a_body_may_be_sent_twice() {
        let spare = |method| {
            let request = Request::builder().method(method).uri("/").body(RequestBody::EMPTY).unwrap();
            Spare::of(&request).is_some()
        };
        assert!(spare(Method::GET) && spare(Method::DELETE));
        assert!(!spare(Method::POST) && !spare(Method::PATCH));
    }
}
