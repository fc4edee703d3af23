//! `requestsFrom`: the number of a limit told by an expression.

use super::*;
use crate::pipeline::{Effect, Holds, Performed, Spend};

const FROM_PLAN: &str = "int(request.headers['x-plan'])";

/// Ten per second by default, and what `more` says.
fn numbered(more: &Value) -> Value {
    let mut limit = json!({"name": "plan", "requests": 10, "per": "1s", "requestsFrom": FROM_PLAN});
    more.as_object().unwrap().iter().for_each(|(name, value)| limit[name] = value.clone());
    one(limit)
}

fn filter(more: &Value) -> Arc<dyn Filter> {
    bind(Mode::Enforce, numbered(more), &StateStore::new([0, 0]))
}

fn ask(filter: &dyn Filter, plan: &str, millis: u64) -> Met {
    judge(filter, Request::get("/").header("x-plan", plan), &peer("192.0.2.1:1000", None), millis)
}

fn passed(filter: &Arc<dyn Filter>, plan: &str, requests: u32, millis: u64) -> usize {
    (0..requests).filter(|_| ask(&**filter, plan, millis).allowed()).count()
}

#[test]
fn the_number_is_that_of_the_expression_and_of_the_limit_where_it_tells_no_valid_one() {
    assert_eq!(passed(&filter(&json!({})), "25", 100, 0), 25);
    assert_eq!(passed(&filter(&json!({})), "3", 100, 0), 3);
    for nonsense in ["", "many", "0", "-5", "2.5", "1000001", "5000000000", "99999999999999999999"] {
        assert_eq!(passed(&filter(&json!({})), nonsense, 100, 0), 10, "{nonsense}");
    }
    assert_eq!(admitted(&filter(&json!({})), "/", 100, 0), 10, "without the header");
    let gold = json!({"requestsFrom": "request.headers['x-plan'] == 'gold' ? 50 : 2"});
    assert_eq!([passed(&filter(&gold), "gold", 100, 0), passed(&filter(&gold), "tin", 100, 0)], [50, 2]);
}

#[test]
fn what_was_spent_under_one_number_is_spent_in_proportion_under_the_next() {
    let filter = filter(&json!({}));
    assert_eq!(passed(&filter, "10", 5, 1000), 5, "half of it");
    assert_eq!(passed(&filter, "100", 200, 1000), 50, "the other half");
    assert_eq!(passed(&filter, "1", 5, 1000), 0);
    assert_eq!(passed(&filter, "4", 9, 1500), 2, "half of it is back");
}

#[test]
fn a_burst_grows_and_shrinks_with_the_number() {
    let filter = |burst: u32| filter(&json!({"burst": burst}));
    assert_eq!(passed(&filter(20), "30", 100, 0), 60);
    assert_eq!(passed(&filter(5), "30", 100, 0), 15);
    assert_eq!(passed(&filter(5), "1", 100, 0), 1, "and is never nothing");
}

#[test]
fn clients_are_told_the_number_that_held_for_them() {
    let filter = filter(&json!({"burst": 20}));
    let met = ask(&*filter, "30", 0);
    assert_eq!(met.header("ratelimit-policy"), Some("\"plan\";q=30;w=1"));
    assert_eq!(met.header("ratelimit"), Some("\"plan\";r=59;t=1"));
    assert_eq!(ask(&*filter, "no", 0).header("ratelimit-policy"), Some("\"plan\";q=10;w=1"));
    let mut spec = numbered(&json!({"burst": 20}));
    spec["responseHeaders"] = json!(["XRateLimit"]);
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    assert_eq!(ask(&*filter, "30", 0).header("x-ratelimit-limit"), Some("60"));
}

#[test]
fn keys_are_counted_apart_and_those_with_a_limit_of_their_own_have_that() {
    let more = json!({
        "key": [{"type": "Path"}], "overrides": [{"key": ["/own"], "requests": 2}, {"key": ["/free"], "unlimited": true}],
    });
    let filter = filter(&more);
    let at = |path: &str| {
        let ask = |_: &u32| {
            let head = Request::get(path).header("x-plan", "5");
            judge(&*filter, head, &peer("192.0.2.1:1000", None), 0).allowed()
        };
        (0..20).filter(ask).count()
    };
    assert_eq!([at("/a"), at("/b"), at("/own"), at("/free")], [5, 5, 2, 20]);
}

