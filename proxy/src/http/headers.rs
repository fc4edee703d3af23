//! What must change in a request's or response's headers because a proxy passes it on.
//!
//! Source: RFC 9110 section 7.6 (hop-by-hop fields; no `via`, as we are no intermediary that a client chose), RFC 9112
//! section 3.2 (one host), RFC 9113 section 8.2.2 (no connection-specific fields in HTTP/2).

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::BytesMut;
use data_encoding::HEXLOWER;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE};
use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request, response};
use smallvec::SmallVec;
use tidegate_policy::Reason;
use tidegate_policy::matching::target;

use super::names::Names;

pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Brings every form of request target into one: path and query in the URI, the authority in `host`.
///
/// # Errors
/// [`Reason::BadRequest`]: no host where HTTP/1.1 demands one, several, one that is not valid, or a target in a form
/// that is for CONNECT or OPTIONS only, or that CONNECT does not have. [`Reason::UpgradeUnsupported`]: an extended
/// CONNECT (RFC 8441) is left, whose protocol nobody has made sense of.
pub(crate) fn normalize_target(head: &mut request::Parts) -> Result<(), Reason> {
    let authority_form = head.uri.scheme().is_none() && head.uri.authority().is_some();
    let asterisk_form = head.uri.path() == "*" && head.method != Method::OPTIONS;
    if head.method == Method::CONNECT {
        if !authority_form {
            let extended = head.version == Version::HTTP_2 && head.uri.scheme().is_some();
            return Err(if extended { Reason::UpgradeUnsupported } else { Reason::BadRequest });
        }
        // RFC 9110 9.3.6: there is no port to fall back on.
        if head.uri.port_u16().is_none_or(|port| port == 0) {
            return Err(Reason::BadRequest);
        }
    } else if authority_form || asterisk_form {
        return Err(Reason::BadRequest);
    }
    if let Some(authority) = head.uri.authority() {
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadRequest)?;
        head.headers.insert(HOST, host);
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        head.uri = Uri::from(path);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => valid_host(host),
        (None, _) if head.version == Version::HTTP_11 => Err(Reason::BadRequest),
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Reason::BadRequest),
    }
}

/// Writes the path in one way, for policies and backends alike ([`tidegate_policy::matching::target`]).
///
/// # Errors
/// [`Reason::BadRequest`]: the path means nothing, or hides something.
pub(crate) fn normalize_path(head: &mut request::Parts) -> Result<(), Reason> {
    let path = head.uri.path();
    if path == "*" {
        return Ok(());
    }
    let Cow::Owned(mut target) = target::normalize_path(path).map_err(|_| Reason::BadRequest)? else {
        return Ok(());
    };
    if let Some(query) = head.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    head.uri = Uri::from(PathAndQuery::try_from(target).map_err(|_| Reason::BadRequest)?);
    Ok(())
}

fn valid_host(host: &HeaderValue) -> Result<(), Reason> {
    if is_plain_host(host.as_bytes()) {
        return Ok(());
    }
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| Reason::BadRequest)?;
    let (text, no_port) = (authority.as_str(), authority.port_u16().is_none());
    // A port may be left out, also behind a colon (RFC 3986, section 3.2.3), but not be none.
    let bad_port = no_port && !matches!(text.strip_prefix(authority.host()), Some("" | ":"));
    if text.contains('@') || bad_port { Err(Reason::BadRequest) } else { Ok(()) }
}

/// A name or an IPv4 address, and at most a port: what most hosts are, and what needs no parser to be known as one.
fn is_plain_host(host: &[u8]) -> bool {
    let colon = host.iter().position(|b| *b == b':').unwrap_or(host.len());
    let (name, port) = host.split_at(colon);
    let in_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let digits = port.get(1..).unwrap_or_default();
    // Four digits are a port whatever they are.
    let in_range = digits.len() <= 4 || digits.len() == 5 && digits <= &b"65535"[..];
    !name.is_empty() && name.iter().all(in_name) && digits.iter().all(u8::is_ascii_digit) && in_range
}

