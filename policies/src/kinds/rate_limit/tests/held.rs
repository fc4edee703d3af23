//! What lasts until the answer: places that are taken up, and costs that only the answer tells.

use http::Response;

use super::*;
use crate::pipeline::answered;

fn concurrent(spec: &Value, mode: Mode) -> Arc<dyn Filter> {
    bind(mode, json!({"concurrent": spec}), &StateStore::new([0, 0]))
}

fn answer(met: &mut Met, status: u16, headers: &[(&str, &str)], millis: u64) {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let (head, ()) = response.body(()).unwrap().into_parts();
    answered(&mut met.held, &head, Timestamp::from_millis(millis));
}

#[test]
fn no_more_are_under_way_at_one_time_than_there_are_places_for_a_key() {
    let spec = json!([{"name": "few", "atMost": 2, "key": [{"type": "Path"}]}]);
    let filter = concurrent(&spec, Mode::Enforce);
    let (first, second, third) = (get(&filter, "/a", 0), get(&filter, "/a", 0), get(&filter, "/a", 0));
    assert!(first.allowed() && second.allowed() && !third.allowed());
    let decision = &third.decisions[0];
    assert_eq!((&*decision.rule.name, decision.detail), ("few", Some(Detail::Cap(2))));
    assert_eq!(decision.outcome, Outcome::Refused(Reason::RateLimited));
    assert!(third.reply.as_ref().unwrap().headers.is_empty(), "nobody knows when there will be room");
    assert!(get(&filter, "/b", 0).allowed(), "another key");
    drop((second, third));
    assert!(get(&filter, "/a", 0).allowed(), "one has its answer");
    assert!(first.allowed());
}

#[test]
fn who_is_refused_elsewhere_takes_no_place_and_who_finds_no_place_spends_nothing() {
    let spec = json!({
        "concurrent": [{"name": "a", "atMost": 1}, {"name": "b", "atMost": 1, "key": [{"type": "Path"}]}],
        "limits": [{"name": "rate", "requests": 3, "per": "1h"}],
    });
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    let first = get(&filter, "/", 0);
    assert!(first.allowed());
    assert!((0..5).all(|_| !get(&filter, "/", 0).allowed()));
    drop(first);
    // One that is refused, and has not heard so yet.
    let both = json!({"concurrent": [
        {"name": "a", "atMost": 2}, {"name": "b", "atMost": 1, "key": [{"type": "Path"}]},
    ]});
    let other = bind(Mode::Enforce, both, &StateStore::new([0, 0]));
    let (first, refused) = (get(&other, "/x", 0), get(&other, "/x", 0));
    assert!(first.allowed() && !refused.allowed());
    assert!(get(&other, "/y", 0).allowed());
    assert!(get(&filter, "/", 0).allowed(), "nothing was spent by those without a place");
    assert!(get(&filter, "/", 0).allowed());
    let refused = get(&filter, "/", 0);
    assert_eq!(&*refused.decisions.last().unwrap().rule.name, "rate");
    drop(refused);
    assert!(!get(&filter, "/", 0).allowed());
}