#[test]
fn a_push_of_another_default_leaves_the_numbers_of_others_what_they_have_spent() {
    let store = StateStore::new([0, 0]);
    for key in [json!([]), json!([{"type": "Path"}])] {
        let pushed = |requests: u32| {
            let more = json!({"requests": requests, "key": key, "requestsFrom": format!("{FROM_PLAN} + 0")});
            bind(Mode::Enforce, numbered(&more), &store)
        };
        assert_eq!(passed(&pushed(10), "1000", 500, 0), 500);
        assert_eq!(passed(&pushed(100), "1000", 2000, 0), 500);
        assert_eq!(passed(&pushed(7), "1000", 5, 0), 0);
    }
}

#[test]
fn a_cost_is_taken_at_the_rate_of_the_number() {
    let costly = filter(&json!({"cost": {"fixed": 30}}));
    assert_eq!(passed(&costly, "100", 9, 0), 3);
    assert_eq!(passed(&costly, "20", 9, 5000), 0, "more than it ever holds");
    let later = filter(&json!({"responseCost": {"header": "x-tokens"}}));
    let charge = |plan: &str, tokens: &str, millis: u64| {
        let mut met = ask(&*later, plan, millis);
        assert!(met.allowed());
        let head = http::Response::builder().header("x-tokens", tokens).body(()).unwrap().into_parts().0;
        met.held.iter_mut().for_each(|held| held.on_response(&head, Timestamp::from_millis(millis)));
    };
    charge("1000", "1500", 0);
    assert!(!ask(&*later, "1000", 0).allowed(), "1000 of the 1500 are believed");
    assert!(ask(&*later, "1000", 1).allowed());
}

#[test]
fn who_waits_for_his_turn_waits_as_his_number_says() {
    let mut spec = numbered(&json!({}));
    spec["onLimit"] = json!({"delay": {"atMost": "10s"}});
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    assert_eq!(passed(&filter, "2", 2, 0), 2);
    let mut head = Request::get("/").header("x-plan", "2").body(()).unwrap().into_parts().0;
    let mut held = Vec::new();
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer("192.0.2.1:1", None),
        route: None,
        now: Timestamp::ZERO,
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut Decisions::new(),
        response_headers: &mut HeaderMap::new(),
        claims: &mut None,
        held: &mut held,
    };
    let Verdict::Effect(Effect::Wait(wait)) = filter.on_request(&mut cx) else { panic!("it waits") };
    assert_eq!(wait, Duration::from_millis(500));
    drop(held);
    // Given up, it is as if it had not come: half a second later the turn is another's.
    assert_eq!(passed(&filter, "2", 1, 500), 1);
}

#[test]
fn the_store_is_told_the_number_and_without_it_each_proxy_lets_a_part_of_that_through() {
    let mut spec = numbered(&json!({"burst": 20}));
    spec["scope"] = json!("Exact");
    spec["exact"] = json!({"fallbackPercent": 10});
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    let asks = |plan: &str| -> (Spend, bool) {
        let mut head = Request::get("/").header("x-plan", plan).body(()).unwrap().into_parts().0;
        let mut cx = RequestContext {
            head: &mut head,
            peer: &peer("192.0.2.1:1", None),
            route: None,
            now: Timestamp::ZERO,
            unix: &|| Duration::ZERO,
            rng: &mut fastrand::Rng::with_seed(1),
            decisions: &mut Decisions::new(),
            response_headers: &mut HeaderMap::new(),
            claims: &mut None,
            held: &mut Vec::new(),
        };
        let Verdict::Effect(Effect::Spend(spend)) = filter.on_request(&mut cx) else { panic!("it asks") };
        let verdict = filter.on_effect(&mut cx, &Performed::Unanswered);
        (spend, matches!(verdict, Verdict::Continue))
    };
    let asked = |header: &str| match asks(header).0.buckets[0].holds {
        Holds::Rate { requests, burst, in_proportion, .. } => (requests, burst, in_proportion),
        window @ Holds::Window { .. } => panic!("{window:?}"),
    };
    assert_eq!(asked("300"), (300, 600, true));
    assert_eq!(asked("no").0, 10);
    // Two were let through above: one of 60, and one of 2.
    assert_eq!((0..100).filter(|_| asks("300").1).count(), 60 - 1 - 30);
}

