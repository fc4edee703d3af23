use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request, response};

use super::{DirectReply, Filter, Phase, RequestContext, Verdict};
use crate::model::{Cors, Listed};

const ANY: HeaderValue = HeaderValue::from_static("*");

/// What only the answer of a CORS-aware server holds. Where the route has the filter, the filter is that server.
const OURS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// Gateway API `CORS` (GEP-1767), in the terms of <https://fetch.spec.whatwg.org/#http-cors-protocol>.
#[derive(Debug)]
pub(super) struct CorsFilter {
    cors: Cors,
    /// Pre-rendered lists; `None` where the list is empty, or the value depends on the request.
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
}

impl CorsFilter {
    pub(super) fn new(cors: Cors) -> Self {
        let methods = rendered(&cors.methods, cors.credentials, Method::as_str);
        let headers = rendered(&cors.headers, cors.credentials, HeaderName::as_str);
        let expose = rendered(&cors.expose, cors.credentials, HeaderName::as_str);
        Self { cors, methods, headers, expose }
    }

    /// `access-control-allow-origin` for this origin, if it is allowed.
    fn allow_origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.cors.origins {
            Listed::All if !self.cors.credentials => Some(ANY),
            Listed::All => Some(origin.clone()),
            Listed::Only(patterns) => {
                let text = origin.to_str().ok()?;
                patterns.iter().any(|pattern| pattern.matches(text)).then(|| origin.clone())
            }
        }
    }

    /// What the answer to a preflight says besides what every answer does.
    fn preflight(&self, request: &HeaderMap, answer: &mut HeaderMap) {
        let asked = request.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|_| self.cors.methods == Listed::All);
        if let Some(methods) = self.methods.as_ref().or(asked) {
            answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
        }
        if let Some(asked) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            let asked = Some(asked).filter(|_| self.cors.headers == Listed::All);
            if let Some(names) = self.headers.as_ref().or(asked) {
                answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.cors.max_age));
    }
}

/// A list as its header's value. `*` may not meet credentials: then the value is what the request asks for.
fn rendered<T>(list: &Listed<T>, credentials: bool, name: impl Fn(&T) -> &str) -> Option<HeaderValue> {
    match list {
        Listed::All => (!credentials).then_some(ANY),
        Listed::Only(names) if names.is_empty() => None,
        Listed::Only(names) => {
            HeaderValue::try_from(names.iter().map(name).collect::<Vec<_>>().join(", ")).ok()
        }
    }
}

fn is_preflight(head: &request::Parts) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The method of the request that a preflight asks about; `None` for what is no preflight.
pub(crate) fn announced(head: &request::Parts) -> Option<Method> {
    if !is_preflight(head) || !head.headers.contains_key(ORIGIN) {
        return None;
    }
    let method = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

impl Filter for CorsFilter {
    fn phase(&self) -> Phase {
        Phase::Cors
    }

    fn on_request(&self, cx: &mut RequestContext<'_>) -> Verdict {
        let (request, answer) = (&cx.head.headers, &mut *cx.response_headers);
        if self.cors.credentials || self.cors.origins != Listed::All {
            answer.insert(VARY, HeaderValue::from_name(ORIGIN));
        }
        let Some(origin) = request.get(ORIGIN) else { return Verdict::Continue };
        let allowed = self.allow_origin(origin);
        let preflight = is_preflight(cx.head);
        if let Some(origin) = allowed {
            answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            if self.cors.credentials {
                answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            // A browser heeds it only on the real answer; conformance wants it on every one, like the origin.
            if let Some(names) = &self.expose {
                answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
            }
            if preflight {
                self.preflight(request, answer);
            }
        }
        if preflight {
            return Verdict::Answer(DirectReply { status: StatusCode::NO_CONTENT, headers: Vec::new() });
        }
        Verdict::Continue
    }

    /// The backend's own word on the matter must not stand beside ours.
    fn on_response(&self, head: &mut response::Parts) {
        for name in OURS {
            head.headers.remove(name);
        }
    }
}
