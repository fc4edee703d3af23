use http::HeaderValue;
use http::header::LOCATION;

use super::location::modified;
use super::route_filter::Entry;
use super::{DirectReply, Filter, Phase, RequestContext, Verdict};
use crate::matching::authority;
use crate::model::{Redirect, WebScheme};
use crate::reason::Reason;

/// Gateway API `RequestRedirect`.
#[derive(Debug)]
pub(super) struct RequestRedirect {
    redirect: Redirect,
    scheme: WebScheme,
    /// `None` for the well-known port of the scheme, which a `Location` leaves out.
    port: Option<u16>,
}

impl RequestRedirect {
    /// Without a port of its own, the redirect goes to the well-known one of the scheme that it names, else to the port
    /// through which the request came (`HTTPRequestRedirectFilter.port`).
    pub(super) fn new(redirect: Redirect, entry: Entry) -> Self {
        let scheme = redirect.scheme.unwrap_or(entry.scheme);
        let derived = redirect.scheme.map_or(entry.port, WebScheme::port);
        let port = Some(redirect.port.unwrap_or(derived)).filter(|port| *port != scheme.port());
        Self { redirect, scheme, port }
    }

    fn location(&self, cx: &RequestContext<'_>) -> Result<HeaderValue, Reason> {
        let asked;
        let host = match &self.redirect.hostname {
            Some(hostname) => hostname,
            None => {
                asked = authority(cx.head)?.host;
                &*asked
            }
        };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let target = modified(&cx.head.uri, self.redirect.path.as_ref())?;
        // `OPTIONS *` asks about the server: RFC 9112 section 3.2.4 writes that as an URL without a path.
        let target = if target == "*" { "" } else { target.as_str() };
        let location = format!("{}://{host}{port}{target}", self.scheme.as_str());
        HeaderValue::try_from(location).map_err(|_| Reason::BadRequest)
    }
}

impl Filter for RequestRedirect {
    fn phase(&self) -> Phase {
        Phase::Transform
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        match self.location(cx) {
            Ok(location) => Verdict::Answer(DirectReply {
                status: self.redirect.status,
                headers: vec![(LOCATION, location)],
            }),
            Err(reason) => Verdict::Reply(reason.into()),
        }
    }
}
