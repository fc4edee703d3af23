//! `TimeoutPolicy`: how long the parts of a call may take, and deadlines that travel with requests.
//!
//! This file checks what was written; [`crate::call`] decides, and the proxy counts.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check;
use crate::call::{DEFAULT_HEADER, DeadlineRule, Limit, Said, TimeLimits, TimeoutRule};
use crate::kind::{CompileContext, Compiled, PolicyKind};
use crate::model::TargetKind;
use crate::objects::GepDuration;

#[derive(Debug)]
pub(super) struct TimeoutPolicy;

/// Holds for the calls to a backend, where they are made: at a gateway, or in the caller's sidecar. What a route's rule
/// writes in `timeouts` wins, field by field, and so does the `connectTimeout` of a Backend. Whatever is reached, the answer is
/// 504, or DEADLINE_EXCEEDED; once the head of an answer has been passed on, it breaks off.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TimeoutPolicySpec {
    /// From the first packet to the end of the handshakes (TCP, and TLS where there is one). 1ms to 1m. Instead of the
    /// proxy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect: Option<GepDuration>,
    /// From the head of the request to the last byte of the answer, with all attempts and the waits between them. Where
    /// `streamDuration` is written: to the head of the answer. 1ms to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<GepDuration>,
    /// The same for each attempt, from its own beginning. 1ms to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    per_try: Option<GepDuration>,
    /// From one piece of an answer's body to the next, counted from its head; for gRPC streams too, not for tunnels. Before the
    /// head, `perTry` and `request` count. 1ms to 24h. Instead of the proxy's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle: Option<GepDuration>,
    /// From the head of an answer to its end, however much moves: of a body, a gRPC stream, a WebSocket or another tunnel.
    /// 1ms to 9600h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream_duration: Option<GepDuration>,
    /// How long a client may take from the first byte of a request's head to the last, by HTTP/1 (over HTTP/2 and HTTP/3 a head
    /// that does not come is bounded by their own means); who takes longer is disconnected. 10ms to 1m. It holds where the
    /// head is read: with a Gateway, ListenerSet or Namespace as target at the listeners, with a Service at its own sidecar; so
    /// not with routes as targets, nor at a gateway that leads to the Service. Of listeners that share a socket
    /// without TLS, the longest holds, if all have one: who is meant is known only from the head. Connections that
    /// are there already keep what they had. In Shadow it does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<GepDuration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<DeadlineSpec>,
}

/// How long the caller will wait, read from the request: `grpc-timeout` for gRPC, else `header`. The request has the shorter
/// of this and `request`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeadlineSpec {
    /// Tells the next hop, at each attempt, what is left. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    propagate: Option<bool>,
    /// Whole milliseconds; 0 is no deadline. Default: x-envoy-expected-rq-timeout-ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// Believes `header` from clients of a gateway too, which are outside of the mesh. Without this it is removed there.
    /// `grpc-timeout` is always believed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    trust_clients: bool,
    /// A deadline that lies further away counts as this. 1ms to 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max: Option<GepDuration>,
    /// With less than this left, the backend is not called: the work would be for nobody. Default: 5ms. 0s to 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minimum: Option<GepDuration>,
    /// Nor is it with less left than half of the backend's recent calls take.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    refuse_hopeless: bool,
}

const DEFAULT_MINIMUM: Duration = Duration::from_millis(5);
/// Headers that mean something else to everyone.
const TAKEN: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE];

impl PolicyKind for TimeoutPolicy {
    const KIND: &'static str = "TimeoutPolicy";
    const ABOUT: &'static str =
        "Limits how long calls may take, and passes on how long their callers will wait.";
    const TARGETS: &'static [TargetKind] = &TargetKind::ALL;
    type Spec = TimeoutPolicySpec;

