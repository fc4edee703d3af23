//! What counts as a failure, as it is written.

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expression::Kind;
use crate::health::Failures;
use crate::kind::CompileContext;
use crate::kinds::check;
use crate::kinds::grpc_code::GrpcCode;

/// Any of these is a failure, and nothing else is. A refusal by the mesh itself never is, nor a client that leaves.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailuresSpec {
    /// HTTP statuses, each alone or from the first to the last: `["429", "500-599"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    statuses: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    grpc: Vec<GrpcCode>,
    /// No connection, or no TLS over it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    connect: bool,
    /// No response before the timeout of the request or the attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    timeout: bool,
    /// The connection or stream broke off, or what came made no sense.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    /// A truth value, in CEL over `response.status` and `response.headers`. Where it has no result, as for a header that is not
    /// there, the response is no failure by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    expression: Option<String>,
}

impl FailuresSpec {
    pub(super) fn compile(&self, at: &str, cx: &mut CompileContext<'_>) -> Failures {
        let Self { statuses, grpc, connect, timeout, reset, expression } = self;
        let silent = *connect || *timeout || *reset;
        if statuses.is_empty() && grpc.is_empty() && expression.is_none() && !silent {
            let fix =
                "write at least one of `statuses`, `grpc`, `connect`, `timeout`, `reset` and `expression`";
            cx.error(at, format!("nothing would be a failure: {fix}"));
        }
        let ranges = statuses.iter().enumerate().filter_map(|(i, text)| {
            let range = range(text);
            if range.is_none() {
                let fix = "write one from 100 to 599, or the first and the last: `500-599`";
                cx.error(format!("{at}/statuses/{i}"), format!("`{text}` is no status: {fix}"));
            }
            range
        });
        let statuses = ranges.collect();
        Failures {
            statuses,
            grpc: grpc.iter().map(|code| *code as u8).collect(),
            connect: *connect,
            timeout: *timeout,
            reset: *reset,
            expression: expression.as_ref().and_then(|text| {
                check::response_expression(cx, &format!("{at}/expression"), text, Kind::Bool)
            }),
        }
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}
