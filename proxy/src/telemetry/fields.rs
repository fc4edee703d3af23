//! What is told about a finished request, once for both of its tellers: the server span and the access log.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

use http::uri::Authority;
use http::{Method, Version};
use tidegate_policy::decision::Detail;
use tidegate_policy::{Decision, Outcome, Reason};

use super::attributes as name;
use super::exchange::{Destination, Finished, Record};

/// The longest text taken from a request. Keeps what waits in a queue bounded whatever clients send.
pub(super) const MAX_TEXT: usize = 1_024;

/// A value, by reference where it has one.
pub(super) enum Field<'a> {
    Static(&'static str),
    Shared(&'a Arc<str>),
    Text(Cow<'a, str>),
    Shown(&'a dyn Display),
    Int(i64),
}

/// Tells `visit` every field that applies, each under its name in [`super::attributes`].
pub(super) fn visit(record: &Record, finished: &Finished, visit: &mut impl FnMut(&'static str, Field<'_>)) {
    request(record, visit);
    response(record, finished, visit);
    if let Some(destination) = &record.destination {
        routing(destination, visit);
    }
    if let Some(attempt) = &record.attempt {
        visit(name::ENDPOINT, Field::Shared(&attempt.endpoint));
        visit(name::ATTEMPT, Field::Int(attempt.number.into()));
    }
    decision(&finished.decisions, finished.reason, visit);
}

fn request(record: &Record, visit: &mut impl FnMut(&'static str, Field<'_>)) {
    visit(name::DIRECTION, Field::Static(record.direction.as_str()));
    let (method, original) = method(&record.method);
    visit(name::HTTP_REQUEST_METHOD, Field::Static(method));
    if let Some(original) = original {
        visit(name::HTTP_REQUEST_METHOD_ORIGINAL, Field::Text(clip(original)));
    }
    visit(name::URL_SCHEME, Field::Static(scheme(record)));
    visit(name::URL_PATH, Field::Text(clip(record.uri.path())));
    visit(name::NETWORK_PROTOCOL_VERSION, Field::Static(version(record.version)));
    visit(name::CLIENT_ADDRESS, Field::Shown(&record.client.ip()));
    if let Some(identity) = &record.identity {
        visit(name::PEER, Field::Shared(&identity.0));
    }
    if let Some(authority) = authority(record) {
        visit(name::SERVER_ADDRESS, Field::Text(clip(authority.host())));
        if let Some(port) = authority.port_u16() {
            visit(name::SERVER_PORT, Field::Int(port.into()));
        }
    }
    if let Some(agent) = &record.user_agent {
        let agent = String::from_utf8_lossy(agent.as_bytes());
        visit(name::USER_AGENT_ORIGINAL, Field::Text(Cow::Owned(clip(&agent).into_owned())));
    }
    if record.grpc {
        visit(name::RPC_SYSTEM_NAME, Field::Static("grpc"));
        visit(name::RPC_METHOD, Field::Text(clip(rpc_method(record))));
    }
}

fn response(record: &Record, finished: &Finished, visit: &mut impl FnMut(&'static str, Field<'_>)) {
    visit(name::HTTP_RESPONSE_STATUS_CODE, Field::Int(finished.status.as_u16().into()));
    visit(name::HTTP_REQUEST_BODY_SIZE, Field::Int(int(finished.bytes_in)));
    visit(name::HTTP_RESPONSE_BODY_SIZE, Field::Int(int(finished.bytes_out)));
    if let Some(code) = finished.grpc_status {
        visit(name::RPC_RESPONSE_STATUS_CODE, Field::Static(grpc_code(code)));
    }
    if let Some(reason) = finished.reason {
        visit(name::REASON, Field::Static(reason.flag()));
    }
    if let Some(kind) = server_error(record, finished) {
        visit(name::ERROR_TYPE, Field::Text(kind));
    }
}

pub(super) fn routing(destination: &Destination, visit: &mut impl FnMut(&'static str, Field<'_>)) {
    if let Some(route) = &destination.route {
        visit(name::ROUTE, Field::Shared(route));
    }
    visit(name::RULE, Field::Shared(&destination.rule));
    if let Some(backend) = &destination.backend {
        visit(name::BACKEND, Field::Shared(backend));
        visit(name::WEIGHT, Field::Int(destination.weight.into()));
    }
}

/// Of a request or of a connection, that has ended for this reason.
pub(super) fn decision(
    decisions: &[Decision],
    reason: Option<Reason>,
    visit: &mut impl FnMut(&'static str, Field<'_>),
) {
    if let Some(state) = breaker_state(decisions) {
        visit(name::BREAKER_STATE, Field::Text(Cow::Borrowed(state)));
    }
    let Some(deciding) = deciding(decisions, reason) else {
        if !decisions.is_empty() {
            visit(name::DECISION, Field::Static(Outcome::Allowed.as_str()));
        }
        return;
    };
    visit(name::DECISION, Field::Static(deciding.outcome.as_str()));
    visit(name::POLICY_KIND, Field::Shared(&deciding.policy.kind));
    visit(name::POLICY_NAMESPACE, Field::Shared(&deciding.policy.name.namespace));
    visit(name::POLICY_NAME, Field::Shared(&deciding.policy.name.name));
    visit(name::POLICY_RULE, Field::Shared(&deciding.rule.name));
    visit(name::POLICY_SOURCE, Field::Shown(&deciding.rule.source));
    if let Some(detail) = &deciding.detail {
        visit(name::POLICY_DETAIL, Field::Text(detail.to_string().into()));
    }
}

/// The decision that answered the request, else a fault that it met, else the first that would have refused it, else the
/// first that wants it told, else the last about more attempts, else the one that picked the backend. A refused attempt that was made good by another one
/// decided nothing.
fn deciding(decisions: &[Decision], ended: Option<Reason>) -> Option<&Decision> {
    let refused = |decision: &&Decision| match (decision.outcome, ended) {
        (Outcome::Refused(Reason::CircuitOpen), Some(Reason::EndpointsOpen)) => true,
        (Outcome::Refused(reason), answered) => Some(reason) == answered,
        _ => false,
    };
    decisions
        .iter()
        .rev()
        .find(refused)
        .or_else(|| decisions.iter().find(|d| d.outcome == Outcome::Injected))
        .or_else(|| decisions.iter().find(|d| matches!(d.outcome, Outcome::WouldRefuse(_))))
        .or_else(|| decisions.iter().find(|d| d.outcome == Outcome::Audited))
        .or_else(|| decisions.iter().rev().find(|d| is_of_attempts(d.outcome)))
        .or_else(|| decisions.iter().find(|d| d.outcome == Outcome::WouldInject))
        .or_else(|| decisions.iter().find(|d| matches!(d.outcome, Outcome::Picked | Outcome::WouldPick)))
}

fn is_of_attempts(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Retried | Outcome::Hedged | Outcome::NotRetried | Outcome::WouldRetry)
}

/// `state=…` in the words of the circuit breaker that judged last.
fn breaker_state(decisions: &[Decision]) -> Option<&'static str> {
    decisions.iter().rev().find_map(|d| match d.detail {
        Some(Detail::State(phase)) => Some(phase.as_str()),
        _ => None,
    })
}

/// The `error.type` of a request that failed on the server's side; `None` for one that did not, which includes
/// every 4xx. gRPC: the codes that the RPC conventions call server errors.
pub(super) fn server_error(record: &Record, finished: &Finished) -> Option<Cow<'static, str>> {
    let failed_code = finished.grpc_status.filter(|code| matches!(code, 2 | 4 | 12 | 13 | 14 | 15));
    let failed = finished.status.is_server_error() || (record.grpc && failed_code.is_some());
    if !failed {
        return None;
    }
    Some(match (finished.reason, failed_code) {
        (Some(reason), _) => Cow::Borrowed(reason.flag()),
        (None, Some(code)) => Cow::Borrowed(grpc_code(code)),
        (None, None) => Cow::Owned(finished.status.as_str().to_owned()),
    })
}

/// The method if the conventions know it; else `_OTHER` and the method as it came.
pub(super) fn method(method: &Method) -> (&'static str, Option<&str>) {
    let known = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => return ("_OTHER", Some(method.as_str())),
    };
    (known, None)
}

/// `package.Service/Method`.
pub(super) fn rpc_method(record: &Record) -> &str {
    record.uri.path().trim_start_matches('/')
}

pub(super) fn scheme(record: &Record) -> &'static str {
    if record.secure || record.uri.scheme_str() == Some("https") { "https" } else { "http" }
}

/// The host that the client asked for.
pub(super) fn authority(record: &Record) -> Option<Authority> {
    let from_host = || Authority::try_from(record.host.as_ref()?.as_bytes()).ok();
    record.uri.authority().cloned().or_else(from_host)
}

/// `google.rpc.Code` by name.
pub(super) fn grpc_code(code: u8) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    // gRPC: a code that is not known counts as UNKNOWN.
    NAMES.get(usize::from(code)).copied().unwrap_or("UNKNOWN")
}

/// At most [`MAX_TEXT`] bytes, with a mark where something was cut.
pub(super) fn clip(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    Cow::Owned(format!("{}…", &text[..end]))
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

fn int(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
