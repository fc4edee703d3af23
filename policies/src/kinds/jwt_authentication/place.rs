//! Where in a request a token is.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, request};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::provider::Provider;
use crate::document::crd::rules;
use crate::jwt::TokenFault;
use crate::kind::CompileContext;
use crate::matching::query_pairs;
use crate::pick::{cookie_values, is_cookie_name};

/// Write one of `header`, `cookie` and `query`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    rules::exactly_one(&["header", "cookie", "query"]),
    rules::only_beside("prefix", "header"),
]))]
pub(super) struct FromSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    header: Option<String>,
    /// What stands before the token in that header, in upper or lower case; a value that begins otherwise holds none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    cookie: Option<String>,
    /// A parameter of the query. Others write queries into their logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    query: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Header { name: HeaderName, prefix: Box<str> },
    Cookie(Box<str>),
    Query(Box<str>),
}

/// A location, and the providers that have their tokens there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) location: Location,
    pub(super) providers: Vec<usize>,
}

impl FromSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<Location> {
        if self.prefix.is_some() && self.header.is_none() {
            cx.error(format!("{at}/prefix"), "`prefix` goes with `header` only");
        }
        match (&self.header, &self.cookie, &self.query) {
            (Some(header), None, None) => {
                let Ok(name) = HeaderName::try_from(header) else {
                    cx.error(format!("{at}/header"), format!("`{header}` is not the name of a header"));
                    return None;
                };
                if name == COOKIE {
                    cx.error(format!("{at}/header"), "write `cookie` and the name of the cookie");
                }
                Some(Location::Header { name, prefix: self.prefix.as_deref().unwrap_or_default().into() })
            }
            (None, Some(cookie), None) => {
                if !is_cookie_name(cookie) {
                    cx.error(format!("{at}/cookie"), format!("`{cookie}` is not the name of a cookie"));
                }
                Some(Location::Cookie(cookie.as_str().into()))
            }
            (None, None, Some(query)) => {
                if query.is_empty() {
                    cx.error(format!("{at}/query"), "a parameter has a name");
                }
                Some(Location::Query(query.as_str().into()))
            }
            _ => {
                cx.error(at, "write one of `header`, `cookie` and `query`");
                None
            }
        }
    }
}

impl Place {
    /// Those of all providers, each once, in the order in which they are written.
    pub(super) fn of_all(providers: &Arc<[Provider]>) -> Vec<Self> {
        let mut places: Vec<Self> = Vec::new();
        for (i, provider) in providers.iter().enumerate() {
            for location in &provider.from {
                match places.iter_mut().find(|place| place.location == *location) {
                    Some(place) => place.providers.push(i),
                    None => places.push(Self { location: location.clone(), providers: vec![i] }),
                }
            }
        }
        places
    }
}

impl Location {
    /// RFC 6750, 2.1.
    pub(super) fn bearer() -> Self {
        Self::Header { name: AUTHORIZATION, prefix: "Bearer ".into() }
    }

    /// The token that is there, if any. What is empty is none.
    ///
    /// # Errors
    /// The field comes more than once: nobody knows which of them the backend will take.
    pub(super) fn find<'h>(&self, head: &'h request::Parts) -> Result<Option<Cow<'h, [u8]>>, TokenFault> {
        let value = match self {
            Self::Header { name, prefix } => {
                let value = only(head.headers.get_all(name).iter())?;
                value.and_then(|value| without(prefix, value.as_bytes())).map(Cow::Borrowed)
            }
            Self::Cookie(name) => only(cookie_values(&head.headers, name))?.map(Cow::Borrowed),
            Self::Query(name) => {
                let pairs = query_pairs(head.uri.query().unwrap_or_default());
                let value = only(pairs.filter(|(_, key, _)| *key == **name))?;
                value.map(|(_, _, value)| match value {
                    Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                    Cow::Owned(text) => Cow::Owned(text.into_bytes()),
                })
            }
        };
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// Takes the token out of the request.
    pub(super) fn remove(&self, head: &mut request::Parts) {
        match self {
            Self::Header { name, .. } => drop(head.headers.remove(name)),
            Self::Cookie(name) => remove_cookie(name, &mut head.headers),
            Self::Query(name) => {
                if let Some(uri) = without_parameter(name, &head.uri) {
                    head.uri = uri;
                }
            }
        }
    }
}

fn only<T>(mut values: impl Iterator<Item = T>) -> Result<Option<T>, TokenFault> {
    let first = values.next();
    if values.next().is_some() { Err(TokenFault::Several) } else { Ok(first) }
}

/// The name of a scheme is in any case (RFC 9110, 11.1), and as many spaces follow as one likes (11.4).
fn without<'v>(prefix: &str, value: &'v [u8]) -> Option<&'v [u8]> {
    let (start, rest) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then(|| rest.trim_ascii())
}

fn remove_cookie(name: &str, headers: &mut HeaderMap) {
    let is_it = |pair: &[u8]| {
        let end = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        pair[..end].trim_ascii() == name.as_bytes()
    };
    let fields: Vec<HeaderValue> = headers.get_all(COOKIE).iter().cloned().collect();
    headers.remove(COOKIE);
    for field in fields {
        let pairs = field.as_bytes().split(|b| *b == b';').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = pairs.filter(|pair| !pair.is_empty() && !is_it(pair)).collect();
        if let Some(value) = HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok().filter(|v| !v.is_empty()) {
            headers.append(COOKIE, value);
        }
    }
}

fn without_parameter(name: &str, uri: &Uri) -> Option<Uri> {
    let pairs = query_pairs(uri.query()?).filter(|(_, key, _)| *key != *name);
    let kept: Vec<&str> = pairs.map(|(text, _, _)| text).collect();
    let path = uri.path();
    let target = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}
