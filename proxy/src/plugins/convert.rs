//! Between the forms of the core, of the proxy and of plugins.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, StatusCode, request, response};
use tidegate_policy::Reason;
use tidegate_policy::pipeline::{LocalReply, WrittenReply};
use tidegate_policy::plugin::Plugin as Wanted;
use tidegate_wasm::{
    Budgets, Capabilities, LocalResponse, OffenceLimits, RequestHead, ResponseHead, Settings,
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");

/// Above so much of its memory, a VM is replaced.
const SOFT: (usize, usize) = (3, 4);

pub(super) fn settings(wanted: &Wanted) -> Settings {
    let name = wanted.policy.name.to_string();
    Settings {
        vm_id: wanted.vm_id.clone().unwrap_or_else(|| name.clone()),
        name: name.into(),
        root_id: wanted.root_id.clone(),
        configuration: wanted.configuration.clone(),
        vm_configuration: Bytes::new(),
        environment: wanted.environment.clone(),
        budgets: Budgets {
            callback: wanted.budgets.callback,
            start: wanted.budgets.start,
            memory: wanted.budgets.memory,
            soft_memory: wanted.budgets.memory / SOFT.1 * SOFT.0,
            calls: wanted.budgets.calls,
            buffer: wanted.budgets.buffer,
            log_lines: wanted.budgets.log_lines,
        },
        capabilities: Capabilities {
            hostcalls: wanted.hostcalls.clone(),
            upstreams: wanted.upstreams.iter().map(|(name, _)| name.clone()).collect(),
        },
        offences: OffenceLimits {
            count: wanted.offences.count,
            within: wanted.offences.within,
            quarantine: wanted.offences.quarantine,
        },
    }
}

/// Lends the head: what is left behind is empty.
pub(super) fn lend_request(head: &mut request::Parts, https: bool) -> RequestHead {
    RequestHead {
        method: std::mem::take(&mut head.method),
        uri: std::mem::take(&mut head.uri),
        https,
        headers: std::mem::take(&mut head.headers),
    }
}

pub(super) fn give_back_request(head: &mut request::Parts, lent: RequestHead) {
    (head.method, head.uri, head.headers) = (lent.method, lent.uri, lent.headers);
}

pub(super) fn lend_response(head: &mut response::Parts) -> ResponseHead {
    ResponseHead { status: head.status, headers: std::mem::take(&mut head.headers) }
}

pub(super) fn give_back_response(head: &mut response::Parts, lent: ResponseHead) {
    (head.status, head.headers) = (lent.status, lent.headers);
}

/// A plugin's own answer, as the mesh gives it.
pub(super) fn reply(mut local: LocalResponse) -> LocalReply {
    let named = |name: &http::HeaderName| {
        local.headers.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    };
    let content_type = named(&CONTENT_TYPE).unwrap_or(TEXT);
    local.headers.retain(|(name, _)| *name != CONTENT_TYPE && *name != CONTENT_LENGTH);
    let grpc =
        local.grpc_status.map_or_else(|| grpc_of(local.status), |code| u8::try_from(code).unwrap_or(2));
    let written = WrittenReply {
        status: Some(local.status),
        body: Some((content_type, local.body)),
        grpc: Some(grpc),
        reset: false,
    };
    LocalReply { headers: local.headers, written: Some(Arc::new(written)), ..Reason::PluginAnswered.into() }
}

/// No answer at all.
pub(super) fn reset() -> LocalReply {
    let written = WrittenReply { reset: true, ..WrittenReply::default() };
    LocalReply { written: Some(Arc::new(written)), ..Reason::PluginAnswered.into() }
}

/// A body of an answer that a plugin may not hold back whole.
pub(super) fn too_large() -> LocalReply {
    let body = (TEXT, Bytes::from_static(b"the answer is too large for a plugin\n"));
    let written = WrittenReply {
        status: Some(StatusCode::INTERNAL_SERVER_ERROR),
        body: Some(body),
        ..WrittenReply::default()
    };
    LocalReply { written: Some(Arc::new(written)), ..Reason::PluginFailed.into() }
}

/// What a gRPC client is told of an HTTP status
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
fn grpc_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
