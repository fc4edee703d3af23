use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{BackendName, Cors, PolicyKey};

/// A filter written in the route itself, run at its rule or, on a backendRef, once that backend is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteFilter {
    RequestHeaders(HeaderModifier),
    ResponseHeaders(HeaderModifier),
    Redirect(Redirect),
    Rewrite(Rewrite),
    Cors(Cors),
    Mirror(Mirror),
    /// The policy applies exactly here, whatever it is attached to besides.
    Extension(PolicyKey),
    /// What cannot be done must not be skipped: every request that comes here fails.
    Invalid,
}

impl RouteFilter {
    /// The policies that these filters name, as they are written.
    pub fn extensions(filters: &[Self]) -> impl Iterator<Item = &PolicyKey> {
        filters.iter().filter_map(|filter| match filter {
            Self::Extension(policy) => Some(policy),
            _ => None,
        })
    }
}

/// Gateway API `HTTPHeaderFilter`: set, then add, then remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderModifier {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

/// Gateway API `HTTPRequestRedirectFilter`. What is absent stays as the client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub scheme: Option<WebScheme>,
    pub hostname: Option<Arc<str>>,
    pub path: Option<PathModifier>,
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// Gateway API `HTTPURLRewriteFilter`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    pub hostname: Option<Arc<str>>,
    pub path: Option<PathModifier>,
}

/// Gateway API `HTTPRequestMirrorFilter`: a share of the requests is sent here too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub backend: BackendName,
    pub share: Share,
}

/// Part of a whole: the numerator is at most the denominator, which is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    numerator: u32,
    denominator: u32,
}

/// A scheme with a well-known port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WebScheme {
    Http,
    Https,
}

/// Gateway API `HTTPPathModifier`. Paths are without query, which is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathModifier {
    /// The new path: empty, or beginning with a slash.
    Full(Arc<str>),
    Prefix {
        /// The prefix of the rule's only match, without trailing slash.
        matched: Arc<str>,
        /// Without trailing slash.
        replacement: Arc<str>,
    },
}

impl Share {
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };

    /// `None` for what is no part of a whole.
    pub fn new(numerator: u32, denominator: u32) -> Option<Self> {
        (denominator > 0 && numerator <= denominator).then_some(Self { numerator, denominator })
    }

    pub const fn numerator(self) -> u32 {
        self.numerator
    }

    pub const fn denominator(self) -> u32 {
        self.denominator
    }

    /// Whether this time is one of the share's.
    pub fn draw(self, rng: &mut fastrand::Rng) -> bool {
        rng.u32(..self.denominator) < self.numerator
    }
}

impl WebScheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl PathModifier {
    /// The path that takes the place of `path`. Never has two slashes where the parts meet, and is never empty. A path
    /// that is not below the prefix any more (an earlier filter changed it) stays.
    pub fn apply(&self, path: &str) -> String {
        let changed = match self {
            Self::Full(whole) => whole.to_string(),
            Self::Prefix { matched, replacement } => match path.strip_prefix(&**matched) {
                Some("") => replacement.to_string(),
                Some(rest) if rest.starts_with('/') => {
                    format!("{replacement}/{}", rest.trim_start_matches('/'))
                }
                _ => path.to_owned(),
            },
        };
        if changed.is_empty() { String::from("/") } else { changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(matched: &str, replacement: &str) -> PathModifier {
        let bare = |text: &str| Arc::from(text.trim_end_matches('/'));
        PathModifier::Prefix { matched: bare(matched), replacement: bare(replacement) }
    }

    #[test]
    fn a_prefix_is_replaced_with_exactly_one_slash_where_the_parts_meet() {
        // The table of the Gateway API's HTTPPathModifier, then what follows from it.
        for (path, matched, replacement, want) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/bar", "/", "/xyz", "/xyz/bar"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/foo//bar", "/foo", "", "/bar"),
            ("/foo//bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foobar", "/foo", "/xyz", "/foobar"),
            ("/other", "/foo", "/xyz", "/other"),
        ] {
            let changed = prefix(matched, replacement).apply(path);
            assert_eq!(changed, want, "{path}: {matched} -> {replacement}");
        }
    }

    #[test]
    fn a_share_is_drawn_as_often_as_it_says() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (numerator, denominator, want) in [(0, 100, 0), (1, 1, 10_000), (50, 50, 10_000), (1, 10, 1_000)]
        {
            let share = Share::new(numerator, denominator).unwrap();
            let drawn: i32 = (0..10_000).map(|_| i32::from(share.draw(&mut rng))).sum();
            // Three standard deviations of the last are 90.
            let within = if want == 1_000 { 90 } else { 0 };
            assert!((drawn - want).abs() <= within, "{numerator}/{denominator}: {drawn}");
        }
        assert!(Share::new(1, 0).is_none() && Share::new(2, 1).is_none());
    }

    #[test]
    fn a_full_path_takes_the_place_of_any_other() {
        assert_eq!(PathModifier::Full("/new".into()).apply("/old/path"), "/new");
        assert_eq!(PathModifier::Full("".into()).apply("/old/path"), "/");
    }
}
