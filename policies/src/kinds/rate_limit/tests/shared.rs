//! `scope: Exact`: what is asked of the store, and what follows from its answer.

use std::time::Duration;

use super::*;
use crate::pipeline::{Effect, Holds, Performed, Spend, Spent};

fn exact(mode: Mode, exact: &Value) -> Arc<dyn Filter> {
    let spec = json!({"scope": "Exact", "exact": exact, "limits": [
        {"name": "all", "requests": 100, "per": "1h", "burst": 50},
        {
            "name": "user", "requests": 20, "per": "1h", "cost": {"fixed": 2}, "key": [{"type": "Header", "name": "x-user"}],
            "overrides": [{"key": ["gold"], "requests": 40}, {"key": ["ours"], "unlimited": true}],
        },
    ]});
    bind(mode, spec, &StateStore::new([3, 4]))
}

/// Of the first day.
const NOON: u64 = 12 * 3600;

fn with_a_quota(percent: u32, limits: &Value) -> Arc<dyn Filter> {
    let day =
        json!({"name": "day", "requests": 40, "every": "Day", "key": [{"type": "Header", "name": "x-user"}]});
    let exact = json!({"fallbackPercent": percent});
    let spec = json!({"scope": "Exact", "exact": exact, "limits": limits, "quotas": [day]});
    bind(Mode::Enforce, spec, &StateStore::new([3, 4]))
}

/// What is asked for a user, and what the filter says once it is told.
fn asks(filter: &dyn Filter, user: &str, performed: impl FnOnce(&Spend) -> Performed) -> (Spend, Met) {
    let mut head = Request::get("/").header("x-user", user).body(()).unwrap().into_parts().0;
    let (mut decisions, mut headers) = (Decisions::new(), HeaderMap::new());
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer("192.0.2.1:1", None),
        route: None,
        now: Timestamp::from_millis(1),
        unix: &|| Duration::from_secs(NOON),
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut headers,
        claims: &mut None,
        held: &mut Vec::new(),
    };
    let Verdict::Effect(Effect::Spend(spend)) = filter.on_request(&mut cx) else { panic!("it asks") };
    let reply = match filter.on_effect(&mut cx, &performed(&spend)) {
        Verdict::Continue => None,
        Verdict::Reply(reply) => Some(reply),
        other => panic!("{other:?}"),
    };
    (spend, Met { reply, decisions, headers, held: Vec::new() })
}

fn told<const N: usize>(allowed: bool, levels: [(u32, u64); N]) -> Performed {
    let levels = levels.map(|(remaining, seconds)| (remaining, Duration::from_secs(seconds))).into();
    Performed::Spent(Spent { allowed, levels })
}

#[test]
fn the_store_is_asked_for_every_limit_that_counts_the_request_with_what_its_key_has_of_its_own() {
    let filter = exact(Mode::Enforce, &json!({"timeout": "7ms"}));
    let asked = |user| asks(&*filter, user, |_| told(true, [(9, 1), (9, 1)])).0;
    let ann = asked("ann");
    assert_eq!(ann.timeout, Duration::from_millis(7));
    let rate = |requests, burst| {
        let per = Duration::from_secs(3600);
        Holds::Rate { requests, per, burst, in_proportion: false }
    };
    let buckets: Vec<_> = ann.buckets.iter().map(|b| (&*b.limit, b.holds, b.cost)).collect();
    assert_eq!(buckets, [("all", rate(100, 50), 1), ("user", rate(20, 20), 2)]);
    assert_ne!(ann.buckets[1].key, asked("bob").buckets[1].key);
    assert_eq!(ann.buckets[0].key, asked("bob").buckets[0].key);
    // Another proxy has another seed.
    let spec = json!({"scope": "Exact", "limits": [{"name": "user", "requests": 1, "per": "1h", "key": [{"type": "Header", "name": "x-user"}]}]});
    let elsewhere = bind(Mode::Enforce, spec, &StateStore::new([7, 7]));
    assert_eq!(asks(&*elsewhere, "ann", |_| Performed::Unanswered).0.buckets[0].key, ann.buckets[1].key);
    assert_eq!(asked("gold").buckets[1].holds, rate(40, 40));
    assert_eq!(asked("ours").buckets.len(), 1);
}