/// A body is coded in chunks or not at all: we take the chunks apart, and would pass on what any other coding left
/// without saying how to read it (RFC 9112 section 6.1).
///
/// # Errors
/// [`Reason::BadRequest`]: another transfer coding, or chunked more than once.
pub(crate) fn check_framing(headers: &HeaderMap, names: Names) -> Result<(), Reason> {
    if !names.has(Names::TRANSFER_ENCODING) {
        return Ok(());
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next().is_none_or(|v| v.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if first && codings.next().is_none() { Ok(()) } else { Err(Reason::BadRequest) }
}

/// The protocol that the client asks to switch to, if we can carry it: anything opaque, so not another HTTP, in which
/// requests would pass that no policy has seen.
pub(crate) fn upgrade_wanted(head: &request::Parts, names: Names) -> Option<HeaderValue> {
    if head.version != Version::HTTP_11 || !names.has(Names::UPGRADE) {
        return None;
    }
    let mut offers = head.headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (offers.next(), offers.next()) else { return None };
    let asked = head.headers.get_all(CONNECTION).iter().any(|v| has_token(v, "upgrade"));
    (asked && !offers_http(protocol)).then(|| protocol.clone())
}

fn offers_http(protocols: &HeaderValue) -> bool {
    let is_http = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        ["h2", "h3", "http"].iter().any(|http| name.starts_with(http))
    };
    protocols.to_str().map_or(true, |list| list.split(',').any(is_http))
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().any(|v| has_token(v, "trailers"))
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
}

/// Removes what was meant for this hop only. `te: trailers` stays, as it speaks for the client behind us. Returns the names
/// that are left, and perhaps some of this hop that are gone.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap, names: Names) -> Names {
    if !names.has(Names::HOP_BY_HOP) {
        return names;
    }
    let listed = names.has(Names::CONNECTION) && strip_listed(headers);
    if names.has(Names::TE) {
        let trailers = wants_trailers(headers);
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if names.has(Names::TRANSFER_ENCODING) && headers.remove(TRANSFER_ENCODING).is_some() {
        // RFC 9112 6.3: the length that came with it is not to be believed, least of all by the next hop.
        headers.remove(CONTENT_LENGTH);
    }
    for (name, here) in [
        (KEEP_ALIVE, Names::KEEP_ALIVE),
        (PROXY_CONNECTION, Names::PROXY_CONNECTION),
        (PROXY_AUTHENTICATE, Names::PROXY_AUTHENTICATE),
        (PROXY_AUTHORIZATION, Names::PROXY_AUTHORIZATION),
        (UPGRADE, Names::UPGRADE),
    ] {
        if names.has(here) {
            headers.remove(name);
        }
    }
    if listed { Names::of(headers) } else { names }
}

/// A 204 has no length (RFC 9110 section 8.6). A 304 may have that of what it stands for, but hyper cannot send it over
/// HTTP/1.1, and would warn of each.
pub(crate) fn strip_length(head: &mut response::Parts, http1: bool) {
    match head.status {
        StatusCode::NO_CONTENT => {}
        StatusCode::NOT_MODIFIED if http1 => {}
        _ => return,
    }
    head.headers.remove(CONTENT_LENGTH);
}

/// Removes `connection` and what it lists. Whether that was anything of a message.
fn strip_listed(headers: &mut HeaderMap) -> bool {
    let mut listed: SmallVec<[HeaderName; 2]> = SmallVec::new();
    for value in headers.get_all(CONNECTION) {
        let names = value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii);
        // What most connections say; the fields of these names go anyway, or have no meaning.
        let named = |n: &&[u8]| !n.eq_ignore_ascii_case(b"keep-alive") && !n.eq_ignore_ascii_case(b"close");
        listed.extend(names.filter(named).filter_map(|n| HeaderName::from_bytes(n).ok()));
    }
    headers.remove(CONNECTION);
    for name in &listed {
        // A request without its host or its length is another request.
        if ![HOST, CONTENT_LENGTH, TE, TRANSFER_ENCODING].contains(name) {
            headers.remove(name);
        }
    }
    !listed.is_empty()
}

