//! Why a request did not get its answer from a backend, and the one table that says what follows.
//!
//! Every failure, from any hop, becomes a [`Reason`]; [`Reason::answer`] is the only place that turns one into a
//! status, a gRPC code, a flag and a retry rule. The match is exhaustive on purpose: a new reason does not compile
//! until its row is written. gRPC codes follow `google.rpc.Code`; statuses follow RFC 9110.

mod silence;

use http::StatusCode;
use serde::Serialize;

pub(crate) use silence::Silence;

/// Everything that can make the mesh answer in a backend's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The request itself cannot be understood or forwarded (no host, bad target).
    BadRequest,
    /// CONNECT, where no rule asks for it: what passes in a tunnel, no policy sees.
    ConnectRefused,
    /// The protocol to switch to is one that we do not carry, or that the endpoint does not take over HTTP/2.
    UpgradeUnsupported,
    /// The request came over a TLS connection for another listener's name.
    Misdirected,
    /// A client that must begin with TLS did not, or the handshake failed.
    BadHandshake,
    /// No rule of the listener or service matches.
    NoRoute,
    /// The matched rule has no backend to send to, or all its weights are zero.
    NoBackend,
    /// The picked backendRef is invalid (unknown kind, missing object, not permitted).
    InvalidBackend,
    /// A filter of the rule or backendRef names a policy that is not there, or cannot be applied here.
    InvalidFilter,
    /// The backend has no ready endpoint.
    NoEndpoint,
    /// The request has no token that holds.
    Unauthenticated,
    /// The request has a token, and the keys of its issuer cannot be had.
    KeysUnavailable,
    /// An authorization policy lets nobody do this, or not the one who asks.
    AccessDenied,
    /// The connection must be mTLS, and is not.
    MtlsRequired,
    /// The endpoint is to be called by mTLS, and this proxy has no certificate that holds.
    NoIdentity,
    /// A rate limit refused the request.
    RateLimited,
    /// There is more to do than can be done: the request was shed.
    Overloaded,
    /// A policy wanted the request to fail, to see what its caller makes of it.
    FaultInjected,
    /// A plugin answered in the backend's place, as it is its right.
    PluginAnswered,
    /// A plugin failed, or there is none to ask.
    PluginFailed,
    /// A plugin holds back more of a request's body, or of what a connection carries, than its budget allows.
    PluginBodyTooLarge,
    /// A plugin closed a connection that is carried as a whole, as it is its right.
    PluginClosed,
    /// A backend's circuit breaker is open.
    CircuitOpen,
    /// Every endpoint of the backend is held back by its own breaker.
    EndpointsOpen,
    /// Every endpoint of the backend fails its health checks.
    Unhealthy,
    /// The cap on connections is reached and nothing became free in time.
    ConnectionCap,
    /// The cap on requests waiting for a connection is reached.
    PendingCap,
    /// The cap on requests in flight is reached.
    RequestCap,
    /// The cap on retries in flight is reached: what the attempt before gave is the answer.
    RetryCap,
    /// The endpoint refused the connection or could not be reached.
    ConnectFailed,
    /// No connection within the connect timeout.
    ConnectTimeout,
    /// The backend is called by TLS, and there is nobody whose word on its endpoints could be trusted.
    UpstreamTlsInvalid,
    /// The endpoint could not prove that it is who it should be.
    UpstreamTlsUntrusted,
    /// The endpoint speaks no TLS, or not the TLS that we do.
    UpstreamTlsFailed,
    /// The endpoint closed or reset the connection before it answered.
    UpstreamReset,
    /// The endpoint sent something that is not valid HTTP.
    UpstreamProtocol,
    /// The whole request took longer than its timeout.
    RequestTimeout,
    /// The time that the caller gave the request is over, or what is left of it is too short for a call.
    DeadlineExceeded,
    /// The client stopped in the middle of its request body.
    ClientStalled,
    /// Nothing has moved on an opaque connection for its idle timeout.
    IdleTimeout,
    /// The client went away before the answer was complete.
    ClientGone,
    /// The proxy is draining and takes no new requests on this connection.
    Draining,
    /// A defect in Tidegate itself.
    Internal,
}

/// What a [`Reason`] means on the wire and to a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status for plain HTTP. 499 (client closed request) is never sent; it is what logs and metrics show.
    pub status: StatusCode,
    /// `grpc-status` for gRPC requests, sent as a trailers-only response with HTTP status 200.
    pub grpc: u8,
    /// Short flag for access log, span and metrics; unique per reason.
    pub flag: &'static str,
    /// One sentence for the response body.
    pub message: &'static str,
    /// Whether another attempt is safe whatever the method: no byte of the request reached an application.
    pub retry_safe: bool,
    /// Whether the downstream connection is closed after the answer.
    pub closes: bool,
}

