use std::borrow::Cow;

use http::header::HOST;
use http::request;

use crate::reason::Reason;

/// The longest DNS name (RFC 1035 section 2.3.4); nothing longer can match, and looking it up costs its square.
const MAX_HOST: usize = 253;

/// Whom a request names: lower case, without port and without the root's trailing dot; the port apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    pub host: Cow<'a, str>,
    pub port: Option<u16>,
}

/// The request's authority: that of its target (`:authority`, absolute form) if there is one, else `Host`
/// (RFC 9112 section 3.2.2: a target's authority makes `Host` meaningless).
///
/// # Errors
/// [`Reason::BadRequest`] when there is none, more than one `Host`, or one that cannot be read.
pub fn authority(head: &request::Parts) -> Result<Authority<'_>, Reason> {
    if let Some(authority) = head.uri.authority() {
        return parse(authority.as_str());
    }
    let mut fields = head.headers.get_all(HOST).iter();
    match (fields.next(), fields.next()) {
        (Some(host), None) => parse(host.to_str().map_err(|_| Reason::BadRequest)?),
        _ => Err(Reason::BadRequest),
    }
}

fn parse(text: &str) -> Result<Authority<'_>, Reason> {
    if is_plain(text) {
        return Ok(Authority { host: Cow::Borrowed(text), port: None });
    }
    let (host, port) = split(text.trim()).ok_or(Reason::BadRequest)?;
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| Reason::BadRequest)?)
        }
        Some(_) => return Err(Reason::BadRequest),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let broken = |b: u8| b <= b' ' || b"/@?#,\\".contains(&b);
    if host.is_empty() || host.ends_with('.') || host.len() > MAX_HOST || host.bytes().any(broken) {
        return Err(Reason::BadRequest);
    }
    let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Ok(Authority { host, port })
}

/// As most are written: there is nothing to be taken off, or to be refused.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| PLAIN[usize::from(byte)];
    !text.is_empty() && text.len() <= MAX_HOST && text.bytes().all(plain) && !text.ends_with('.')
}

/// Lower case, digits, and what stands between them. A table, because each request is asked about each byte.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        plain[byte as usize] =
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_');
        byte += 1;
    }
    plain
};

/// `host[:port]`, where the host may be an IPv6 address in brackets.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if text.starts_with('[') {
        let end = text.find(']')? + 1;
        let (host, rest) = text.split_at(end);
        return match rest {
            "" => Some((host, None)),
            _ => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, hosts: &[&str]) -> request::Parts {
        let mut builder = http::Request::builder().uri(uri);
        for host in hosts {
            builder = builder.header("host", *host);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn of(uri: &str, hosts: &[&str]) -> Result<(String, Option<u16>), Reason> {
        authority(&head(uri, hosts)).map(|a| (a.host.into_owned(), a.port))
    }

    #[test]
    fn the_host_is_read_without_port_case_and_trailing_dot() {
        assert_eq!(of("/", &["Shop.Example.com:8080"]), Ok(("shop.example.com".into(), Some(8080))));
        assert_eq!(of("/", &["shop.example.com."]), Ok(("shop.example.com".into(), None)));
        assert_eq!(of("/", &["[::1]:80"]), Ok(("[::1]".into(), Some(80))));
        assert_eq!(of("/", &["[::1]"]), Ok(("[::1]".into(), None)));
    }

    #[test]
    fn the_targets_authority_wins_over_the_header() {
        assert_eq!(of("http://a.example/x", &["b.example"]), Ok(("a.example".into(), None)));
    }

    #[test]
    fn a_missing_doubled_or_broken_host_is_a_bad_request() {
        for hosts in [
            &[][..],
            &["a", "a"],
            &[""],
            &["a:b"],
            &["a:99999"],
            &["u@a"],
            &["[::1"],
            &["a/b"],
            &["a,b"],
            &["a.."],
        ] {
            assert_eq!(of("/", hosts), Err(Reason::BadRequest), "{hosts:?}");
        }
    }
}
