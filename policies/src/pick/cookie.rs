//! Cookies (RFC 6265): one value read from a request, one cookie written to a response.

use std::fmt::Write;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// A cookie that the mesh sets. Always `HttpOnly`: no script needs it. `Secure` wherever the request came over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieSettings {
    pub name: Box<str>,
    pub path: Box<str>,
    /// `None`: until the browser is closed.
    pub max_age: Option<Duration>,
    pub same_site: SameSite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    Lax,
    /// Browsers demand `Secure` with it, so it is always there.
    None,
}

/// The value of the first cookie of that name: of several, clients send the one with the longest path first.
pub(super) fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    values(headers, name).next()
}

/// All values of that name.
pub(crate) fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    let pairs = headers.get_all(COOKIE).into_iter().flat_map(|field| field.as_bytes().split(|b| *b == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii_start();
        let value = pair.strip_prefix(name.as_bytes())?.trim_ascii_start().strip_prefix(b"=")?;
        Some(value.trim_ascii())
    })
}

impl CookieSettings {
    /// `value` holds only what a cookie may.
    pub fn render(&self, value: &str, secure: bool) -> Option<HeaderValue> {
        let Self { name, path, max_age, same_site } = self;
        let mut text = format!("{name}={value}; Path={path}");
        if let Some(max_age) = max_age {
            // Writing to a String cannot fail.
            let _ = write!(text, "; Max-Age={}", max_age.as_secs());
        }
        if secure || *same_site == SameSite::None {
            text.push_str("; Secure");
        }
        text.push_str("; HttpOnly; SameSite=");
        text.push_str(match same_site {
            SameSite::Strict => "Strict",
            SameSite::Lax => "Lax",
            SameSite::None => "None",
        });
        HeaderValue::try_from(text).ok()
    }
}

/// RFC 6265 `cookie-name`: a token (RFC 9110).
pub fn is_cookie_name(name: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(token)
}

/// RFC 6265 `path-value` of a path: no control characters and no semicolon; and it begins with a slash, for browsers
/// ignore any other.
pub fn is_cookie_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b';')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_static(field));
        }
        headers
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_in_any_field() {
        let headers = headers(&["a=1; user=alice;b=2", "xuser=eve; users=x; empty=; eq=a=b"]);
        let value = |name| super::value(&headers, name).map(|v| std::str::from_utf8(v).unwrap());
        assert_eq!(value("user"), Some("alice"));
        assert_eq!((value("a"), value("b")), (Some("1"), Some("2")));
        assert_eq!((value("empty"), value("eq")), (Some(""), Some("a=b")));
        assert_eq!((value("use"), value("User"), value("alice")), (None, None, None));
    }

    #[test]
    fn of_several_cookies_of_one_name_all_can_be_read_and_the_first_counts() {
        let headers = headers(&["s=1; s=2", "s=3"]);
        assert_eq!(values(&headers, "s").collect::<Vec<_>>(), [b"1", b"2", b"3"]);
        assert_eq!(value(&headers, "s"), Some(&b"1"[..]));
    }

    #[test]
    fn a_set_cookie_says_what_was_asked_for_and_no_more() {
        let mut cookie =
            CookieSettings { name: "id".into(), path: "/".into(), max_age: None, same_site: SameSite::Lax };
        assert_eq!(cookie.render("x", false).unwrap(), "id=x; Path=/; HttpOnly; SameSite=Lax");
        cookie.max_age = Some(Duration::from_secs(60));
        assert_eq!(
            cookie.render("x", true).unwrap(),
            "id=x; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
        cookie.same_site = SameSite::None;
        assert!(
            cookie.render("x", false).unwrap().to_str().unwrap().contains("; Secure"),
            "else browsers drop it"
        );
    }

    #[test]
    fn names_and_paths_that_would_break_the_header_are_told() {
        assert!(is_cookie_name("__Host-user") && is_cookie_name("a"));
        assert!(["", "a b", "a;b", "a=b", "ü", "a\r"].iter().all(|name| !is_cookie_name(name)));
        assert!(is_cookie_path("/") && is_cookie_path("/a b"));
        assert!(["", "a", "/a;b", "/a\n", "/ü"].iter().all(|path| !is_cookie_path(path)));
    }
}
