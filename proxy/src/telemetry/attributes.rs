//! The names under which a request is told about: the same in spans and in the access log.
//!
//! HTTP and RPC names are those of the OpenTelemetry semantic conventions 1.x (`rpc.system.name`, fully qualified
//! `rpc.method` and `rpc.response.status_code` by name: the older `rpc.service` and numeric codes are
//! deprecated there). Ours all start with `tidegate.`.

pub(super) use opentelemetry_semantic_conventions::attribute::{
    CLIENT_ADDRESS, ERROR_TYPE, HTTP_REQUEST_BODY_SIZE, HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_REQUEST_RESEND_COUNT, HTTP_RESPONSE_BODY_SIZE, HTTP_RESPONSE_STATUS_CODE, NETWORK_PROTOCOL_VERSION,
    NETWORK_TRANSPORT, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME, SERVER_ADDRESS, SERVER_PORT,
    URL_FULL, URL_PATH, URL_SCHEME, USER_AGENT_ORIGINAL,
};

/// `inbound`, `outbound` or `gateway`.
pub(super) const DIRECTION: &str = "tidegate.direction";
/// SPIFFE id of the other side, where mTLS proved one.
pub(super) const PEER: &str = "tidegate.peer";
/// `namespace/name` of the matched route.
pub(super) const ROUTE: &str = "tidegate.route";
/// Name of the matched rule of the route, else its index.
pub(super) const RULE: &str = "tidegate.rule";
/// The picked backend: `namespace/name:port`.
pub(super) const BACKEND: &str = "tidegate.backend";
/// Weight of the picked backend in its rule.
pub(super) const WEIGHT: &str = "tidegate.weight";
/// Address of the called endpoint.
pub(super) const ENDPOINT: &str = "tidegate.endpoint";
/// On a client span: which attempt it is, from 1. On a server span: how many were made.
pub(super) const ATTEMPT: &str = "tidegate.attempt";
/// Of an opaque connection: what the client sent, and what it was sent.
pub(super) const BYTES_RECEIVED: &str = "tidegate.bytes.received";
pub(super) const BYTES_SENT: &str = "tidegate.bytes.sent";
/// Response flag: why the mesh answered in the backend's place. Absent for the backend's own answer.
pub(super) const REASON: &str = "tidegate.reason";
/// `refused`, else `would_refuse`, else `picked` or `would_pick`, else `allowed`; absent where no policy applied.
pub(super) const DECISION: &str = "tidegate.decision";
/// The policy behind `tidegate.decision`: the one that refused, else the first that would have.
pub(super) const POLICY_KIND: &str = "tidegate.policy.kind";
pub(super) const POLICY_NAMESPACE: &str = "tidegate.policy.namespace";
pub(super) const POLICY_NAME: &str = "tidegate.policy.name";
/// The rule within that policy.
pub(super) const POLICY_RULE: &str = "tidegate.policy.rule";
/// Where that rule was written: `file:line`, or `namespace/name@generation`.
pub(super) const POLICY_SOURCE: &str = "tidegate.policy.source";
/// What the rule knew, in its own words.
pub(super) const POLICY_DETAIL: &str = "tidegate.policy.detail";
/// `closed`, `half_open`, `open` or `ramping`, as the circuit breaker that judged last said.
pub(super) const BREAKER_STATE: &str = "tidegate.breaker.state";
/// Name of the event on a client span whose call made a breaker change its state; what that was before; and why it opened.
pub(super) const BREAKER_EVENT: &str = "tidegate.breaker";
pub(super) const BREAKER_BEFORE: &str = "tidegate.breaker.before";
pub(super) const BREAKER_EVIDENCE: &str = "tidegate.breaker.evidence";
/// Name of the span event that each decision of a policy leaves.
pub(super) const DECISION_EVENT: &str = "tidegate.decision";
/// What a plugin cost the request: one event for each that saw it.
pub(super) const PLUGIN_EVENT: &str = "tidegate.plugin";
pub(super) const PLUGIN: &str = "tidegate.plugin.name";
pub(super) const PLUGIN_CALLBACKS: &str = "tidegate.plugin.callbacks";
/// Microseconds.
pub(super) const PLUGIN_TIME: &str = "tidegate.plugin.time_us";
/// Microseconds.
pub(super) const PLUGIN_CPU: &str = "tidegate.plugin.cpu_us";
/// `done`, `answered` or `failed`.
pub(super) const PLUGIN_VERDICT: &str = "tidegate.plugin.verdict";
