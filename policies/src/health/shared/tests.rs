use super::*;
use proptest::prelude::*;

const RULES: Rules = Rules {
    quorum: 3,
    failures: 5,
    percent: 60,
    settle: Duration::from_millis(200),
    hold: Duration::from_secs(30),
};

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn suspect(number: u64) -> Suspect {
    Suspect { endpoint: "e".into(), number, failing: 3, asked: 3 }
}

fn suspected(seed: u64) -> SharedEndpoint {
    let endpoint = SharedEndpoint::default();
    endpoint.told(Some(&suspect(1)), &RULES, at(0), &mut fastrand::Rng::with_seed(seed));
    endpoint
}

#[test]
fn a_suspect_is_called_once_in_a_while_and_by_one_call() {
    let endpoint = suspected(1);
    assert!(!endpoint.would_admit(at(14_000)) && !endpoint.admit(&RULES, at(14_000)));
    assert!(endpoint.would_admit(at(45_000)) && endpoint.admit(&RULES, at(45_000)));
    assert!(!endpoint.admit(&RULES, at(45_000)), "one");
    assert!(!endpoint.admit(&RULES, at(74_900)));
    assert!(endpoint.admit(&RULES, at(75_000)));
}

#[test]
fn proxies_try_at_different_times() {
    let dues: std::collections::BTreeSet<_> = (0..50).map(|seed| suspected(seed).retry_in(at(0))).collect();
    assert!(dues.len() > 40);
    assert!(
        *dues.first().unwrap() >= Duration::from_secs(15) && *dues.last().unwrap() <= Duration::from_secs(45)
    );
}

#[test]
fn a_call_of_our_own_that_goes_well_overrules_this_suspicion_and_not_the_next() {
    let endpoint = suspected(1);
    endpoint.record(false, at(10));
    assert!(!endpoint.would_admit(at(10)));
    endpoint.record(true, at(20));
    assert!(endpoint.admit(&RULES, at(20)) && endpoint.suspect().is_none());
    let rng = &mut fastrand::Rng::with_seed(1);
    endpoint.told(Some(&suspect(1)), &RULES, at(30), rng);
    assert!(endpoint.admit(&RULES, at(30)), "the same again");
    endpoint.told(Some(&suspect(2)), &RULES, at(30), rng);
    assert!(!endpoint.admit(&RULES, at(30)));
    assert_eq!(endpoint.suspect(), Some((suspect(2), at(30))));
}

#[test]
fn who_is_no_longer_suspect_is_called_at_once() {
    let endpoint = suspected(1);
    endpoint.told(None, &RULES, at(10), &mut fastrand::Rng::with_seed(1));
    assert!(endpoint.admit(&RULES, at(10)));
}

#[test]
fn as_long_as_nothing_fails_there_is_nothing_to_say() {
    let endpoint = SharedEndpoint::default();
    endpoint.record(true, at(10));
    assert_eq!(endpoint.statement(None, false, &RULES, at(20)), None);
}

#[test]
fn failures_are_told_when_there_are_more_and_from_time_to_time_and_so_is_their_end() {
    let endpoint = SharedEndpoint::default();
    let say = |now| endpoint.statement(None, false, &RULES, at(now));
    endpoint.record(false, at(10));
    assert_eq!(say(20).unwrap().failing.unwrap().failures, 1);
    assert_eq!(say(30), None, "no news");
    endpoint.record(false, at(40));
    assert_eq!(say(50).unwrap().failing.unwrap().failures, 2);
    assert_eq!(say(7_540), None);
    assert!(say(7_550).is_some(), "a quarter of the hold time later");
    endpoint.record(true, at(8_000));
    let end = say(8_001).unwrap();
    assert_eq!((end.failing, end.success), (None, Some(Duration::from_millis(1))));
    assert_eq!(say(9_000), None);
}

#[test]
fn who_is_asked_says_that_it_goes_well_as_often_as_that_is_news() {
    let endpoint = SharedEndpoint::default();
    let say = |now| endpoint.statement(None, true, &RULES, at(now));
    assert_eq!(say(0), None, "never called");
    endpoint.record(true, at(10));
    assert!(say(20).is_some());
    endpoint.record(true, at(100));
    assert_eq!(say(200), None, "too soon");
    assert!(say(600).is_some());
    assert_eq!(say(2_000), None, "no call since");
}

#[test]
fn what_our_own_breaker_holds_back_is_told_as_such() {
    let endpoint = SharedEndpoint::default();
    let said = endpoint.statement(Some(at(10)), false, &RULES, at(15)).unwrap().failing.unwrap();
    assert_eq!(said, Failing { failures: 0, age: Duration::from_millis(5), ejected: true });
    assert!(endpoint.statement(None, false, &RULES, at(20)).is_none(), "no call since: nothing is known");
}

#[test]
fn who_lost_its_listener_says_all_again() {
    let endpoint = SharedEndpoint::default();
    endpoint.record(false, at(10));
    assert!(endpoint.statement(None, false, &RULES, at(20)).is_some());
    endpoint.unheard();
    assert!(endpoint.statement(None, false, &RULES, at(30)).is_some());
}

proptest! {
    /// No suspicion can shut an endpoint off for good: whatever is told, a call gets through within half as long again as a hold.
    #[test]
    fn every_suspect_is_tried(words in prop::collection::vec((0_u64..5, 0_u64..1000), 1..50), seed in any::<u64>()) {
        let endpoint = SharedEndpoint::default();
        let rng = &mut fastrand::Rng::with_seed(seed);
        let mut now = 0;
        for (number, pause) in words {
            now += pause;
            let word = (number != 0).then(|| suspect(number));
            endpoint.told(word.as_ref(), &RULES, at(now), rng);
        }
        prop_assert!(endpoint.admit(&RULES, at(now + 45_000)));
    }
}
