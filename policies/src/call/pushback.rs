//! When an answer asks to be tried again: `Retry-After` (RFC 9110, section 10.2.3) and `grpc-retry-pushback-ms` (gRFC A6).

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::retry_after;

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
    /// `unix`: the time since the Unix epoch, asked for only where there is a date.
    pub fn of(headers: &HeaderMap, unix: &dyn Fn() -> Duration) -> Option<Self> {
        if let Some(pushback) = headers.get(GRPC_PUSHBACK) {
            let millis = retry_after::number(pushback);
            return Some(millis.map_or(Self::Never, |millis| Self::After(Duration::from_millis(millis))));
        }
        retry_after::wait(headers.get(RETRY_AFTER)?, unix).map(Self::After)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked(name: &'static str, value: &'static str) -> Option<Pushback> {
        let headers = [(name.parse().unwrap(), HeaderValue::from_static(value))].into_iter().collect();
        Pushback::of(&headers, &|| Duration::from_secs(784_111_770))
    }

    #[test]
    fn seconds_milliseconds_and_dates_are_waits() {
        assert_eq!(asked("retry-after", "2"), Some(Pushback::After(Duration::from_secs(2))));
        let pushback = asked("grpc-retry-pushback-ms", "150");
        assert_eq!(pushback, Some(Pushback::After(Duration::from_millis(150))));
        let date = asked("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date, Some(Pushback::After(Duration::from_secs(7))));
    }

    #[test]
    fn a_negative_or_meaningless_pushback_is_never() {
        for value in ["-1", "soon", "", "1.5"] {
            assert_eq!(asked("grpc-retry-pushback-ms", value), Some(Pushback::Never), "{value}");
        }
    }

    #[test]
    fn what_is_neither_number_nor_date_asks_for_nothing() {
        assert_eq!(asked("retry-after", "soon"), None);
    }
}
