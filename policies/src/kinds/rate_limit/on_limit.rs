//! `onLimit`: what whoever is refused is told, in place of 429 and a line of text.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RateLimitPolicySpec;
use super::delay::DelaySpec;
use crate::kind::CompileContext;
use crate::pipeline::{LocalReply, WrittenReply};
use crate::reason::Reason;
use crate::time::whole_seconds;

const LONGEST_BODY: usize = 8 * 1024;
const MOST_HEADERS: usize = 16;
/// What is not for a policy to say: it frames the message, or is told truthfully anyway.
const TAKEN: [HeaderName; 9] =
    [CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// Families of which the proxy says what there is to say.
const OURS: [&str; 4] = ["grpc-", "ratelimit", "x-ratelimit-", "x-tidegate-"];

/// gRPC is told RESOURCE_EXHAUSTED with a RetryInfo, whatever is written here but the headers.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct OnLimitSpec {
    /// 400 to 599. Default: 429.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 400, max = 599))]
    status: Option<u16>,
    /// At most 8 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    body: Option<String>,
    /// Of the body. Default: `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// Beside those that every refusal has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    headers: Vec<HeaderSpec>,
    /// Who comes too early waits, and is refused only beyond this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delay: Option<DelaySpec>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeaderSpec {
    name: String,
    value: String,
}

/// The same, valid.
#[derive(Clone, Debug, Default)]
pub(super) struct OnLimit {
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) written: Option<Arc<WrittenReply>>,
    /// How long who comes too early waits at most.
    pub(super) delay: Option<Duration>,
}

impl OnLimit {
    /// `wait`: after which another try may be worth it, where that is known.
    pub(super) fn refusal(&self, wait: Option<Duration>) -> LocalReply {
        let again = wait.map(|wait| (RETRY_AFTER, HeaderValue::from(whole_seconds(wait))));
        let headers = again.into_iter().chain(self.headers.iter().cloned()).collect();
        LocalReply { reason: Reason::RateLimited, headers, written: self.written.clone(), again: wait }
    }

    /// What is written, with a body that is not.
    pub(super) fn with_body(&self, body: (HeaderValue, Bytes)) -> WrittenReply {
        let status = self.written.as_ref().and_then(|written| written.status);
        WrittenReply { status, body: Some(body), grpc: None, reset: false }
    }
}

impl OnLimitSpec {
    pub(super) fn compile(&self, spec: &RateLimitPolicySpec, cx: &mut CompileContext<'_>) -> OnLimit {
        let status = self.status.map(|status| {
            let found = StatusCode::from_u16(status)
                .ok()
                .filter(|status| status.is_client_error() || status.is_server_error());
            found.unwrap_or_else(|| {
                cx.error("/onLimit/status", format!("{status} is no refusal: use 400 to 599"));
                StatusCode::TOO_MANY_REQUESTS
            })
        });
        if self.body.as_ref().is_some_and(|body| body.len() > LONGEST_BODY) {
            cx.error("/onLimit/body", format!("longer than {LONGEST_BODY} bytes"));
        }
        if self.content_type.is_some() && self.body.is_none() {
            cx.error("/onLimit/contentType", "it goes with a `body` only");
        }
        if self.headers.len() > MOST_HEADERS {
            cx.error(
                "/onLimit/headers",
                format!("{} headers: write at most {MOST_HEADERS}", self.headers.len()),
            );
        }
        let content_type = self.content_type.as_deref().unwrap_or("text/plain; charset=utf-8");
        let content_type = HeaderValue::from_str(content_type).unwrap_or_else(|_| {
            cx.error("/onLimit/contentType", "not the value of a header");
            HeaderValue::from_static("text/plain")
        });
        let each = self.headers.iter().enumerate();
        let headers =
            each.filter_map(|(i, header)| header.compile(&format!("/onLimit/headers/{i}"), cx)).collect();
        let body = self.body.as_ref().map(|body| (content_type, Bytes::from(body.clone())));
        let written = (status.is_some() || body.is_some())
            .then(|| Arc::new(WrittenReply { status, body, ..WrittenReply::default() }));
        let delay = self.delay.as_ref().map(|delay| delay.compile(spec, cx));
        OnLimit { headers, written, delay }
    }
}

impl HeaderSpec {
    fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<(HeaderName, HeaderValue)> {
        let taken = |name: &HeaderName| {
            TAKEN.contains(name) || OURS.iter().any(|ours| name.as_str().starts_with(ours))
        };
        let name = HeaderName::try_from(&self.name).ok().filter(|name| !taken(name));
        if name.is_none() {
            cx.error(format!("{at}/name"), format!("`{}` is not a header that can be set here", self.name));
        }
        let value = HeaderValue::from_str(&self.value).ok();
        if value.is_none() {
            cx.error(format!("{at}/value"), "not the value of a header");
        }
        Some((name?, value?))
    }
}