/// Tells the backend who asked, and under which id: appends to `x-forwarded-for`, and fills in what is absent.
pub(crate) fn add_forwarded(
    headers: &mut HeaderMap,
    names: Names,
    client: &HeaderValue,
    scheme: &'static str,
    rng: &mut fastrand::Rng,
) {
    if names.has(Names::X_FORWARDED_FOR) {
        forwarded_for(headers, client);
    } else {
        headers.append(X_FORWARDED_FOR, client.clone());
    }
    if !names.has(Names::X_FORWARDED_PROTO) {
        headers.append(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if !names.has(Names::X_REQUEST_ID) {
        headers.append(X_REQUEST_ID, request_id(rng));
    }
}

/// A client's address, as `x-forwarded-for` has it.
pub(crate) fn client_address(client: IpAddr) -> HeaderValue {
    let client = client.to_canonical();
    HeaderValue::try_from(client.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

fn forwarded_for(headers: &mut HeaderMap, client: &HeaderValue) {
    let mut earlier = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let value = match earlier.next() {
        None => client.clone(),
        Some(first) => {
            let mut hops = BytesMut::from(first);
            for hop in earlier.map(str::as_bytes).chain([client.as_bytes()]) {
                hops.extend_from_slice(b", ");
                hops.extend_from_slice(hop);
            }
            let Ok(value) = HeaderValue::from_maybe_shared(hops.freeze()) else { return };
            value
        }
    };
    headers.insert(X_FORWARDED_FOR, value);
}

/// A random UUID (RFC 9562, version 4).
fn request_id(rng: &mut fastrand::Rng) -> HeaderValue {
    let bits = (rng.u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let (mut digits, mut text) = ([0; 32], [b'-'; 36]);
    HEXLOWER.encode_mut(&bits.to_be_bytes(), &mut digits);
    for (from, to) in [(0..8, 0..8), (8..12, 9..13), (12..16, 14..18), (16..20, 19..23), (20..32, 24..36)] {
        text[to].copy_from_slice(&digits[from]);
    }
    let mut id = HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"));
    // No secret, but to HTTP/2's header compression the same: what comes once is not worth a place in its table.
    id.set_sensitive(true);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn head(request: http::request::Builder) -> request::Parts {
        request.body(()).unwrap().into_parts().0
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn forward(map: &mut HeaderMap, rng: &mut fastrand::Rng) {
        add_forwarded(map, Names::of(map), &client_address(IpAddr::from([127, 0, 0, 1])), "http", rng);
    }

    fn wanted(request: http::request::Builder) -> Option<HeaderValue> {
        let head = head(request);
        upgrade_wanted(&head, Names::of(&head.headers))
    }

    #[test]
    fn an_absolute_target_overrides_the_host_header() {
        let mut head = head(Request::get("http://cart.shop:8080/a?b=c").header(HOST, "elsewhere"));
        assert_eq!(normalize_target(&mut head), Ok(()));
        assert_eq!(head.headers[HOST], "cart.shop:8080");
        assert_eq!(head.uri, "/a?b=c");
    }

    #[test]
    fn a_request_with_no_one_clear_host_is_refused() {
        let two = Request::get("/").header(HOST, "a").header(HOST, "b");
        let none = Request::get("/");
        let user = Request::get("/").header(HOST, "me@a");
        let space = Request::get("/").header(HOST, "a b");
        let port = Request::get("/").header(HOST, "a:99999");
        let connect = Request::builder().method(Method::CONNECT).uri("/").header(HOST, "a:80");
        let portless = Request::builder().method(Method::CONNECT).uri("a").header(HOST, "a");
        let authority = Request::get("a:80").header(HOST, "b");
        let asterisk = Request::get("*").header(HOST, "a");
        for request in [two, none, user, space, port, connect, portless, authority, asterisk] {
            assert_eq!(normalize_target(&mut head(request)), Err(Reason::BadRequest));
        }
    }

    #[test]
    fn connect_is_matched_as_if_it_were_for_the_root_of_its_authority() {
        let connect =
            Request::builder().method(Method::CONNECT).uri("db.shop:5432").header(HOST, "elsewhere");
        let mut head = head(connect);
        assert_eq!(normalize_target(&mut head), Ok(()));
        assert_eq!(
            (head.uri.to_string().as_str(), &head.headers[HOST]),
            ("/", &HeaderValue::from_static("db.shop:5432"))
        );
    }

    #[test]
    fn a_path_is_written_in_one_way_whatever_the_form_of_the_target_and_the_query_stays() {
        for (uri, want) in [
            ("/a/../%7eb//c?x=%2e%2e//", Ok("/~b/c?x=%2e%2e//")),
            ("http://cart.shop/a/./b", Ok("/a/b")),
            ("http://cart.shop", Ok("/")),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a%2f..", Err(Reason::BadRequest)),
            ("/%zz", Err(Reason::BadRequest)),
        ] {
            let mut head = head(Request::get(uri).header(HOST, "cart.shop"));
            let outcome = normalize_target(&mut head).and_then(|()| normalize_path(&mut head));
            let outcome = outcome.map(|()| head.uri.to_string());
            assert_eq!(outcome.as_deref(), want.as_deref(), "{uri}");
        }
        let mut options = head(Request::options("*").header(HOST, "a"));
        assert_eq!(normalize_path(&mut options), Ok(()));
        assert_eq!(options.uri, "*");
    }

    #[test]
    fn a_path_that_becomes_too_long_is_refused() {
        let mut head = head(Request::get(format!("/{}", "{".repeat(30_000))).header(HOST, "a"));
        assert_eq!(normalize_path(&mut head), Err(Reason::BadRequest));
    }

    #[test]
    fn a_host_may_be_a_name_or_an_address_with_or_without_a_port() {
        for host in ["a", "a:80", "a:", "[::1]", "[::1]:8080", "10.0.0.1:65535"] {
            assert_eq!(normalize_target(&mut head(Request::get("/").header(HOST, host))), Ok(()), "{host}");
        }
    }

    #[test]
    fn http_1_0_may_come_without_a_host() {
        assert_eq!(normalize_target(&mut head(Request::get("/").version(Version::HTTP_10))), Ok(()));
    }

    #[test]
    fn hop_by_hop_headers_and_those_named_by_connection_end_here() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("connection", "host"),
            ("host", "a"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("content-length", "4"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        let names = Names::of(&map);
        strip_hop_by_hop(&mut map, names);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te", "x-kept"]);
        assert_eq!(map[TE], "trailers");
    }

    #[test]
    fn the_client_is_appended_to_those_before_it() {
        let mut map = headers(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-for", "10.0.0.2")]);
        forward(&mut map, &mut fastrand::Rng::with_seed(1));
        assert_eq!(map.get_all(X_FORWARDED_FOR).iter().count(), 1);
        assert_eq!(map[X_FORWARDED_FOR], "10.0.0.1, 10.0.0.2, 127.0.0.1");
        assert_eq!(map[X_FORWARDED_PROTO], "http");
    }

    #[test]
    fn a_request_id_is_made_once_and_kept() {
        let mut map = HeaderMap::new();
        let mut rng = fastrand::Rng::with_seed(7);
        forward(&mut map, &mut rng);
        let id = map[X_REQUEST_ID].clone();
        assert_eq!(id.len(), 36);
        assert_eq!(&id.as_bytes()[14..15], b"4");
        forward(&mut map, &mut rng);
        assert_eq!(map[X_REQUEST_ID], id);
    }

    #[test]
    fn an_upgrade_needs_both_headers_and_is_never_http_2() {
        let asks = |protocol: &'static str, connection: &'static str| {
            let request = Request::get("/").header(UPGRADE, protocol).header(CONNECTION, connection);
            wanted(request).is_some()
        };
        assert!(asks("websocket", "keep-alive, Upgrade"));
        assert!(!asks("websocket", "keep-alive"));
        for http in ["h2c", "websocket, h2c", "H2C", "websocket,HTTP/2.0"] {
            assert!(!asks(http, "upgrade, http2-settings"), "{http}");
        }
        let two = Request::get("/")
            .header(UPGRADE, "websocket")
            .header(UPGRADE, "h2c")
            .header(CONNECTION, "upgrade");
        assert!(wanted(two).is_none());
    }

    #[test]
    fn a_body_is_chunked_once_or_not_at_all() {
        let framing = |values: &[&'static str]| {
            let lines: Vec<_> = values.iter().map(|value| ("transfer-encoding", *value)).collect();
            let map = headers(&lines);
            check_framing(&map, Names::of(&map))
        };
        for fine in [&[][..], &["chunked"], &[" Chunked "]] {
            assert_eq!(framing(fine), Ok(()), "{fine:?}");
        }
        for bad in
            [&["gzip, chunked"][..], &["chunked, chunked"], &["identity", "chunked"], &["chunked", "chunked"]]
        {
            assert_eq!(framing(bad), Err(Reason::BadRequest), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_needs_no_parser_to_be_a_host_is_one(host in "[a-zA-Z0-9._:@/\\[\\] -]{0,24}") {
            if is_plain_host(host.as_bytes()) {
                let authority = Authority::try_from(host.as_bytes());
                let authority = authority.map_err(|error| TestCaseError::fail(format!("{host}: {error}")))?;
                prop_assert!(!host.contains('@'));
                let rest = host.strip_prefix(authority.host());
                prop_assert!(authority.port_u16().is_some() || matches!(rest, Some("" | ":")), "{host}");
            }
        }
    }
}