#[test]
fn places_in_shadow_hold_nobody_back_and_tell() {
    let spec = json!([{"name": "few", "atMost": 1}]);
    let filter = concurrent(&spec, Mode::Shadow);
    let (first, second) = (get(&filter, "/", 0), get(&filter, "/", 0));
    assert!(first.allowed() && second.allowed() && second.headers.is_empty());
    assert_eq!(second.decisions[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
}

#[test]
fn places_outlive_a_push_and_follow_its_number() {
    let store = StateStore::new([0, 0]);
    let of =
        |most: u32| bind(Mode::Enforce, json!({"concurrent": [{"name": "few", "atMost": most}]}), &store);
    let (few, more) = (of(1), of(2));
    let first = get(&few, "/", 0);
    assert!(!get(&few, "/", 0).allowed());
    let second = get(&more, "/", 0);
    assert!(second.allowed() && !get(&more, "/", 0).allowed());
    drop(first);
    assert!(get(&more, "/", 0).allowed());
}

fn by_answer(cost: &Value) -> Value {
    one(json!({"name": "tokens", "requests": 100, "per": "100s", "responseCost": cost}))
}

#[test]
fn what_an_answer_costs_is_taken_afterwards_and_later_requests_wait_until_it_is_paid() {
    let filter = bind(Mode::Enforce, by_answer(&json!({"header": "x-tokens"})), &StateStore::new([0, 0]));
    let mut met = get(&filter, "/", 0);
    assert_eq!(met.header("ratelimit"), Some("\"tokens\";r=100;t=1"), "nothing is taken yet");
    answer(&mut met, 200, &[("x-tokens", "60")], 0);
    let (mut second, mut third) = (get(&filter, "/", 0), get(&filter, "/", 0));
    assert!(second.allowed() && third.allowed(), "something is left");
    answer(&mut second, 200, &[("x-tokens", "60")], 0);
    answer(&mut third, 200, &[], 0);
    let refused = get(&filter, "/", 0);
    assert_eq!(refused.header("ratelimit"), Some("\"tokens\";r=0;t=21"), "20 of debt, and one to be there");
    assert!(get(&filter, "/", 21_000).allowed());
}

#[test]
fn an_answer_is_believed_up_to_what_is_written_and_debt_ends() {
    let cost = json!({"header": "x-tokens", "atMost": 30});
    let filter = bind(Mode::Enforce, by_answer(&cost), &StateStore::new([0, 0]));
    for text in ["99999999999999999999", "-5", "many", ""] {
        answer(&mut get(&filter, "/", 0), 200, &[("x-tokens", text)], 0);
    }
    assert_eq!(get(&filter, "/", 0).header("ratelimit"), Some("\"tokens\";r=70;t=1"));
    let mut waiting: Vec<_> = (0..50).map(|_| get(&filter, "/", 0)).collect();
    waiting.iter_mut().for_each(|met| answer(met, 200, &[("x-tokens", "30")], 0));
    assert!(!get(&filter, "/", 100_999).allowed(), "one bucketful of debt");
    assert!(get(&filter, "/", 101_000).allowed(), "and no more");
}

#[test]
fn an_expression_over_the_answer_says_what_it_costs() {
    let cost = json!({"expression": "response.status >= 500 ? 0 : int(response.headers['x-rows']) * 2"});
    let filter = bind(Mode::Enforce, by_answer(&cost), &StateStore::new([0, 0]));
    for (status, rows) in [(200, "10"), (503, "40"), (200, "no number")] {
        answer(&mut get(&filter, "/", 0), status, &[("x-rows", rows)], 0);
    }
    answer(&mut get(&filter, "/", 0), 200, &[], 0);
    assert_eq!(get(&filter, "/", 0).header("ratelimit"), Some("\"tokens\";r=80;t=1"));
}

#[test]
fn a_cost_by_answer_in_shadow_is_counted_and_holds_nobody() {
    let filter = bind(Mode::Shadow, by_answer(&json!({"header": "x-tokens"})), &StateStore::new([0, 0]));
    answer(&mut get(&filter, "/", 0), 200, &[("x-tokens", "100")], 0);
    let met = get(&filter, "/", 0);
    assert!(met.allowed() && met.headers.is_empty());
    assert_eq!(met.decisions[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
}

#[test]
fn faults_of_what_lasts_until_the_answer() {
    let limit = |more: Value| {
        let mut limit = json!({"name": "a", "requests": 5, "per": "1s"});
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"limits": [limit]})
    };
    let mut exact = limit(json!({"responseCost": {"header": "x"}}));
    exact["scope"] = json!("Exact");
    for (spec, want) in [
        (json!({}), "spec/limits: 0 limits: write 1 to 16"),
        (json!({"concurrent": [{"name": "a", "atMost": 0}]}), "spec/concurrent/0/atMost: 0 is out of range"),
        (
            json!({"concurrent": [{"name": "a", "atMost": 1, "key": [{"type": "Descriptor", "name": "u"}]}]}),
            "spec/concurrent/0/key/0/type: Descriptor goes with a `domain` only",
        ),
        (
            json!({"concurrent": [{"name": "a", "atMost": 1}], "limits": [{"name": "a", "requests": 1, "per": "1s"}]}),
            "spec/concurrent/0/name: a limit of this policy has the same name",
        ),
        (limit(json!({"responseCost": {}})), "spec/limits/0/responseCost: write one of"),
        (
            limit(json!({"responseCost": {"header": "x y"}})),
            "spec/limits/0/responseCost/header: `x y` is not",
        ),
        (
            limit(json!({"responseCost": {"header": "x"}, "cost": {"fixed": 2}})),
            "spec/limits/0/responseCost: write `cost` or `responseCost`",
        ),
        (
            limit(json!({"responseCost": {"expression": "size(request.path)"}})),
            "spec/limits/0/responseCost/expression: ",
        ),
        (exact, "spec/limits/0/responseCost: `responseCost` goes with"),
    ] {
        let faults = faults(KIND, spec);
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{want}: {faults:?}");
    }
}

proptest! {
    /// Beside a ledger that is kept by hand.
    #[test]
    fn a_request_passes_if_and_only_if_something_is_left(
        steps in prop::collection::vec((0_u64..9_000, 0_u32..=100), 1..60),
    ) {
        let filter = bind(Mode::Enforce, by_answer(&json!({"header": "x-tokens"})), &StateStore::new([0, 0]));
        let (mut now, mut left) = (0_u64, 100_000_i64);
        for (step, cost) in steps {
            now += step;
            left = (left + i64::try_from(step).unwrap()).min(100_000);
            let mut met = get(&filter, "/", now);
            prop_assert_eq!(met.allowed(), left >= 1_000, "{} left", left);
            if met.allowed() {
                answer(&mut met, 200, &[("x-tokens", &cost.to_string())], now);
                left -= i64::from(cost) * 1_000;
            }
        }
    }
}