#[test]
fn faults_of_a_number_that_is_told() {
    let place = |more: Value, field: &str, value: Value| {
        let mut spec = numbered(&more);
        spec[field] = value;
        let faults = faults(KIND, spec);
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].clone()
    };
    let local = || json!("Local");
    let told = place(json!({"requestsFrom": "request.path"}), "scope", local());
    assert_eq!(
        told,
        "spec/limits/0/requestsFrom: the result is a text, and must be a whole number (at character 1 of the expression)"
    );
    let told = place(json!({"requestsFrom": "1 + int(request.hedders['a'])"}), "scope", local());
    assert!(told.starts_with("spec/limits/0/requestsFrom: there is no `request.hedders`"), "{told}");
    assert!(told.ends_with("(at character 9 of the expression)"), "{told}");
    let told = place(json!({}), "scope", json!("Mesh"));
    assert!(
        told.starts_with("spec/limits/0/requestsFrom: `requestsFrom` goes with `scope: Local`"),
        "{told}"
    );
    let without = one(json!({"name": "a", "per": "1s", "requestsFrom": FROM_PLAN}));
    assert!(faults(KIND, without)[0].contains("`requests` is missing"));
}

#[test]
fn what_is_wrong_in_the_costs_is_told_even_if_the_number_is_wrong_too() {
    let spec = one(json!({
        "name": "a", "requests": 0, "per": "1s", "requestsFrom": "'a'", "responseCost": {"expression": "response.statsu"},
    }));
    let faults = faults(KIND, spec);
    for place in ["requests", "requestsFrom", "responseCost/expression"] {
        let told = |fault: &&String| fault.starts_with(&format!("spec/limits/0/{place}:"));
        assert_eq!(faults.iter().filter(told).count(), 1, "{place}: {faults:?}");
    }
    assert_eq!(faults.len(), 3, "{faults:?}");
}

proptest! {
    #[test]
    fn whatever_the_numbers_no_more_pass_than_the_burst_and_the_rate_of_the_largest(
        steps in prop::collection::vec((0_u64..400, 1_u64..40), 1..150),
        burst in 1_u64..30,
        keyed: bool,
    ) {
        let key = if keyed { json!([{"type": "Path"}]) } else { json!([]) };
        let filter = filter(&json!({"burst": burst, "key": key}));
        let (mut now, mut passed) = (0, Vec::new());
        for (step, number) in steps {
            now += step;
            if ask(&*filter, &number.to_string(), now).allowed() {
                passed.push((now, number));
            }
        }
        for i in 0..passed.len() {
            for n in i..passed.len() {
                let span = passed[n].0 - passed[i].0;
                let largest = passed[i..=n].iter().map(|(_, number)| *number).max().unwrap();
                // In thousandths of a request; a burst of less than one is one.
                let burst = (burst * largest * 100).max(1000);
                prop_assert!((n - i + 1) as u64 * 1000 <= burst + span * largest, "{:?}", &passed[i..=n]);
            }
        }
    }

    #[test]
    fn with_one_number_all_along_it_is_the_plain_limit_of_that_number(
        steps in prop::collection::vec(0_u64..400, 1..100),
        number in 1_u64..60,
        periods in 1_u64..4,
    ) {
        let told = filter(&json!({"burst": 10 * periods}));
        let plain = one(json!({"name": "plan", "requests": number, "burst": number * periods, "per": "1s"}));
        let plain = bind(Mode::Enforce, plain, &StateStore::new([0, 0]));
        let mut now = 0;
        for step in steps {
            now += step;
            let (one, other) = (ask(&*told, &number.to_string(), now), ask(&*plain, "", now));
            prop_assert_eq!(one.allowed(), other.allowed());
            prop_assert_eq!(&one.headers, &other.headers);
        }
    }
}
