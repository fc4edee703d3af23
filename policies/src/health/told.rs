//! What a response says about when to come back: `Retry-After` (RFC 9110, 10.2.3) with 429 or 503, and the pushback of
//! gRPC's retries (`grpc-retry-pushback-ms`, gRFC A6).

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::retry_after;

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// How long a response asks to wait.
pub(super) fn wait(status: StatusCode, headers: &HeaderMap, unix: &dyn Fn() -> Duration) -> Option<Duration> {
    let of_http = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let wait = headers.get(RETRY_AFTER).filter(|_| of_http).and_then(|value| retry_after::wait(value, unix));
    wait.filter(|wait| !wait.is_zero()).or_else(|| pushback(headers))
}

/// Negative or unreadable: there is to be no retry, and nothing is said about other calls.
pub(super) fn pushback(headers: &HeaderMap) -> Option<Duration> {
    let millis = retry_after::number(headers.get(PUSHBACK)?)?;
    Some(Duration::from_millis(millis)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, name: &str, value: &str) -> Option<Duration> {
        let response = http::Response::builder().status(status).header(name, value).body(()).unwrap();
        wait(response.status(), response.headers(), &|| Duration::from_secs(1_000_000_000))
    }

    #[test]
    fn seconds_are_read_where_the_status_gives_them_a_meaning() {
        assert_eq!(told(503, "retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(told(429, "retry-after", " 7 "), Some(Duration::from_secs(7)));
        assert_eq!(told(301, "retry-after", "7"), None);
        for unreadable in ["0", "-1", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"] {
            assert_eq!(told(503, "retry-after", unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn the_pushback_of_grpc_is_in_milliseconds() {
        assert_eq!(told(200, "grpc-retry-pushback-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(told(200, "grpc-retry-pushback-ms", "-1"), None);
    }
}
