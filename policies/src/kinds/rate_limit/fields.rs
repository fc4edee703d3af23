//! The response fields of draft-ietf-httpapi-ratelimit-headers, as structured fields (RFC 9651).
//!
//! `RateLimit-Policy` lists every limit: `q` requests per window of `w` seconds, which is the written rate. A window
//! that is no whole number of seconds is rounded up and its quota scaled along. The burst is not told: it is what
//! `r` starts from.
//! `RateLimit` tells of the limit closest to exhaustion: `r` requests would pass at once, and after `t` seconds there
//! is at least one more. On a refusal `t` equals `Retry-After`.
//! Quotas of the calendar are told beside that, in the same way: `w` is as long as their window is this time, and `t` is
//! until its end.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::time::whole_seconds;

pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// One member of `RateLimit-Policy`. Names are checked to need no escape.
pub(super) fn policy_member(name: &str, requests: NonZeroU32, per: Duration) -> String {
    let window = whole_seconds(per);
    let quota = u128::from(requests.get()) * u128::from(window) * 1_000_000_000 / per.as_nanos().max(1);
    format!("\"{name}\";q={quota};w={window}")
}

/// The value of `RateLimit`.
pub(super) fn rate_limit(name: &str, remaining: u32, next: Duration) -> Option<HeaderValue> {
    let (mut r, mut t) = (itoa::Buffer::new(), itoa::Buffer::new());
    // On the stack, long enough for the longest name and two numbers: each answer has one.
    let mut text = SmallVec::<[u8; 128]>::new();
    for part in ["\"", name, "\";r=", r.format(remaining), ";t=", t.format(whole_seconds(next))] {
        text.extend_from_slice(part.as_bytes());
    }
    HeaderValue::from_bytes(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(requests: u32, millis: u64) -> String {
        policy_member("a", NonZeroU32::new(requests).unwrap(), Duration::from_millis(millis))
    }

    #[test]
    fn the_quota_is_the_written_rate() {
        assert_eq!(member(100, 1000), "\"a\";q=100;w=1");
        assert_eq!(member(10, 3_600_000), "\"a\";q=10;w=3600");
    }

    #[test]
    fn a_window_of_broken_seconds_is_rounded_up_with_its_quota() {
        assert_eq!(member(100, 500), "\"a\";q=200;w=1");
        assert_eq!(member(3, 1500), "\"a\";q=4;w=2");
    }

    #[test]
    fn remaining_and_time_are_told_in_whole_numbers() {
        let value = rate_limit("per-user", 3, Duration::from_millis(1)).unwrap();
        assert_eq!(value, "\"per-user\";r=3;t=1");
        assert_eq!(rate_limit("a", 0, Duration::from_millis(1001)).unwrap(), "\"a\";r=0;t=2");
    }
}
