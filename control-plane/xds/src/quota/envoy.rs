//! What a plain Envoy is told of its share: a token bucket, the only strategy of its filter that limits at all.
//!
//! Its filter (seen in 1.40) is narrower than the protocol, and what is sent keeps to what it does:
//!
//! * It reads whole seconds only, of the time to live and of the fill interval. An interval below one second would be
//!   no limit.
//! * Two buckets are the same to it if their tokens and the nanoseconds of their intervals are: it does not look at the
//!   seconds.
//! * It begins with all tokens that a bucket can hold, and keeps the part that is left when it gets another. So each
//!   change of shares between Envoys can admit up to what the shares changed of the burst once more.

use std::time::Duration;

use tidegate_proto::envoy::service::rate_limit_quota::v3::RateLimitQuotaResponse;
use tidegate_proto::envoy::service::rate_limit_quota::v3::rate_limit_quota_response::bucket_action::{
    BucketAction as Action, QuotaAssignmentAction,
};
use tidegate_proto::envoy::r#type::v3::rate_limit_strategy::{BlanketRule, Strategy};
use tidegate_proto::envoy::r#type::v3::{RateLimitStrategy, TokenBucket};
use tidegate_quota::{Assignment, Rate, Share};

use super::message::{Names, action};

/// What the whole limit fills in one interval at least, so that a millionth of it is still something.
const FINE: u128 = 1_000_000;
/// More than three years: a limit that does not fill so much until then is told more coarsely.
const LONGEST_INTERVAL_EXPONENT: u32 = 8;
const SECOND: u128 = 1_000_000_000;

/// What a server gives to plain Envoys, each with the limit that it is a share of. The stamps must be of the clock of `now`:
/// an Envoy counts from when it hears of a share, and must not keep it longer than it is lent.
pub fn envoy_response(assignments: &[(Names, Assignment, Rate)], now: Duration) -> RateLimitQuotaResponse {
    let actions = assignments.iter().map(|(names, assignment, rate)| {
        let age = now.saturating_sub(assignment.stamp);
        let assigned = QuotaAssignmentAction {
            assignment_time_to_live: assignment.terms.lease().saturating_sub(age).try_into().ok(),
            rate_limit_strategy: Some(strategy(*rate, assignment.share)),
            lease: None,
        };
        action(names, Action::QuotaAssignmentAction(assigned))
    });
    RateLimitQuotaResponse { bucket_action: actions.collect() }
}

fn strategy(rate: Rate, share: Share) -> RateLimitStrategy {
    let exponent = interval_exponent(rate);
    let filled = filled_within(rate, exponent) * parts(share) / parts(Share::WHOLE);
    let strategy = if filled == 0 {
        Strategy::BlanketRule(BlanketRule::DenyAll.into())
    } else {
        let burst = u128::from(rate.burst) * parts(share) / parts(Share::WHOLE);
        Strategy::TokenBucket(TokenBucket {
            max_tokens: at_most(burst.max(1)),
            tokens_per_fill: Some(at_most(filled)),
            // The nanoseconds say which interval it is: see the module.
            fill_interval: Some(prost_types::Duration {
                seconds: 10_i64.pow(exponent),
                nanos: i32::try_from(exponent).unwrap_or_default(),
            }),
        })
    };
    RateLimitStrategy { strategy: Some(strategy) }
}

/// Seconds, as a power of ten. Of the limit and not of a share, so that shares differ in tokens.
fn interval_exponent(rate: Rate) -> u32 {
    let fine = |exponent: &u32| filled_within(rate, *exponent) >= FINE;
    (0..LONGEST_INTERVAL_EXPONENT).find(fine).unwrap_or(LONGEST_INTERVAL_EXPONENT)
}

/// Tokens of the whole limit.
fn filled_within(rate: Rate, exponent: u32) -> u128 {
    u128::from(rate.requests) * 10_u128.pow(exponent) * SECOND / rate.per.as_nanos().max(1)
}

fn parts(share: Share) -> u128 {
    u128::from(share.as_billionths())
}

fn at_most(tokens: u128) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_quota::{BucketId, Terms, Tokens, Version};

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(requests: u64, per: Duration) -> Rate {
        Rate { requests, per, burst: 40 }
    }

    /// Most tokens, tokens per fill, and seconds and nanoseconds of the interval.
    fn bucket(rate: Rate, share: Share) -> (u32, u32, i64, i32) {
        match strategy(rate, share).strategy {
            Some(Strategy::TokenBucket(bucket)) => {
                let interval = bucket.fill_interval.unwrap();
                (bucket.max_tokens, bucket.tokens_per_fill.unwrap(), interval.seconds, interval.nanos)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_share_is_a_token_bucket_of_whole_seconds_with_its_part_of_rate_and_burst() {
        let quarter = Share::billionths(250_000_000);
        assert_eq!(bucket(rate(100, SECOND), quarter), (10, 250_000, 10_000, 4));
        assert_eq!(bucket(rate(1_000_000, SECOND), quarter), (10, 250_000, 1, 0));
        assert_eq!(bucket(rate(3, SECOND * 3600), quarter).1, 20_833, "of 10^8 seconds");
    }

    #[test]
    fn limits_of_other_rates_are_never_the_same_bucket_to_an_envoy() {
        let (slow, fast) =
            (bucket(rate(100, SECOND), Share::WHOLE), bucket(rate(1000, SECOND), Share::WHOLE));
        assert_eq!((slow.0, slow.1), (fast.0, fast.1));
        assert_ne!(slow.3, fast.3);
    }

    #[test]
    fn the_smallest_share_is_one_request_at_once_and_none_is_none() {
        assert_eq!(bucket(rate(1_000_000, SECOND), Share::billionths(1_000)), (1, 1, 1, 0));
        let none = strategy(rate(100, SECOND), Share::NONE).strategy;
        assert_eq!(none, Some(Strategy::BlanketRule(BlanketRule::DenyAll.into())));
    }

    #[test]
    fn what_is_told_late_is_lent_for_less() {
        let assignment = Assignment {
            client: 1,
            bucket: BucketId([0; 16]),
            version: Version { epoch: 1, number: 1 },
            share: Share::WHOLE,
            terms: Terms { ttl: SECOND * 8, reuse: SECOND * 4 },
            tokens: Tokens::NONE,
            stamp: SECOND * 10,
            renews: false,
        };
        let told = |now| {
            let response = envoy_response(&[(Names::new(), assignment, rate(1, SECOND))], now);
            let Some(Action::QuotaAssignmentAction(action)) = &response.bucket_action[0].bucket_action else {
                panic!("{response:?}");
            };
            assert!(action.lease.is_none());
            action.assignment_time_to_live.unwrap().seconds
        };
        assert_eq!([told(SECOND * 10), told(SECOND * 13), told(SECOND * 99)], [12, 9, 0]);
    }
}
