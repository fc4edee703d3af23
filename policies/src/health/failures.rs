//! What the end of a call says about the endpoint's health: by default, or as a breaker's `failures` say.
//!
//! What the mesh refused, and a client that left, are nobody's failure and nobody's success.

use std::ops::RangeInclusive;
use std::sync::Arc;

use http::response;

use crate::decision::CallResult;
use crate::expression::{Expression, ResponseFacts};
use crate::reason::Silence;

/// gRPC codes that blame the server: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS (`google.rpc.Code`).
pub(crate) const GRPC_FAILURES: [u8; 5] = [2, 4, 13, 14, 15];

/// What counts as a failure; everything else that an endpoint did is a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    pub statuses: Box<[RangeInclusive<u16>]>,
    pub grpc: Box<[u8]>,
    /// No connection, or no TLS over it.
    pub connect: bool,
    /// No response in time.
    pub timeout: bool,
    /// The connection or stream broke, or what came made no sense.
    pub reset: bool,
    /// Over the response head; where it fails there is no failure.
    pub(crate) expression: Option<Arc<Expression>>,
}

impl Default for Failures {
    /// HTTP statuses from 500 up, the gRPC codes above, and calls without a response.
    fn default() -> Self {
        Self {
            statuses: [500..=u16::MAX].into(),
            grpc: GRPC_FAILURES.into(),
            connect: true,
            timeout: true,
            reset: true,
            expression: None,
        }
    }
}

/// Whether a call went well by default, whatever breakers there are.
pub(crate) fn usual(result: CallResult) -> Option<bool> {
    match result {
        CallResult::Status(status) => Some(status < 500),
        CallResult::Connected => Some(true),
        CallResult::Grpc(code) => Some(!GRPC_FAILURES.contains(&code)),
        CallResult::Failed(reason) => reason.silence().map(|_| false),
    }
}

impl Failures {
    /// Whether the call went well; `None` where its end says nothing about the endpoint. `by_head`: what
    /// [`Failures::in_head`] said, where there was a head.
    pub fn is_success(&self, result: CallResult, by_head: bool) -> Option<bool> {
        let failed = match result {
            CallResult::Status(status) => self.statuses.iter().any(|range| range.contains(&status)),
            CallResult::Connected => false,
            CallResult::Grpc(code) => self.grpc.contains(&code),
            CallResult::Failed(reason) => match reason.silence()? {
                Silence::Connect => self.connect,
                Silence::Timeout => self.timeout,
                Silence::Reset => self.reset,
            },
        };
        Some(!failed && !by_head)
    }

    /// Whether the expression calls this response a failure.
    pub fn in_head(&self, head: &response::Parts) -> bool {
        let holds = self.expression.as_ref().map(|expression| expression.holds(&ResponseFacts(head)));
        holds.is_some_and(|holds| holds.unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::Reason;

    #[test]
    fn by_default_server_errors_and_silence_are_failures_and_client_errors_are_not() {
        let is_success = |result| Failures::default().is_success(result, false);
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
            let told = Failures::default().is_success(CallResult::Failed(reason), false);
            assert_eq!(told, None, "{reason:?}");
        }
    }

    #[test]
    fn where_kinds_are_written_nothing_else_is_a_failure() {
        let none = Failures {
            statuses: Box::default(),
            grpc: Box::default(),
            connect: false,
            timeout: false,
            reset: false,
            expression: None,
        };
        let gateway = Failures { statuses: [502..=504].into(), ..none.clone() };
        let told = |status| gateway.is_success(CallResult::Status(status), false);
        assert_eq!([500, 502, 504, 505].map(told), [Some(true), Some(false), Some(false), Some(true)]);
        assert_eq!(gateway.is_success(CallResult::Failed(Reason::ConnectFailed), false), Some(true));
        let connect = Failures { connect: true, ..none };
        assert_eq!(connect.is_success(CallResult::Failed(Reason::ConnectTimeout), false), Some(false));
        assert_eq!(connect.is_success(CallResult::Failed(Reason::UpstreamReset), false), Some(true));
        assert_eq!(connect.is_success(CallResult::Status(503), false), Some(true));
    }

    #[test]
    fn an_expression_adds_to_what_is_a_failure_and_one_without_a_result_does_not() {
        let text = "response.status == 200 && response.headers['x-degraded'] == 'yes'";
        let compiled = Expression::compile_for_response(text, crate::expression::Kind::Bool).unwrap();
        let failures = Failures { expression: Some(Arc::new(compiled)), ..Failures::default() };
        let head = |value: Option<&str>| {
            let mut response = http::Response::builder();
            if let Some(value) = value {
                response = response.header("x-degraded", value);
            }
            response.body(()).unwrap().into_parts().0
        };
        let told = [Some("yes"), Some("no"), None].map(|value| failures.in_head(&head(value)));
        assert_eq!(told, [true, false, false]);
        assert_eq!(failures.is_success(CallResult::Status(200), true), Some(false));
    }
}
