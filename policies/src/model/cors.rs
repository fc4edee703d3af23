use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderName, Method};

use super::WebScheme;

/// Gateway API `HTTPCORSFilter` (GEP-1767).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    pub origins: Listed<OriginPattern>,
    pub credentials: bool,
    pub methods: Listed<Method>,
    pub headers: Listed<HeaderName>,
    pub expose: Listed<HeaderName>,
    /// Seconds that a browser may keep the answer to a preflight.
    pub max_age: u32,
}

/// What is allowed: everything (`*`), or what is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed<T> {
    All,
    Only(Vec<T>),
}

/// `scheme://host[:port]`, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    pub scheme: WebScheme,
    pub host: OriginHost,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginHost {
    Exact(Arc<str>),
    /// What comes after a leading `*`, which stands for any number of labels, but at least a character; empty for
    /// every host.
    Suffix(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an origin: write `*`, or a scheme and a host such as https://shop.example.com")]
pub struct InvalidOrigin(String);

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl OriginPattern {
    /// Whether `origin`, as in the request's `origin`, is meant.
    pub fn matches(&self, origin: &str) -> bool {
        split_origin(&origin.to_ascii_lowercase()).is_some_and(|(scheme, host, port)| {
            scheme == self.scheme
                && port == self.port
                && match &self.host {
                    OriginHost::Exact(name) => **name == *host,
                    OriginHost::Suffix(suffix) => {
                        host.strip_suffix(&**suffix).is_some_and(|left| !left.is_empty())
                    }
                }
        })
    }
}

impl FromStr for OriginPattern {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let (scheme, host, port) = split_origin(&lower).ok_or_else(invalid)?;
        let host = match host.strip_prefix('*') {
            Some(suffix) => OriginHost::Suffix(suffix.into()),
            None => OriginHost::Exact(host.into()),
        };
        let (OriginHost::Exact(literal) | OriginHost::Suffix(literal)) = &host;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._[:]".contains(&b);
        if !literal.bytes().all(allowed) {
            return Err(invalid());
        }
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (star, host) = match &self.host {
            OriginHost::Exact(name) => ("", name),
            OriginHost::Suffix(suffix) => ("*", suffix),
        };
        write!(f, "{}://{star}{host}:{}", self.scheme.as_str(), self.port)
    }
}

/// Scheme, host and port of an origin in lower case; a port that is not written is the scheme's own.
fn split_origin(text: &str) -> Option<(WebScheme, &str, u16)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        "http" => WebScheme::Http,
        "https" => WebScheme::Https,
        _ => return None,
    };
    // Colons inside the brackets of an IPv6 address are not the port's.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
        _ => (rest, scheme.port()),
    };
    (!host.is_empty() && !host.contains('/')).then_some((scheme, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port_and_a_star_stands_for_labels() {
        for (pattern, origin, want) in [
            ("https://www.example.com", "https://www.example.com", true),
            ("https://www.example.com", "https://WWW.example.com", true),
            ("https://www.example.com", "http://www.example.com", false),
            ("https://www.example.com", "https://www.example.com:443", true),
            ("https://www.example.com:443", "https://www.example.com", true),
            ("https://www.example.com", "https://www.example.com:8443", false),
            ("https://www.example.com:8443", "https://www.example.com:8443", true),
            ("http://www.example.com", "http://www.example.com:80", true),
            ("https://*.example.com", "https://a.example.com", true),
            ("https://*.example.com", "https://a.b.example.com", true),
            ("https://*.example.com", "https://example.com", false),
            ("https://*.example.com", "https://badexample.com", false),
            ("https://*.example.com", "https://a.example.com.evil.org", false),
            ("https://*.example.com:8443", "https://a.example.com:8443", true),
            ("https://*.example.com:8443", "https://a.example.com", false),
            ("http://*", "http://anything.org", true),
            ("http://*", "https://anything.org", false),
            ("http://*", "http://anything.org:8080", false),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("https://www.example.com", "null", false),
            ("https://www.example.com", "", false),
        ] {
            let parsed: OriginPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(origin), want, "{pattern} {origin}");
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{pattern}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in
            ["example.com", "ftp://a", "https://", "https://a/b", "https://a:0", "https://a*b", "https://a.*"]
        {
            assert!(text.parse::<OriginPattern>().is_err(), "{text}");
        }
    }
}
