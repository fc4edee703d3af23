use super::*;
use crate::decision::RuleRef;
use crate::model::{PolicyRef, ResourceName, SourceRef};
use proptest::prelude::*;

fn rule() -> DeadlineRule {
    let source = SourceRef::File { path: "p.yaml".into(), line: 1 };
    let policy = PolicyRef {
        kind: "TimeoutPolicy".into(),
        name: ResourceName::new("shop", "t"),
        source: source.clone(),
    };
    DeadlineRule {
        said: Arc::new(Said {
            policy: policy.into(),
            rule: Arc::new(RuleRef { name: "deadline".into(), source }),
        }),
        header: DEFAULT_HEADER,
        propagate: true,
        trust_clients: false,
        max: None,
        minimum: Duration::from_millis(5),
        refuse_hopeless: false,
    }
}

fn headers(name: HeaderName, value: &str) -> HeaderMap {
    [(name, value.parse().unwrap())].into_iter().collect()
}

#[test]
fn every_unit_of_grpc_is_read() {
    for (text, nanos) in [
        ("1H", 3_600_000_000_000_u128),
        ("1M", 60_000_000_000),
        ("1S", 1_000_000_000),
        ("1m", 1_000_000),
        ("1u", 1_000),
        ("1n", 1),
        ("0n", 0),
        ("99999999H", 99_999_999 * 3_600_000_000_000),
    ] {
        assert_eq!(parse_grpc_timeout(text.as_bytes()).map(|d| d.as_nanos()), Some(nanos), "{text}");
    }
}

#[test]
fn other_forms_are_no_timeout() {
    for text in ["", "S", "1", "1s", "1 S", "-1S", "+1S", "1.5S", "100000000n", "1SS", "\u{661}S"] {
        assert_eq!(parse_grpc_timeout(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn a_deadline_from_outside_is_believed_only_where_it_is_written() {
    let asked = headers(DEFAULT_HEADER, "250");
    assert_eq!(rule().asked(&asked, false, true), None);
    assert_eq!(rule().asked(&asked, false, false), Some(Duration::from_millis(250)));
    let trusting = DeadlineRule { trust_clients: true, ..rule() };
    assert_eq!(trusting.asked(&asked, false, true), Some(Duration::from_millis(250)));
    let grpc = headers(GRPC_TIMEOUT, "250m");
    assert_eq!(rule().asked(&grpc, true, true), Some(Duration::from_millis(250)));
}

#[test]
fn a_far_deadline_counts_as_the_longest_and_none_stays_none() {
    let bounded = DeadlineRule { max: Some(Duration::from_secs(1)), ..rule() };
    assert_eq!(bounded.asked(&headers(GRPC_TIMEOUT, "1H"), true, false), Some(Duration::from_secs(1)));
    assert_eq!(bounded.asked(&headers(GRPC_TIMEOUT, "10m"), true, false), Some(Duration::from_millis(10)));
    assert_eq!(bounded.asked(&HeaderMap::new(), true, false), None);
    assert_eq!(bounded.asked(&headers(DEFAULT_HEADER, "0"), false, false), None, "0 is no timeout");
}

#[test]
fn the_next_hop_is_told_what_is_left_and_an_unbelieved_header_is_gone() {
    let mut told = headers(DEFAULT_HEADER, "250");
    rule().tell(Some(Duration::from_micros(99_900)), false, &mut told);
    assert_eq!(told[DEFAULT_HEADER], "99");
    rule().tell(None, false, &mut told);
    assert!(told.is_empty());
    rule().tell(Some(Duration::from_millis(1500)), true, &mut told);
    assert_eq!(told[GRPC_TIMEOUT], "1500000u");
}

#[test]
fn what_cannot_be_in_time_is_not_worth_a_call() {
    let (left, slow) = (Duration::from_millis(10), Some(Duration::from_millis(11)));
    assert!(rule().is_worth_it(left, slow));
    assert!(!rule().is_worth_it(Duration::from_millis(4), None));
    let hopeless = DeadlineRule { refuse_hopeless: true, ..rule() };
    assert!(!hopeless.is_worth_it(left, slow) && hopeless.is_worth_it(left, None));
    assert!(!DeadlineRule { minimum: Duration::ZERO, ..rule() }.is_worth_it(Duration::ZERO, None));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(value in prop::collection::vec(any::<u8>(), 0..16)) {
        if let Some(timeout) = parse_grpc_timeout(&value) {
            prop_assert!(value.len() <= MOST_DIGITS + 1 && timeout.as_secs() <= 99_999_999 * 3600);
        }
    }

    /// Never more than is left, and less by no more than one part in a hundred thousand.
    #[test]
    fn what_is_written_is_read_again_rounded_down(secs in 0_u64..u64::MAX, nanos in 0_u32..1_000_000_000) {
        let left = Duration::new(secs, nanos);
        let told = parse_grpc_timeout(grpc_timeout(left).as_bytes()).unwrap();
        prop_assert!(told <= left);
        let largest = Duration::from_secs(99_999_999 * 3600);
        let lost = left.min(largest) - told.min(left.min(largest));
        prop_assert!(lost.as_nanos() * 100_000 <= left.as_nanos(), "{lost:?} of {left:?}");
    }
}