#[test]
fn the_answer_decides_and_is_told() {
    let filter = exact(Mode::Enforce, &json!({}));
    let (_, passed) = asks(&*filter, "ann", |_| told(true, [(7, 36), (3, 180)]));
    assert!(passed.allowed());
    assert_eq!(passed.header("ratelimit"), Some("\"user\";r=3;t=180"));
    assert_eq!(passed.decisions[0].detail, Some(Detail::Remaining(3)));
    let (_, refused) = asks(&*filter, "ann", |_| told(false, [(7, 0), (0, 180)]));
    let reply = refused.reply.as_ref().unwrap();
    assert_eq!((reply.reason, reply.headers[0].1.to_str().unwrap()), (Reason::RateLimited, "180"));
    assert_eq!(&*refused.decisions[0].rule.name, "user");
}

#[test]
fn without_an_answer_each_proxy_lets_its_part_through_and_says_so() {
    let passes = |percent: u32| {
        let filter = exact(Mode::Enforce, &json!({"fallbackPercent": percent}));
        let met: Vec<_> = (0..60).map(|_| asks(&*filter, "ours", |_| Performed::Unanswered).1).collect();
        assert!(met.iter().all(|met| met.decisions[0].detail == Some(Detail::StoreUnanswered)));
        met.iter().filter(|met| met.allowed()).count()
    };
    assert_eq!([passes(0), passes(1), passes(10), passes(50), passes(100)], [0, 1, 5, 25, 50]);
}

#[test]
fn an_answer_that_is_none_to_the_question_is_no_answer() {
    let filter = exact(Mode::Enforce, &json!({"fallbackPercent": 100}));
    let spent = Spent { allowed: false, levels: vec![(0, Duration::from_secs(9))] };
    let (_, met) = asks(&*filter, "ann", |_| Performed::Spent(spent));
    assert!(met.allowed());
    assert_eq!(met.decisions[0].detail, Some(Detail::StoreUnanswered));
}

