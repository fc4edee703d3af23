//! What answers in the backend's place.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kind::CompileContext;
use crate::kinds::grpc_code::GrpcCode;
use crate::pipeline::WrittenReply;

const LONGEST_BODY: usize = 8 * 1024;

/// gRPC is answered with `grpc`, everybody else with the rest.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AbortSpec {
    /// 400 to 599. Default: 503.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 400, max = 599))]
    status: Option<u16>,
    /// Default: UNAVAILABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grpc: Option<GrpcCode>,
    /// At most 8 KiB. Default: a line that says what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    body: Option<String>,
    /// Of the body. Default: `text/plain; charset=utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

impl AbortSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Option<WrittenReply> {
        let is_error = |status: &StatusCode| status.is_client_error() || status.is_server_error();
        let status = self.status.map(|status| {
            let found = StatusCode::from_u16(status).ok().filter(is_error);
            if found.is_none() {
                cx.error(format!("{at}/status"), format!("{status} is no failure: use 400 to 599"));
            }
            found
        });
        if self.body.as_ref().is_some_and(|body| body.len() > LONGEST_BODY) {
            cx.error(format!("{at}/body"), format!("longer than {LONGEST_BODY} bytes"));
        }
        if self.content_type.is_some() && self.body.is_none() {
            cx.error(format!("{at}/contentType"), "it goes with a `body` only");
        }
        let content_type = self.content_type.as_deref().unwrap_or("text/plain; charset=utf-8");
        let Ok(content_type) = HeaderValue::from_str(content_type) else {
            cx.error(format!("{at}/contentType"), "not the value of a header");
            return None;
        };
        let body = self.body.as_ref().map(|body| (content_type, Bytes::from(body.clone())));
        Some(WrittenReply {
            status: status.flatten(),
            body,
            grpc: self.grpc.map(|code| code as u8),
            reset: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_numbers_of_google_rpc_code() {
        let code = |name: &str| serde_json::from_value::<GrpcCode>(name.into()).unwrap() as u8;
        let names =
            ["CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNAUTHENTICATED"];
        assert_eq!(names.map(code), [1, 4, 8, 14, 16]);
    }
}
