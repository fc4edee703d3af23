use proptest::prelude::*;
use prost::Message;
use tidegate_quota::{Held, Rate, Terms, Tokens, Usage};

use super::{Strategy, *};

const DOMAIN: &str = "edge";

fn names(value: &str) -> Names {
    Names::from([(String::from("user"), value.to_owned())])
}

fn report(client: ClientId, held: Option<(u64, u64)>, leaves: bool) -> Report {
    let held = held.map(|(number, share)| Held {
        version: Version { epoch: 9, number },
        share: Share::billionths(share),
    });
    Report {
        client,
        bucket: BucketId::named(DOMAIN, &names("ann")),
        stamp: Duration::from_nanos(123_456_789),
        held,
        usage: Usage { allowed: 7, denied: 2, elapsed: Duration::from_millis(200) },
        returned: Tokens(1_500_000),
        leaves,
    }
}

fn limit(requests: u64, seconds: u64, burst: u64) -> Limit {
    let terms = Terms { ttl: Duration::from_secs(2), reuse: Duration::from_secs(10) };
    Limit { rate: Rate { requests, per: Duration::from_secs(seconds), burst }, terms }
}

fn assignment(share: u64) -> Assignment {
    Assignment {
        client: 5,
        bucket: BucketId::named(DOMAIN, &names("ann")),
        version: Version { epoch: 9, number: 4 },
        share: Share::billionths(share),
        terms: limit(1, 1, 1).terms,
        tokens: Tokens(3_000_000),
        stamp: Duration::from_secs(77),
        renews: false,
    }
}

fn bucket(share: u64, limit: Limit) -> (u32, u32, Duration) {
    let Some(Strategy::TokenBucket(bucket)) = strategy(Share::billionths(share), limit).strategy else {
        panic!("a token bucket")
    };
    let interval = bucket.fill_interval.unwrap().try_into().unwrap();
    (bucket.max_tokens, bucket.tokens_per_fill.unwrap(), interval)
}

#[test]
fn reports_and_assignments_come_out_as_they_went_in() {
    let sent = [
        (names("ann"), report(3, Some((4, 500_000_000)), false)),
        (names("ann"), report(u64::MAX, None, true)),
    ];
    let wire = usage_reports(DOMAIN, &sent).encode_to_vec();
    let message = RateLimitQuotaUsageReports::decode(&*wire).unwrap();
    assert_eq!(reports(&message, DOMAIN, (1, Duration::ZERO)), sent);
    let sent = assignment(250_000_000);
    let wire = response([(&names("ann"), &sent, limit(100, 1, 50))]).encode_to_vec();
    let message = RateLimitQuotaResponse::decode(&*wire).unwrap();
    assert_eq!(assignments(&message, DOMAIN), [sent]);
    assert_ne!(assignments(&message, "another")[0].bucket, sent.bucket);
}

#[test]
fn one_that_knows_nothing_of_leases_is_a_stranger_who_holds_nothing() {
    let mut message = usage_reports(DOMAIN, &[(names("ann"), report(3, None, false))]);
    message.bucket_quota_usages.values_mut().for_each(|usage| usage.lease = None);
    let (_, told) = reports(&message, DOMAIN, (42, Duration::from_secs(9))).remove(0);
    assert_eq!((told.client, told.stamp, told.held), (42, Duration::from_secs(9), None));
    assert_eq!((told.usage.allowed, told.returned, told.leaves), (7, Tokens::NONE, false));
}

#[test]
fn what_has_no_bucket_or_endless_names_is_left_out() {
    let long = names(&"x".repeat(70_000));
    let mut message = usage_reports(
        DOMAIN,
        &[
            (names("ann"), report(1, None, false)),
            (long, report(1, None, false)),
            (names("bob"), report(1, None, false)),
        ],
    );
    message.bucket_quota_usages.get_mut(&0).unwrap().bucket_id = None;
    let told = reports(&message, DOMAIN, (1, Duration::ZERO));
    assert_eq!(told.iter().map(|(names, _)| &*names["user"]).collect::<Vec<_>>(), ["bob"]);
}

#[test]
fn an_action_without_a_lease_is_none_of_ours() {
    let mut message = response([(&names("ann"), &assignment(1), limit(1, 1, 1))]);
    message.bucket_action.extend(abandoned([&names("bob")]).bucket_action);
    let Some(Action::QuotaAssignmentAction(assigned)) = &mut message.bucket_action[0].bucket_action else {
        panic!("an assignment")
    };
    assigned.lease = None;
    assert_eq!(assignments(&message, DOMAIN), []);
}

#[test]
fn a_share_is_a_token_bucket_for_others() {
    assert_eq!(bucket(500_000_000, limit(1000, 1, 100)), (50, 50, Duration::from_millis(100)));
    assert_eq!(bucket(1_000_000_000, limit(5, 1, 5)), (5, 1, Duration::from_millis(200)));
    assert_eq!(bucket(250_000_000, limit(1, 60, 1)), (1, 1, Duration::from_secs(240)));
}

proptest! {
    #[test]
    fn no_token_bucket_is_filled_faster_than_its_share(
        share in 1_u64..=1_000_000_000, requests in 1_u64..2_000_000, seconds in 1_u64..100_000,
    ) {
        let (_, tokens, interval) = bucket(share, limit(requests, seconds, 1));
        let filled = f64::from(tokens) / interval.as_secs_f64();
        let allowed = requests as f64 / seconds as f64 * share as f64 / 1e9;
        prop_assert!(filled <= allowed * 1.000_001, "{filled} > {allowed}");
        prop_assert!(filled >= allowed * 0.999, "{filled} < {allowed}");
    }

    #[test]
    fn whatever_bytes_come_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = RateLimitQuotaUsageReports::decode(&*bytes) {
            reports(&message, DOMAIN, (1, Duration::ZERO));
        }
        if let Ok(message) = RateLimitQuotaResponse::decode(&*bytes) {
            assignments(&message, DOMAIN);
        }
    }
}
