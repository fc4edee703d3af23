use proptest::prelude::*;

use super::*;
use crate::jwt::signer::{OTHER, SIGNER};

const MINUTE: Duration = Duration::from_secs(60);

fn source(max_age: Duration, stale_for: Duration) -> KeySource {
    KeySource::new(KeysAt {
        address: Address::Name { host: "issuer".into(), port: 80 },
        host: "issuer".into(),
        path: "/keys".into(),
        tls: None,
        timeout: Duration::from_secs(5),
        max_age,
        stale_for,
        wait: Duration::from_secs(1),
    })
}

fn set(text: &str, max_age: Option<Duration>) -> KeySet {
    KeySet { body: text.as_bytes().to_vec(), max_age }
}

fn at(time: Duration) -> Timestamp {
    Timestamp::from_millis(1_000) + time
}

fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

fn fetch(source: &KeySource, text: &str, max_age: Option<Duration>, now: Timestamp) {
    assert!(source.begin(now));
    source.fetched(&set(text, max_age), now, &mut rng()).unwrap();
}

#[test]
fn the_first_fetch_is_due_at_once_and_one_at_a_time() {
    let source = source(60 * MINUTE, MINUTE);
    assert_eq!(source.due(at(Duration::ZERO)), Some(at(Duration::ZERO)));
    assert!(source.is_new() && source.keys(at(Duration::ZERO)).is_none());
    assert!(source.begin(at(Duration::ZERO)));
    assert!(!source.begin(at(Duration::ZERO)));
    assert_eq!(source.due(at(Duration::ZERO)), None);
}

#[test]
fn keys_are_renewed_before_they_are_old_and_the_issuer_says_when_within_bounds() {
    for (said, age) in [
        (None, 60 * MINUTE),
        (Some(10 * MINUTE), 10 * MINUTE),
        (Some(600 * MINUTE), 60 * MINUTE),
        (Some(Duration::ZERO), LEAST_AGE),
    ] {
        let source = source(60 * MINUTE, Duration::ZERO);
        fetch(&source, &SIGNER.jwks("EdDSA"), said, at(Duration::ZERO));
        let due = source.due(at(Duration::ZERO)).unwrap();
        assert!(due >= at(age.mul_f64(0.75)) && due <= at(age.mul_f64(0.9)), "{said:?}: {due:?}");
        assert!(!source.begin(at(age / 2)) && source.begin(at(age)));
    }
}

#[test]
fn old_keys_are_believed_while_no_new_ones_come_and_no_longer_than_that_is_written() {
    let source = source(MINUTE, 5 * MINUTE);
    fetch(&source, &SIGNER.jwks("EdDSA"), None, at(Duration::ZERO));
    for minute in 1..6 {
        assert!(source.keys(at(minute * MINUTE)).is_some(), "{minute}");
        assert!(source.begin(at(minute * MINUTE)));
        source.failed(at(minute * MINUTE), &mut rng());
    }
    assert!(source.keys(at(6 * MINUTE)).is_none());
    fetch(&source, &SIGNER.jwks("EdDSA"), None, at(10 * MINUTE));
    assert!(source.keys(at(10 * MINUTE)).is_some());
}

#[test]
fn what_is_no_set_of_keys_changes_nothing_and_is_tried_again_with_pauses() {
    let source = source(MINUTE, 60 * MINUTE);
    fetch(&source, &SIGNER.jwks("EdDSA"), None, at(Duration::ZERO));
    let number = source.number(at(MINUTE));
    let large = format!("{{\"keys\":[{}]}}", " ".repeat(KeySource::MOST_BYTES));
    let mut last = Duration::ZERO;
    for (n, garbage) in ["", "<html>", "{\"keys\":[]}", "[]", &large].into_iter().enumerate() {
        let now = at(MINUTE * (n as u32 + 1) * 10);
        assert!(source.begin(now));
        assert!(source.fetched(&set(garbage, None), now, &mut rng()).is_err(), "{garbage}");
        let pause = source.due(now).unwrap().since(now);
        assert!(pause > last && pause <= MOST_PAUSE * 2, "{pause:?}");
        last = pause;
    }
    assert!(source.fetched(&set("\u{0}", None), at(MINUTE), &mut rng()).is_err());
    assert_eq!(source.number(at(MINUTE)), number);
}

#[test]
fn another_set_has_another_number_and_the_same_one_the_same() {
    let source = source(MINUTE, MINUTE);
    fetch(&source, &SIGNER.jwks("EdDSA"), None, at(Duration::ZERO));
    let first = source.number(at(MINUTE));
    fetch(&source, &SIGNER.jwks("EdDSA"), None, at(MINUTE));
    assert_eq!(source.number(at(MINUTE)), first);
    fetch(&source, &OTHER.jwks("EdDSA"), None, at(2 * MINUTE));
    assert_ne!(source.number(at(2 * MINUTE)), first);
}

#[test]
fn a_key_that_is_not_known_has_them_fetched_soon_but_never_more_often_than_that() {
    let source = source(60 * MINUTE, MINUTE);
    source.misses(at(Duration::ZERO));
    fetch(&source, &SIGNER.jwks("EdDSA"), None, at(Duration::ZERO));
    let mut fetches = 0;
    for second in 0..600 {
        for _ in 0..100 {
            source.misses(at(Duration::from_secs(second)));
        }
        if source.begin(at(Duration::from_secs(second))) {
            fetches += 1;
            source
                .fetched(&set(&SIGNER.jwks("EdDSA"), None), at(Duration::from_secs(second)), &mut rng())
                .unwrap();
        }
    }
    assert_eq!(fetches, 119, "one in five seconds");
}

#[test]
fn a_key_that_is_not_known_makes_no_pause_shorter() {
    let source = source(60 * MINUTE, MINUTE);
    assert!(source.begin(at(Duration::ZERO)));
    source.failed(at(Duration::ZERO), &mut rng());
    let due = source.due(at(Duration::ZERO));
    source.misses(at(Duration::ZERO));
    assert_eq!(source.due(at(Duration::ZERO)), due);
    assert!(!source.is_new(), "nobody waits for what has failed");
}

#[test]
fn cache_control_is_read_as_it_is_written() {
    let seconds = |s| Some(Duration::from_secs(s));
    for (text, want) in [
        ("max-age=300", seconds(300)),
        ("public, Max-Age=\"60\", must-revalidate", seconds(60)),
        ("no-store", seconds(0)),
        ("no-cache, max-age=300", seconds(0)),
        ("s-maxage=5", None),
        ("max-age=x", None),
        ("", None),
    ] {
        assert_eq!(max_age(text), want, "{text}");
    }
}

proptest! {
    /// Whatever happens, keys are never believed for longer than was written since they came.
    #[test]
    fn keys_are_never_believed_for_longer_than_is_written(
        steps in prop::collection::vec((0_u64..200, any::<bool>(), prop::option::of(0_u64..400)), 1..60),
    ) {
        let source = source(2 * MINUTE, 3 * MINUTE);
        let (mut now, mut good) = (Duration::ZERO, None);
        for (pause, answers, said) in steps {
            now += Duration::from_secs(pause);
            source.misses(at(now));
            if source.begin(at(now)) {
                if answers {
                    source.fetched(&set(&SIGNER.jwks("EdDSA"), said.map(Duration::from_secs)), at(now), &mut rng()).unwrap();
                    good = Some(now);
                } else {
                    source.failed(at(now), &mut rng());
                }
            }
            let believed = source.keys(at(now)).is_some();
            prop_assert!(!believed || good.is_some_and(|good| now - good < 5 * MINUTE));
        }
    }
}