const INVALID_ARGUMENT: u8 = 3;
const CANCELLED: u8 = 1;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

impl Reason {
    pub const ALL: [Self; 43] = [
        Self::BadRequest,
        Self::ConnectRefused,
        Self::UpgradeUnsupported,
        Self::Misdirected,
        Self::BadHandshake,
        Self::NoRoute,
        Self::NoBackend,
        Self::InvalidBackend,
        Self::InvalidFilter,
        Self::NoEndpoint,
        Self::Unauthenticated,
        Self::KeysUnavailable,
        Self::AccessDenied,
        Self::MtlsRequired,
        Self::NoIdentity,
        Self::RateLimited,
        Self::Overloaded,
        Self::FaultInjected,
        Self::PluginAnswered,
        Self::PluginFailed,
        Self::PluginBodyTooLarge,
        Self::PluginClosed,
        Self::CircuitOpen,
        Self::EndpointsOpen,
        Self::Unhealthy,
        Self::ConnectionCap,
        Self::PendingCap,
        Self::RequestCap,
        Self::RetryCap,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::UpstreamTlsInvalid,
        Self::UpstreamTlsUntrusted,
        Self::UpstreamTlsFailed,
        Self::UpstreamReset,
        Self::UpstreamProtocol,
        Self::RequestTimeout,
        Self::DeadlineExceeded,
        Self::ClientStalled,
        Self::IdleTimeout,
        Self::ClientGone,
        Self::Draining,
        Self::Internal,
    ];

