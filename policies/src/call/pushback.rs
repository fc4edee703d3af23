//! When an answer asks to be tried again: `Retry-After` in seconds (RFC 9110, section 10.2.3; a date is not looked at,
//! for the core has no calendar) and `grpc-retry-pushback-ms` (gRFC A6).

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};

/// What an answer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushback {
    /// Not earlier than this.
    After(Duration),
    /// Not at all: a pushback that is negative or no number.
    Never,
}

const GRPC_PUSHBACK: &str = "grpc-retry-pushback-ms";

impl Pushback {
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        if let Some(pushback) = headers.get(GRPC_PUSHBACK) {
            let millis = number(pushback);
            return Some(millis.map_or(Self::Never, |millis| Self::After(Duration::from_millis(millis))));
        }
        let seconds = headers.get(RETRY_AFTER).and_then(number)?;
        Some(Self::After(Duration::from_secs(seconds)))
    }
}

/// Digits only; too many of them are as many as there can be.
fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.as_bytes().trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |n: u64, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &'static str, value: &'static str) -> Option<Pushback> {
        Pushback::of(&[(name.parse().unwrap(), HeaderValue::from_static(value))].into_iter().collect())
    }

    #[test]
    fn seconds_and_milliseconds_are_waits() {
        assert_eq!(asked("retry-after", "2"), Some(Pushback::After(Duration::from_secs(2))));
        let pushback = asked("grpc-retry-pushback-ms", "150");
        assert_eq!(pushback, Some(Pushback::After(Duration::from_millis(150))));
    }

    #[test]
    fn a_negative_or_meaningless_pushback_is_never() {
        for value in ["-1", "soon", "", "1.5"] {
            assert_eq!(asked("grpc-retry-pushback-ms", value), Some(Pushback::Never), "{value}");
        }
    }

    #[test]
    fn a_date_says_nothing_and_no_number_is_too_long() {
        assert_eq!(asked("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"), None);
        let far = asked("retry-after", "99999999999999999999999999");
        assert_eq!(far, Some(Pushback::After(Duration::from_secs(u64::MAX))));
    }
}
