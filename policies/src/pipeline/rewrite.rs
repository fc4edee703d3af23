use http::header::HOST;
use http::{HeaderValue, Uri};

use super::location::modified;
use super::{Filter, Phase, RequestContext, Verdict};
use crate::model::Rewrite;
use crate::reason::Reason;

/// Gateway API `URLRewrite`: what the backend sees, while policies judged what the client sent.
#[derive(Debug)]
pub(super) struct UrlRewrite(pub(super) Rewrite);

impl Filter for UrlRewrite {
    fn phase(&self) -> Phase {
        Phase::Transform
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        match self.rewrite(cx) {
            Ok(()) => Verdict::Continue,
            Err(reason) => Verdict::Reply(reason.into()),
        }
    }
}

impl UrlRewrite {
    fn rewrite(&self, cx: &mut RequestContext<'_>) -> Result<(), Reason> {
        if let Some(hostname) = &self.0.hostname {
            let host = HeaderValue::from_str(hostname).map_err(|_| Reason::Internal)?;
            cx.head.headers.insert(HOST, host);
        }
        if self.0.path.is_some() {
            cx.head.uri = Uri::from(modified(&cx.head.uri, self.0.path.as_ref())?);
        }
        Ok(())
    }
}
