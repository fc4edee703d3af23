//! `responseHeaders`: in which fields a client is told of its limits, besides `Retry-After` on a refusal.
//!
//! `x-ratelimit-*` has room for one limit only. Where several policies judge one request, it tells of the one that
//! would refuse first: the fewest requests left, then the longest wait; a refusal is always told.

use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum FieldSet {
    /// RateLimit and RateLimit-Policy, as the IETF draft has them.
    RateLimit,
    /// x-ratelimit-limit (the burst), x-ratelimit-remaining, and x-ratelimit-reset in seconds until one more passes.
    XRateLimit,
}

pub(super) fn default_fields() -> Vec<FieldSet> {
    vec![FieldSet::RateLimit]
}

/// What was written, as the hot path asks for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) draft: bool,
    pub(super) x: bool,
}

impl Told {
    pub(super) fn new(sets: &[FieldSet]) -> Self {
        Self { draft: sets.contains(&FieldSet::RateLimit), x: sets.contains(&FieldSet::XRateLimit) }
    }
}

/// One limit's standing, in whole numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// Not everybody who counts says.
    pub(super) limit: Option<u32>,
    pub(super) remaining: u32,
    pub(super) reset: u64,
    pub(super) refused: bool,
}

impl Standing {
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        if !self.refused && !self.closer_than(headers) {
            return;
        }
        match self.limit {
            Some(limit) => headers.insert(LIMIT, HeaderValue::from(limit)),
            None => headers.remove(LIMIT),
        };
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(self.reset));
    }

    fn closer_than(self, headers: &HeaderMap) -> bool {
        let told = |name| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let (Some(remaining), Some(reset)) = (told(REMAINING), told(RESET)) else { return true };
        let own = u64::from(self.remaining);
        own < remaining || (own == remaining && self.reset > reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(standings: &[(u32, u32, u64, bool)]) -> [String; 3] {
        let mut headers = HeaderMap::new();
        for &(limit, remaining, reset, refused) in standings {
            Standing { limit: Some(limit), remaining, reset, refused }.tell(&mut headers);
        }
        [LIMIT, REMAINING, RESET].map(|name| {
            let values: Vec<_> = headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            values.join(",")
        })
    }

    #[test]
    fn of_two_policies_the_one_with_fewer_requests_left_is_told_in_either_order() {
        let (few, many) = ((10, 2, 1, false), (100, 50, 3, false));
        assert_eq!(told(&[few, many]), ["10", "2", "1"]);
        assert_eq!(told(&[many, few]), ["10", "2", "1"]);
    }

    #[test]
    fn of_two_empty_limits_the_longer_wait_is_told() {
        assert_eq!(told(&[(1, 0, 9, false), (2, 0, 3, false)]), ["1", "0", "9"]);
    }

    #[test]
    fn a_refusal_is_told_even_after_a_limit_that_waits_longer() {
        assert_eq!(told(&[(1, 0, 9, false), (2, 0, 3, true)]), ["2", "0", "3"]);
    }
}
