//! The request in the form that the next hop's protocol wants.

use http::header::{CONNECTION, COOKIE, HOST, SEC_WEBSOCKET_KEY, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, request};
use hyper::ext::Protocol as Extended;
use tidegate_policy::Reason;

use super::pool::Protocol;
use crate::http::Names;

const WEBSOCKET: &[u8] = b"websocket";

/// Turns a normalised request (path in the URI, authority in `host`) into one for `protocol`. `endpoint` stands in for
/// a host that an HTTP/1.0 client did not send. The scheme is that of the connection.
///
/// # Errors
/// [`Reason::BadRequest`]: the target has no form in that protocol. [`Reason::UpgradeUnsupported`]: it asks for a protocol
/// that HTTP/2 does not carry.
pub(crate) fn addressed<B>(
    mut request: Request<B>,
    (protocol, scheme): (Protocol, Scheme),
    endpoint: &str,
) -> Result<Request<B>, Reason> {
    if protocol == Protocol::Http2 && request.headers().contains_key(UPGRADE) {
        extend(&mut request)?;
    }
    let connect = request.method() == Method::CONNECT && request.extensions().get::<Extended>().is_none();
    match protocol {
        Protocol::Http1 => {
            *request.version_mut() = Version::HTTP_11;
            let headers = request.headers_mut();
            let names = Names::of(headers);
            if !names.has(Names::HOST) {
                let host = HeaderValue::from_str(endpoint).map_err(|_| Reason::BadRequest)?;
                headers.insert(HOST, host);
            }
            if names.has(Names::TE) {
                // RFC 9110 10.1.4: whoever sends TE says so.
                headers.append(CONNECTION, HeaderValue::from_static("te"));
            }
            if names.has(Names::COOKIE) {
                join_cookies(headers);
            }
            if connect {
                let host = request.headers().get(HOST).ok_or(Reason::BadRequest)?;
                let authority = Authority::try_from(host.as_bytes()).map_err(|_| Reason::BadRequest)?;
                *request.uri_mut() = Uri::from(authority);
            }
        }
        Protocol::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            let authority = match request.headers_mut().remove(HOST) {
                Some(host) => Authority::try_from(host.as_bytes()),
                None => Authority::try_from(endpoint),
            };
            let authority = authority.map_err(|_| Reason::BadRequest)?;
            if connect {
                *request.uri_mut() = Uri::from(authority);
                return Ok(request);
            }
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(scheme);
            parts.authority = Some(authority);
            parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Reason::BadRequest)?;
        }
    }
    Ok(request)
}

/// HTTP/2 may cut a cookie field up, HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// An upgrade as extended CONNECT (RFC 8441, section 5).
fn extend<B>(request: &mut Request<B>) -> Result<(), Reason> {
    let headers = request.headers_mut();
    headers.remove(CONNECTION);
    if headers.remove(UPGRADE).is_none_or(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET)) {
        return Err(Reason::UpgradeUnsupported);
    }
    // Its client would wait for it to be answered.
    headers.remove(SEC_WEBSOCKET_KEY).ok_or(Reason::BadRequest)?;
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Extended::from_static("websocket"));
    Ok(())
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
    fn a_websocket_is_an_extended_connect_in_http_2_and_no_other_upgrade_is() {
        let upgrade = |protocol: &'static str| {
            let mut request = request("cart", "/ws");
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            request
                .headers_mut()
                .insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
            addressed(request, (Protocol::Http2, Scheme::HTTP), "10.0.0.1:80")
        };
        let request = upgrade("WebSocket").unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string().as_str()),
            (&Method::CONNECT, "http://cart/ws")
        );
        assert_eq!(request.extensions().get(), Some(&Extended::from_static("websocket")));
        assert!(request.headers().is_empty(), "{:?}", request.headers());
        assert_eq!(upgrade("tls/1.3").unwrap_err(), Reason::UpgradeUnsupported);
    }

    #[test]
    fn connect_has_its_authority_for_a_target_in_either_protocol() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let mut connect = request("db:5432", "/");
            *connect.method_mut() = Method::CONNECT;
            let connect = addressed(connect, (protocol, Scheme::HTTP), "10.0.0.1:80").unwrap();
            assert_eq!(connect.uri(), "db:5432");
        }
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
}
