use std::sync::Arc;

use super::Filter;
use super::cors::CorsFilter;
use super::headers::{RequestHeaders, ResponseHeaders};
use super::redirect::RequestRedirect;
use super::rewrite::UrlRewrite;
use crate::model::{RouteFilter, WebScheme};

/// Where requests for a rule come in, as their clients know it: not the address that happens to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) scheme: WebScheme,
    pub(crate) port: u16,
}

/// A filter written in a route, ready to run; `None` for a mirror, which leaves its request alone.
pub(crate) fn route_filter(filter: &RouteFilter, entry: Entry) -> Option<Arc<dyn Filter>> {
    Some(match filter {
        RouteFilter::RequestHeaders(modifier) => Arc::new(RequestHeaders(modifier.clone())),
        RouteFilter::ResponseHeaders(modifier) => Arc::new(ResponseHeaders(modifier.clone())),
        RouteFilter::Redirect(redirect) => Arc::new(RequestRedirect::new(redirect.clone(), entry)),
        RouteFilter::Cors(cors) => Arc::new(CorsFilter::new(cors.clone())),
        RouteFilter::Rewrite(rewrite) => Arc::new(UrlRewrite(rewrite.clone())),
        RouteFilter::Mirror(_) => return None,
    })
}