    /// THE TABLE: reason -> (status, gRPC code, flag, message, safe to retry, closes the connection).
    #[allow(clippy::too_many_lines, reason = "it is one table, and has a row for each reason")]
    pub fn answer(self) -> Answer {
        let row = |status: u16, grpc, flag, message, retry_safe, closes| Answer {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            grpc,
            flag,
            message,
            retry_safe,
            closes,
        };
        match self {
            Self::BadRequest => {
                row(400, INVALID_ARGUMENT, "bad_request", "the request cannot be forwarded", false, true)
            }
            Self::ConnectRefused => {
                row(403, PERMISSION_DENIED, "connect_refused", "no rule is for CONNECT", false, true)
            }
            Self::UpgradeUnsupported => row(
                501,
                UNIMPLEMENTED,
                "upgrade_unsupported",
                "the protocol cannot be switched to",
                false,
                false,
            ),
            Self::Misdirected => {
                row(421, UNAVAILABLE, "misdirected", "this connection is for another host", false, false)
            }
            Self::BadHandshake => {
                row(400, INVALID_ARGUMENT, "bad_handshake", "the TLS handshake failed", false, true)
            }
            Self::NoRoute => row(404, UNIMPLEMENTED, "no_route", "no route matches", false, false),
            Self::NoBackend => row(500, UNAVAILABLE, "no_backend", "the route has no backend", false, false),
            Self::InvalidBackend => {
                row(500, UNAVAILABLE, "invalid_backend", "the route's backend is not valid", false, false)
            }
            Self::InvalidFilter => {
                row(500, UNAVAILABLE, "invalid_filter", "a filter of the route is not valid", false, false)
            }
            Self::NoEndpoint => row(503, UNAVAILABLE, "no_endpoint", "no endpoint is ready", true, false),
            Self::Unauthenticated => {
                row(401, UNAUTHENTICATED, "unauthenticated", "the request is not authenticated", false, false)
            }
            // Not 401, at which clients throw away tokens that are good.
            Self::KeysUnavailable => row(
                503,
                UNAVAILABLE,
                "keys_unavailable",
                "the keys of the token's issuer cannot be had",
                true,
                false,
            ),
            Self::AccessDenied => {
                row(403, PERMISSION_DENIED, "access_denied", "access is denied", false, false)
            }
            Self::MtlsRequired => {
                row(403, PERMISSION_DENIED, "mtls_required", "the connection must be mTLS", false, true)
            }
            Self::NoIdentity => row(
                503,
                UNAVAILABLE,
                "no_identity",
                "the proxy has no certificate to call with",
                false,
                false,
            ),
            Self::RateLimited => {
                row(429, RESOURCE_EXHAUSTED, "rate_limited", "too many requests", false, false)
            }
            // Not RESOURCE_EXHAUSTED, which is a quota of the caller's: this is for clients to retry elsewhere or later.
            Self::Overloaded => {
                row(503, UNAVAILABLE, "overloaded", "too much to do at this time", true, false)
            }
            Self::FaultInjected => {
                row(503, UNAVAILABLE, "fault_injected", "a fault was injected on purpose", true, false)
            }
            // The plugin's own words stand in place of these.
            Self::PluginAnswered => {
                row(403, PERMISSION_DENIED, "plugin_answered", "a plugin answered", false, false)
            }
            // As Envoy answers.
            Self::PluginFailed => row(503, UNAVAILABLE, "plugin_failed", "a plugin failed", false, false),
            Self::PluginBodyTooLarge => row(
                413,
                RESOURCE_EXHAUSTED,
                "plugin_body_too_large",
                "the body is too large for a plugin",
                false,
                true,
            ),
            // No request meets it: a plugin that resets one has answered it in its own way.
            Self::PluginClosed => {
                row(403, PERMISSION_DENIED, "plugin_closed", "a plugin closed the connection", false, true)
            }
            Self::CircuitOpen => row(503, UNAVAILABLE, "circuit_open", "the circuit is open", true, false),
            Self::EndpointsOpen => {
                row(503, UNAVAILABLE, "endpoints_open", "the circuit of every endpoint is open", true, false)
            }
            Self::Unhealthy => {
                row(503, UNAVAILABLE, "unhealthy", "every endpoint fails its health checks", true, false)
            }
            Self::ConnectionCap => {
                row(503, UNAVAILABLE, "connection_cap", "too many connections to the backend", true, false)
            }
            Self::PendingCap => {
                row(503, UNAVAILABLE, "pending_cap", "too many requests wait for the backend", true, false)
            }
            Self::RequestCap => row(
                503,
                UNAVAILABLE,
                "request_cap",
                "too many requests in flight to the backend",
                true,
                false,
            ),
            Self::RetryCap => {
                row(503, UNAVAILABLE, "retry_cap", "too many retries in flight to the backend", true, false)
            }
            Self::ConnectFailed => {
                row(503, UNAVAILABLE, "connect_failed", "the endpoint cannot be reached", true, false)
            }
            Self::ConnectTimeout => {
                row(503, UNAVAILABLE, "connect_timeout", "the endpoint did not accept in time", true, false)
            }
            Self::UpstreamTlsInvalid => row(
                500,
                UNAVAILABLE,
                "upstream_tls_invalid",
                "the backend's TLS settings cannot be used",
                false,
                false,
            ),
            Self::UpstreamTlsUntrusted => row(
                503,
                UNAVAILABLE,
                "upstream_tls_untrusted",
                "the endpoint could not prove who it is",
                true,
                false,
            ),
            Self::UpstreamTlsFailed => row(
                503,
                UNAVAILABLE,
                "upstream_tls_failed",
                "no TLS connection with the endpoint",
                true,
                false,
            ),
            Self::UpstreamReset => {
                row(503, UNAVAILABLE, "upstream_reset", "the endpoint closed the connection", false, false)
            }
            Self::UpstreamProtocol => {
                row(502, INTERNAL, "upstream_protocol", "the endpoint broke the protocol", false, false)
            }
            Self::RequestTimeout => {
                row(504, DEADLINE_EXCEEDED, "request_timeout", "the request timed out", false, false)
            }
            Self::DeadlineExceeded => row(
                504,
                DEADLINE_EXCEEDED,
                "deadline_exceeded",
                "the time given for the request is over",
                false,
                false,
            ),
            Self::ClientStalled => {
                row(408, CANCELLED, "client_stalled", "the request body stopped coming", false, true)
            }
            Self::IdleTimeout => {
                row(504, DEADLINE_EXCEEDED, "idle_timeout", "nothing moved for too long", false, true)
            }
            Self::ClientGone => row(499, CANCELLED, "client_gone", "the client went away", false, true),
            Self::Draining => row(503, UNAVAILABLE, "draining", "the proxy is shutting down", true, true),
            Self::Internal => row(500, INTERNAL, "internal", "internal error of the proxy", false, true),
        }
    }

    /// The response flag: what the access log, the span and the metrics call this reason.
    pub fn flag(self) -> &'static str {
        self.answer().flag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_reasons_share_a_flag() {
        let flags: HashSet<_> = Reason::ALL.iter().map(|r| r.flag()).collect();
        assert_eq!(flags.len(), Reason::ALL.len());
    }

    #[test]
    fn every_status_is_an_error_and_every_code_is_a_grpc_error() {
        for reason in Reason::ALL {
            let answer = reason.answer();
            assert!(answer.status.as_u16() >= 400, "{reason:?}");
            assert!((1..=16).contains(&answer.grpc), "{reason:?}");
        }
    }

    #[test]
    fn limits_and_circuits_answer_as_the_field_expects() {
        assert_eq!(Reason::RateLimited.answer().status, 429);
        assert_eq!(Reason::RateLimited.answer().grpc, 8);
        assert_eq!(Reason::CircuitOpen.answer().status, 503);
        assert_eq!(Reason::CircuitOpen.answer().grpc, 14);
    }
}
