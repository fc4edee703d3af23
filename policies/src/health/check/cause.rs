//! Why a check failed: told in status, log and metrics.

use std::fmt;

use crate::reason::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The connection was refused, or the address cannot be reached or resolved.
    ConnectFailed,
    /// No verdict within the timeout.
    TimedOut,
    /// The backend's TLS settings cannot be used.
    TlsInvalid,
    /// The endpoint could not prove who it is.
    TlsUntrusted,
    /// No TLS, or not ours.
    TlsFailed,
    /// The connection ended before the answer did.
    Closed,
    /// What came is not valid HTTP, not gRPC, or larger than an answer to a check may be.
    Malformed,
    /// An HTTP status that is not among those written.
    Status(u16),
    /// The endpoint says by this status that it wants no more calls.
    Draining(u16),
    /// A `grpc-status` other than OK.
    GrpcStatus(u32),
    /// A `grpc.health.v1` status other than SERVING.
    NotServing(i32),
}

impl Cause {
    /// Every word of [`Cause::as_str`], in the order of [`Cause::number`].
    pub const WORDS: [&'static str; 11] = [
        "connect_failed",
        "timed_out",
        "tls_invalid",
        "tls_untrusted",
        "tls_failed",
        "closed",
        "malformed",
        "status",
        "draining",
        "grpc_status",
        "not_serving",
    ];

    /// What metrics call it.
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self.number()]
    }

    pub const fn number(self) -> usize {
        match self {
            Self::ConnectFailed => 0,
            Self::TimedOut => 1,
            Self::TlsInvalid => 2,
            Self::TlsUntrusted => 3,
            Self::TlsFailed => 4,
            Self::Closed => 5,
            Self::Malformed => 6,
            Self::Status(_) => 7,
            Self::Draining(_) => 8,
            Self::GrpcStatus(_) => 9,
            Self::NotServing(_) => 10,
        }
    }

    /// Why no connection came about.
    pub const fn of_connecting(reason: Reason) -> Self {
        match reason {
            Reason::ConnectTimeout => Self::TimedOut,
            Reason::UpstreamTlsInvalid => Self::TlsInvalid,
            Reason::UpstreamTlsUntrusted => Self::TlsUntrusted,
            Reason::UpstreamTlsFailed => Self::TlsFailed,
            _ => Self::ConnectFailed,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed => f.write_str("the endpoint cannot be reached"),
            Self::TimedOut => f.write_str("no answer in time"),
            Self::TlsInvalid => f.write_str("the backend's TLS settings cannot be used"),
            Self::TlsUntrusted => f.write_str("the endpoint could not prove who it is"),
            Self::TlsFailed => f.write_str("no TLS connection with the endpoint"),
            Self::Closed => f.write_str("the endpoint closed the connection before it had answered"),
            Self::Malformed => f.write_str("the answer is not valid, or too large"),
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Draining(status) => write!(f, "draining, by HTTP status {status}"),
            Self::GrpcStatus(code) => write!(f, "grpc-status {code}"),
            Self::NotServing(status) => write!(f, "not serving: {}", serving_status(*status)),
        }
    }
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus` by name.
const fn serving_status(status: i32) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "an unknown status",
    }
}
