//! Changing where a request goes, in its own URL or in a `Location`.

use http::Uri;
use http::uri::PathAndQuery;

use crate::model::PathModifier;
use crate::reason::Reason;

/// Path and query after `modifier`; the query stays.
///
/// # Errors
/// [`Reason::BadRequest`]: together they are no request target any more, for they have become too long.
pub(super) fn modified(uri: &Uri, modifier: Option<&PathModifier>) -> Result<PathAndQuery, Reason> {
    let current = || uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Some(modifier) = modifier else { return Ok(current()) };
    let mut text = modifier.apply(uri.path());
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    PathAndQuery::try_from(text).map_err(|_| Reason::BadRequest)
}