#[test]
fn in_shadow_the_store_counts_and_nobody_is_refused_or_told() {
    let filter = exact(Mode::Shadow, &json!({}));
    let (_, met) = asks(&*filter, "ann", |_| told(false, [(0, 9), (0, 9)]));
    assert!(met.allowed() && met.headers.is_empty());
    assert_eq!(met.decisions[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
}

#[test]
fn what_goes_with_a_store_only_goes_with_a_store_only() {
    let limit = json!({"name": "a", "requests": 5, "per": "1s"});
    let shadow = json!({"name": "a", "requests": 5, "per": "1s", "mode": "Shadow"});
    for (spec, want) in [
        (json!({"exact": {}, "limits": [limit]}), "spec/exact: `exact` goes with `scope: Exact` only"),
        (
            json!({"scope": "Exact", "limits": [shadow]}),
            "spec/limits/0/mode: with `scope: Exact`, write limits in Shadow",
        ),
        (
            json!({"scope": "Exact", "exact": {"timeout": "1s"}, "limits": [limit]}),
            "spec/exact/timeout: 1s is out of range",
        ),
        (
            json!({"scope": "Exact", "exact": {"fallbackPercent": 101}, "limits": [limit]}),
            "spec/exact/fallbackPercent: 101 is out of range",
        ),
    ] {
        let faults = faults(KIND, spec);
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{want}: {faults:?}");
    }
}

#[test]
fn a_share_of_the_slowest_limit_can_still_be_counted() {
    for percent in [1, 33, 99] {
        let spec = json!({
            "scope": "Exact", "exact": {"fallbackPercent": percent},
            "limits": [{"name": "a", "requests": 1, "per": "8760h", "burst": 10}],
        });
        let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
        let met: Vec<_> =
            (0..12).map(|_| asks(&*filter, "ann", |_| Performed::Unanswered).1.allowed()).collect();
        let part = (10 * percent / 100).max(1);
        assert_eq!(met.iter().filter(|allowed| **allowed).count(), part, "{percent}");
    }
}

proptest! {
    #[test]
    fn a_share_is_never_more_than_its_part_of_the_limit(
        requests in 1_u32..5_000,
        seconds in 1_u64..4_000,
        percent in 1_u32..=100,
        steps in prop::collection::vec(0_u64..2_000, 1..80),
    ) {
        let spec = json!({
            "scope": "Exact", "exact": {"fallbackPercent": percent},
            "limits": [{"name": "a", "requests": requests, "per": format!("{seconds}s")}],
        });
        let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
        let head = || Request::get("/").body(()).unwrap().into_parts().0;
        let (mut now, mut passed) = (0, 0_u64);
        for step in steps {
            now += step;
            let (mut head, mut decisions, mut headers) = (head(), Decisions::new(), HeaderMap::new());
            let mut cx = RequestContext {
                head: &mut head,
                peer: &peer("192.0.2.1:1", None),
                route: None,
                now: Timestamp::from_millis(now),
                unix: &|| Duration::ZERO,
                rng: &mut fastrand::Rng::with_seed(1),
                decisions: &mut decisions,
                response_headers: &mut headers,
                claims: &mut None,
                held: &mut Vec::new(),
            };
            passed += u64::from(matches!(filter.on_effect(&mut cx, &Performed::Unanswered), Verdict::Continue));
        }
        // At least one may pass at once.
        let burst = u64::from(requests * percent / 100).max(1);
        let rate = u64::from(requests) * u64::from(percent) * now / (100 * seconds * 1000);
        prop_assert!(passed <= burst + rate, "{passed} of {burst} + {rate}");
    }
}

#[test]
fn a_quota_is_asked_for_with_its_limits_and_by_its_window() {
    let filter = with_a_quota(10, &json!([{"name": "all", "requests": 5, "per": "1s"}]));
    let (asked, passed) = asks(&*filter, "ann", |_| told(true, [(4, 1), (7, 43_200)]));
    let day = &asked.buckets[1];
    assert_eq!((&*day.limit, day.cost), ("day", 1));
    assert_eq!(day.holds, Holds::Window { requests: 40, end: Duration::from_secs(24 * 3600) });
    assert!(passed.allowed());
    let left: Vec<_> = passed.decisions.iter().map(|told| (&*told.rule.name, told.detail)).collect();
    assert_eq!(left, [("day", Some(Detail::Remaining(7))), ("all", Some(Detail::Remaining(4)))]);
    let bob = asks(&*filter, "bob", |_| told(true, [(4, 1), (7, 43_200)])).0;
    assert_ne!(bob.buckets[1].key, day.key);
}

#[test]
fn whoever_refuses_longest_of_limits_and_quotas_has_the_word() {
    let filter = with_a_quota(10, &json!([{"name": "all", "requests": 5, "per": "1s"}]));
    let refused = |levels| asks(&*filter, "ann", |_| told(false, levels)).1;
    let by_the_day = refused([(0, 1), (0, 43_200)]);
    assert_eq!(by_the_day.decisions[0].rule.name.as_ref(), "day");
    assert_eq!(by_the_day.reply.unwrap().again, Some(Duration::from_secs(43_200)));
    let by_the_limit = refused([(0, 1), (3, 0)]);
    assert_eq!(by_the_limit.decisions[0].rule.name.as_ref(), "all");
}

#[test]
fn without_an_answer_each_proxy_lets_its_part_of_a_quota_through() {
    let passes = |percent| {
        let filter = with_a_quota(percent, &json!([]));
        (0..60).filter(|_| asks(&*filter, "ann", |_| Performed::Unanswered).1.allowed()).count()
    };
    assert_eq!([passes(0), passes(1), passes(10), passes(100)], [0, 1, 4, 40]);
}

#[test]
fn a_store_is_asked_for_what_a_request_costs_of_the_quota_that_its_key_has() {
    let day = json!({
        "name": "day", "requests": 40, "every": "Day", "cost": {"fixed": 3},
        "key": [{"type": "Header", "name": "x-user"}],
        "overrides": [{"key": ["acme"], "requests": 400}, {"key": ["ours"], "unlimited": true}],
    });
    let spec = json!({"scope": "Exact", "exact": {"fallbackPercent": 10}, "quotas": [day]});
    let filter = bind(Mode::Enforce, spec, &StateStore::new([3, 4]));
    let end = Duration::from_secs(24 * 3600);
    for (user, most) in [("ann", 40), ("acme", 400)] {
        let (asked, met) = asks(&*filter, user, |_| told(true, [(7, 43_200)]));
        assert_eq!(
            (asked.buckets[0].cost, asked.buckets[0].holds),
            (3, Holds::Window { requests: most, end })
        );
        assert_eq!(met.header("ratelimit-policy"), Some(&*format!("\"day\";q={most};w=86400")));
        let alone = (0..60).filter(|_| asks(&*filter, user, |_| Performed::Unanswered).1.allowed());
        assert_eq!(
            u32::try_from(alone.count()),
            Ok(most / 10 / 3),
            "without an answer, a tenth at each proxy"
        );
    }
    let ours = judge(&*filter, Request::get("/").header("x-user", "ours"), &peer("192.0.2.1:1", None), 0);
    assert!(ours.allowed() && ours.decisions.is_empty(), "nobody is asked");
}
