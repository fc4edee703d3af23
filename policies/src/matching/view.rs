use std::borrow::Cow;
use std::cell::OnceCell;

use http::{HeaderName, Method, header, request};
use smallvec::SmallVec;

use crate::model::{HeaderMatch, PathMatch, QueryMatch, RouteMatch};

/// A request head as matches see it; what is costly is worked out once, when a match first asks.
#[derive(Debug)]
pub struct RequestView<'a> {
    head: &'a request::Parts,
    path: &'a str,
    method: &'a Method,
    query: OnceCell<Query<'a>>,
}

type Query<'a> = SmallVec<[(Cow<'a, str>, Cow<'a, str>); FEW_PARAMETERS]>;

/// More parameters than these are sorted, lest someone makes a lookup cost the square of them.
const FEW_PARAMETERS: usize = 8;

impl<'a> RequestView<'a> {
    pub fn new(head: &'a request::Parts) -> Self {
        Self::with_path(head, head.uri.path())
    }

    /// As if the request had another path.
    pub fn with_path(head: &'a request::Parts, path: &'a str) -> Self {
        Self { head, path, method: &head.method, query: OnceCell::new() }
    }

    /// As if the request had another method.
    #[must_use]
    pub fn with_method(self, method: &'a Method) -> Self {
        Self { method, ..self }
    }

    /// The path, without query. The shell has normalised it ([`super::target`]).
    pub fn path(&self) -> &'a str {
        self.path
    }

    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// A header's value; several fields of one name are joined with commas (RFC 9110 section 5.3). `None` when it
    /// is absent or not UTF-8. An HTTP/2 request without `host` answers with its `:authority`.
    pub fn header(&self, name: &HeaderName) -> Option<Cow<'a, str>> {
        let mut fields = self.head.headers.get_all(name).iter();
        let Some(first) = fields.next() else {
            let authority = (name == header::HOST).then(|| self.head.uri.authority())??;
            return Some(Cow::Borrowed(authority.as_str()));
        };
        let mut value = Cow::Borrowed(std::str::from_utf8(first.as_bytes()).ok()?);
        for field in fields {
            let joined = value.to_mut();
            joined.push(',');
            joined.push_str(std::str::from_utf8(field.as_bytes()).ok()?);
        }
        Some(value)
    }

    /// The first query parameter of that name, percent-decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        let pairs = self.parameters();
        let found = if pairs.len() <= FEW_PARAMETERS {
            pairs.iter().find(|(key, _)| key == name)
        } else {
            pairs.binary_search_by(|(key, _)| (**key).cmp(name)).ok().and_then(|at| pairs.get(at))
        };
        found.map(|(_, value)| &**value)
    }

    /// The names of the headers, each once.
    pub(super) fn header_names(&self) -> impl Iterator<Item = &'a HeaderName> {
        self.head.headers.keys()
    }

    /// The names of the query parameters. Of a few, one may come again.
    pub(super) fn query_names(&self) -> impl Iterator<Item = &str> {
        self.parameters().iter().map(|(name, _)| &**name)
    }

    fn parameters(&self) -> &[(Cow<'a, str>, Cow<'a, str>)] {
        self.query.get_or_init(|| parse_query(self.head.uri.query().unwrap_or_default()))
    }

    /// Whether every part of `wanted` holds.
    pub fn satisfies(&self, wanted: &RouteMatch) -> bool {
        path_matches(&wanted.path, self.path) && self.satisfies_beyond_path(wanted)
    }

    /// Whether all holds but the path, which the caller has already looked at.
    pub fn satisfies_beyond_path(&self, wanted: &RouteMatch) -> bool {
        wanted.method.as_ref().is_none_or(|method| method == self.method())
            && wanted.headers.iter().all(|h| self.header_holds(h))
            && wanted.query.iter().all(|q| self.query_holds(q))
    }

    fn header_holds(&self, wanted: &HeaderMatch) -> bool {
        self.header(&wanted.name).is_some_and(|value| wanted.value.matches(&value))
    }

    fn query_holds(&self, wanted: &QueryMatch) -> bool {
        self.query(&wanted.name).is_some_and(|value| wanted.value.matches(value))
    }
}

/// Gateway API `HTTPPathMatch`: exact, by whole path elements, or a regular expression over the whole path.
pub fn path_matches(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(value) => **value == *path,
        PathMatch::Prefix(prefix) => {
            path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                || prefix.is_empty()
        }
        PathMatch::Regex(regex) => regex.is_match(path),
        PathMatch::AnyService(method) => grpc_method(path).is_some_and(|name| name == &**method),
    }
}

/// The method of a gRPC request's path, `/service/method`.
pub(super) fn grpc_method(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.contains('/')).then_some(method)
}

/// The parameters of a query, each as it is written, and its name and value percent-decoded.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (&str, Cow<'_, str>, Cow<'_, str>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (pair, percent_decode(name), percent_decode(value))
    })
}

fn parse_query(query: &str) -> Query<'_> {
    let mut pairs: Query<'_> = query_pairs(query).map(|(_, name, value)| (name, value)).collect();
    if pairs.len() > FEW_PARAMETERS {
        // Of one name the first stays.
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|(a, _), (b, _)| a == b);
    }
    pairs
}

/// RFC 3986 percent-decoding. A `%` that starts no escape stays as it is; bytes that are not UTF-8 become U+FFFD.
fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        if let (b'%', Some(high), Some(low)) = (byte, hex(1), hex(2)) {
            decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut builder = http::Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_prefix_matches_whole_elements_only() {
        let prefix = PathMatch::Prefix("/abc".into());
        for (path, want) in
            [("/abc", true), ("/abc/", true), ("/abc/d", true), ("/abcd", false), ("/ab", false)]
        {
            assert_eq!(path_matches(&prefix, path), want, "{path}");
        }
        assert!(path_matches(&PathMatch::Prefix("".into()), "*"));
    }

    #[test]
    fn an_exact_path_is_not_met_by_a_trailing_slash() {
        assert!(!path_matches(&PathMatch::Exact("/abc".into()), "/abc/"));
    }

    #[test]
    fn repeated_headers_are_joined_by_commas() {
        let head = head("/", &[("x-a", "1"), ("X-A", "2")]);
        assert_eq!(RequestView::new(&head).header(&"x-a".parse().unwrap()).as_deref(), Some("1,2"));
    }

    #[test]
    fn host_can_be_matched_as_a_header_whatever_the_protocol() {
        let host = http::header::HOST;
        assert_eq!(RequestView::new(&head("/", &[("host", "a")])).header(&host).as_deref(), Some("a"));
        assert_eq!(RequestView::new(&head("http://b/", &[])).header(&host).as_deref(), Some("b"));
    }

    #[test]
    fn query_parameters_are_decoded_case_sensitive_and_the_first_one_counts() {
        let head = head("/?animal=a%20b&animal=c&%41=%zz&flag", &[]);
        let view = RequestView::new(&head);
        assert_eq!(view.query("animal"), Some("a b"));
        assert_eq!(view.query("Animal"), None);
        assert_eq!(view.query("A"), Some("%zz"));
        assert_eq!(view.query("flag"), Some(""));
    }
}
