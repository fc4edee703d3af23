//! What the end of a call says about the endpoint's health.

use crate::decision::CallResult;
use crate::reason::Reason;

/// gRPC codes that blame the server: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS (`google.rpc.Code`).
const GRPC_FAILURES: [u8; 5] = [2, 4, 13, 14, 15];

/// Whether the call went well; `None` where its end says nothing about the endpoint: the client left, or the mesh
/// itself refused. Failures are HTTP statuses from 500 up, the gRPC codes above, and calls without a response.
pub(crate) fn is_success(result: CallResult) -> Option<bool> {
    match result {
        CallResult::Status(status) => Some(status < 500),
        CallResult::Connected => Some(true),
        CallResult::Grpc(code) => Some(!GRPC_FAILURES.contains(&code)),
        CallResult::Failed(reason) => match reason {
            Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::UpstreamTlsUntrusted
            | Reason::UpstreamTlsFailed
            | Reason::UpstreamReset
            | Reason::UpstreamProtocol
            | Reason::RequestTimeout
            | Reason::Internal => Some(false),
            Reason::ClientGone
            | Reason::ClientStalled
            | Reason::IdleTimeout
            | Reason::BadRequest
            | Reason::Misdirected
            | Reason::ConnectRefused
            | Reason::UpgradeUnsupported
            | Reason::BadHandshake
            | Reason::NoRoute
            | Reason::NoBackend
            | Reason::InvalidBackend
            | Reason::InvalidFilter
            | Reason::UpstreamTlsInvalid
            | Reason::NoEndpoint
            | Reason::Unauthenticated
            | Reason::RateLimited
            | Reason::CircuitOpen
            | Reason::EndpointsOpen
            | Reason::ConnectionCap
            | Reason::PendingCap
            | Reason::RequestCap
            | Reason::Draining => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_errors_and_silence_are_failures_and_client_errors_are_not() {
        assert_eq!(is_success(CallResult::Status(200)), Some(true));
        assert_eq!(is_success(CallResult::Status(429)), Some(true));
        assert_eq!(is_success(CallResult::Status(500)), Some(false));
        assert_eq!(is_success(CallResult::Grpc(0)), Some(true));
        assert_eq!(is_success(CallResult::Grpc(5)), Some(true));
        assert_eq!(is_success(CallResult::Grpc(14)), Some(false));
        assert_eq!(is_success(CallResult::Failed(Reason::ConnectFailed)), Some(false));
    }

    #[test]
    fn refusals_of_the_mesh_and_clients_that_leave_say_nothing() {
        for reason in [Reason::ClientGone, Reason::RequestCap, Reason::CircuitOpen, Reason::RateLimited] {
            assert_eq!(is_success(CallResult::Failed(reason)), None, "{reason:?}");
        }
    }
}
