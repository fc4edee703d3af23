use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A listener's or route's hostname: any, exact, or `*.suffix` (any number of labels to the left, never the bare
/// suffix). Always lower case, never with a port. Gateway API `Hostname`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Any,
    /// `example.com` for `*.example.com`.
    Suffix(Arc<str>),
    Exact(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hostname: use a DNS name such as `shop.example.com` or `*.example.com`")]
pub struct InvalidHost(String);

impl HostPattern {
    /// Parses a Gateway API hostname; the empty string means any.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        let lower = text.to_ascii_lowercase();
        let bare = lower.strip_prefix("*.");
        let name = bare.unwrap_or(&lower);
        if !is_dns_name(name) {
            return Err(InvalidHost(text.to_owned()));
        }
        Ok(match bare {
            Some(suffix) => Self::Suffix(suffix.into()),
            None => Self::Exact(name.into()),
        })
    }

    /// Whether `host` (lower case, no port) is covered.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Suffix(suffix) => {
                host.strip_suffix(&**suffix).is_some_and(|left| left.len() > 1 && left.ends_with('.'))
            }
        }
    }

    /// The names both cover, if any: the more specific of the two.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, x) | (x, Self::Any) => Some(x.clone()),
            (Self::Exact(a), x) | (x, Self::Exact(a)) => x.matches(a).then(|| Self::Exact(a.clone())),
            (Self::Suffix(a), Self::Suffix(b)) => {
                let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
                let inside = long == short || Self::Suffix(short.clone()).matches(long);
                inside.then(|| Self::Suffix(long.clone()))
            }
        }
    }
}

fn is_dns_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Suffix(suffix) => write!(f, "*.{suffix}"),
            Self::Exact(name) => f.write_str(name),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap()
    }

    #[test]
    fn a_wildcard_covers_any_number_of_labels_but_not_the_bare_name() {
        assert!(host("*.example.com").matches("a.example.com"));
        assert!(host("*.example.com").matches("a.b.example.com"));
        assert!(!host("*.example.com").matches("example.com"));
        assert!(!host("*.example.com").matches("badexample.com"));
    }

    #[test]
    fn an_intersection_is_the_more_specific_side() {
        assert_eq!(host("*.example.com").intersect(&host("a.example.com")), Some(host("a.example.com")));
        assert_eq!(host("*.example.com").intersect(&host("*.b.example.com")), Some(host("*.b.example.com")));
        assert_eq!(host("").intersect(&host("*.example.com")), Some(host("*.example.com")));
        assert_eq!(host("*.example.com").intersect(&host("example.com")), None);
        assert_eq!(host("a.com").intersect(&host("b.com")), None);
    }

    #[test]
    fn names_with_ports_addresses_in_brackets_or_inner_stars_are_refused() {
        for bad in ["a.com:80", "[::1]", "a.*.com", "*", "-a.com", "a..b", "a_b.com"] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_prints_as_it_was_written() {
        for text in ["", "*.example.com", "shop.example.com"] {
            assert_eq!(host(text).to_string(), text);
        }
    }
}