    fn compile(spec: Self::Spec, cx: &mut CompileContext<'_>) -> Option<Compiled> {
        let TimeoutPolicySpec { connect, request, per_try, idle, stream_duration, header, deadline } = spec;
        let limits = [connect, request, per_try, idle, stream_duration, header];
        if limits.iter().all(Option::is_none) && deadline.is_none() {
            cx.error(
                "",
                "nothing to do: write `connect`, `request`, `perTry`, `idle`, `streamDuration`, `header` or `deadline`",
            );
        }
        let times = TimeLimits {
            connect: limit(("connect", "1m"), connect, cx),
            request: limit(("request", "24h"), request, cx),
            per_try: limit(("perTry", "24h"), per_try, cx),
            idle: limit(("idle", "24h"), idle, cx),
            stream: limit(("streamDuration", "9600h"), stream_duration, cx),
            header: head_limit(header, cx),
            deadline: deadline.and_then(|deadline| deadline.compile(cx)).map(Arc::new),
        };
        if let (Some(per_try), Some(request)) = (per_try, request)
            && per_try > request
        {
            cx.error("/perTry", format!("{per_try} is longer than the whole `request` may take ({request})"));
        }
        let rule = TimeoutRule { policy: cx.policy().clone(), mode: cx.mode(), times };
        Some(Compiled::Timeout(Arc::new(rule)))
    }
}

/// Before the head is read nobody knows which route it is for.
fn head_limit(written: Option<GepDuration>, cx: &mut CompileContext<'_>) -> Option<Limit> {
    let written = written?;
    let reads_heads =
        [TargetKind::Namespace, TargetKind::Gateway, TargetKind::ListenerSet, TargetKind::Service];
    if let Some(kind) = cx.target_kinds().iter().find(|kind| !reads_heads.contains(kind)) {
        let message = format!(
            "cannot hold for a {kind:?}, where no head of a client is read: target the Gateway, its listener \
             (`sectionName`), a ListenerSet, or the Service, for its own sidecar"
        );
        cx.error("/header", message);
    }
    let after = check::duration_within(cx, "/header", written, ("10ms", "1m"));
    let said = Said { policy: cx.policy().clone(), rule: cx.rule("header", "/header") };
    Some(Limit { after, said: Some(Arc::new(said)) })
}

fn limit(
    (name, most): (&'static str, &'static str),
    written: Option<GepDuration>,
    cx: &mut CompileContext<'_>,
) -> Option<Limit> {
    let at = format!("/{name}");
    let after = check::duration_within(cx, &at, written?, ("1ms", most));
    let said = Said { policy: cx.policy().clone(), rule: cx.rule(name, &at) };
    Some(Limit { after, said: Some(Arc::new(said)) })
}

impl DeadlineSpec {
    fn compile(&self, cx: &mut CompileContext<'_>) -> Option<DeadlineRule> {
        let within = |cx: &mut CompileContext<'_>, at: &str, value: Option<GepDuration>, bounds| {
            value.map(|value| check::duration_within(cx, &format!("/deadline/{at}"), value, bounds))
        };
        let max = within(cx, "max", self.max, ("1ms", "24h"));
        let minimum = within(cx, "minimum", self.minimum, ("0s", "1m")).unwrap_or(DEFAULT_MINIMUM);
        if max.is_some_and(|max| max < minimum) {
            cx.error(
                "/deadline/max",
                "shorter than `minimum`: every request with a deadline would be refused",
            );
        }
        let header = match &self.header {
            None => Some(DEFAULT_HEADER),
            Some(name) => HeaderName::try_from(name.as_str()).ok().filter(|name| !TAKEN.contains(name)),
        };
        let Some(header) = header else {
            let name = self.header.as_deref().unwrap_or_default();
            cx.error(
                "/deadline/header",
                format!("`{name}` cannot carry a deadline: name a header of your own"),
            );
            return None;
        };
        Some(DeadlineRule {
            said: Arc::new(Said { policy: cx.policy().clone(), rule: cx.rule("deadline", "/deadline") }),
            header,
            propagate: self.propagate.unwrap_or(true),
            trust_clients: self.trust_clients,
            max,
            minimum,
            refuse_hopeless: self.refuse_hopeless,
        })
    }
}

#[cfg(test)]
mod tests;
