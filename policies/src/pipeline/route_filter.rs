use std::sync::Arc;

use super::cors::CorsFilter;
use super::headers::{RequestHeaders, ResponseHeaders};
use super::redirect::RequestRedirect;
use super::rewrite::UrlRewrite;
use super::{Filter, Phase, RequestContext, Verdict};
use crate::model::{RouteFilter, WebScheme};
use crate::reason::Reason;

/// Where requests for a rule come in, as their clients know it: not the address that happens to be bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) scheme: WebScheme,
    pub(crate) port: u16,
}

/// In place of a filter that cannot be applied: before all others, so that nothing answers in its stead.
#[derive(Debug)]
pub(crate) struct InvalidFilter;

impl Filter for InvalidFilter {
    fn phase(&self) -> Phase {
        Phase::FIRST
    }

    fn on_request(&self, _cx: &mut RequestContext<'_>) -> Verdict {
        Verdict::Reply(Reason::InvalidFilter.into())
    }
}

/// A filter written in a route, ready to run; `None` for a mirror, which leaves its request alone, and for an extension,
/// which is a policy.
pub(crate) fn route_filter(filter: &RouteFilter, entry: Entry) -> Option<Arc<dyn Filter>> {
    Some(match filter {
        RouteFilter::RequestHeaders(modifier) => Arc::new(RequestHeaders(modifier.clone())),
        RouteFilter::ResponseHeaders(modifier) => Arc::new(ResponseHeaders(modifier.clone())),
        RouteFilter::Redirect(redirect) => Arc::new(RequestRedirect::new(redirect.clone(), entry)),
        RouteFilter::Cors(cors) => Arc::new(CorsFilter::new(cors.clone())),
        RouteFilter::Rewrite(rewrite) => Arc::new(UrlRewrite(rewrite.clone())),
        RouteFilter::Invalid => Arc::new(InvalidFilter),
        RouteFilter::Mirror(_) | RouteFilter::Extension(_) => return None,
    })
}
