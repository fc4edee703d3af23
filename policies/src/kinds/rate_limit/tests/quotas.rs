//! `quotas`: so many in an hour, a day, a week or a month of the calendar.

use super::*;
use crate::pipeline::{Effect, Performed};
use crate::state::Moment;

/// Milliseconds from the Unix epoch to a moment of UTC.
fn at(text: &str) -> u64 {
    let millis = text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    millis.try_into().unwrap()
}

fn quotas(mode: Mode, spec: &Value) -> Arc<dyn Filter> {
    bind(mode, json!({"quotas": spec}), &StateStore::new([0, 0]))
}

fn every(every: &str, requests: u32) -> Value {
    json!([{"name": "some", "requests": requests, "every": every, "timeZone": "Europe/Berlin"}])
}

fn rule(met: &Met) -> &str {
    &met.decisions.last().unwrap().rule.name
}

#[test]
fn the_last_request_of_a_month_is_followed_by_the_first_of_the_next() {
    let filter = quotas(Mode::Enforce, &every("Month", 2));
    let first = get(&filter, "/", at("2026-01-02T00:00:00Z"));
    assert_eq!(first.decisions[0].outcome, Outcome::Allowed);
    assert_eq!(first.decisions[0].detail, Some(Detail::Remaining(1)));
    let seconds = 31 * 24 * 3600;
    assert_eq!(first.header("ratelimit-policy"), Some(&*format!("\"some\";q=2;w={seconds}")));
    let left = at("2026-01-31T23:00:00Z") - at("2026-01-02T00:00:00Z");
    assert_eq!(first.header("ratelimit"), Some(&*format!("\"some\";r=1;t={}", left / 1000)));
    assert!(get(&filter, "/", at("2026-01-31T22:59:58Z")).allowed());
    let refused = get(&filter, "/", at("2026-01-31T22:59:58.500Z"));
    let reply = refused.reply.as_ref().unwrap();
    assert_eq!((reply.reason, reply.again), (Reason::RateLimited, Some(Duration::from_millis(1500))));
    assert_eq!(reply.headers, [(http::header::RETRY_AFTER, "2".parse().unwrap())]);
    assert_eq!(refused.header("ratelimit"), Some("\"some\";r=0;t=2"));
    assert_eq!(refused.decisions[0].outcome, Outcome::Refused(Reason::RateLimited));
    assert_eq!(refused.decisions[0].detail, Some(Detail::RetryAfter(Duration::from_millis(1500))));
    assert!(get(&filter, "/", at("2026-01-31T23:00:00Z")).allowed());
}

#[test]
fn a_leap_day_is_of_february() {
    let filter = quotas(Mode::Enforce, &json!([{"name": "a", "requests": 1, "every": "Month"}]));
    assert!(get(&filter, "/", at("2028-02-01T00:00:00Z")).allowed());
    assert!(!get(&filter, "/", at("2028-02-29T23:59:59Z")).allowed());
    assert!(get(&filter, "/", at("2028-03-01T00:00:00Z")).allowed());
}

#[test]
fn a_day_is_as_long_as_it_is_where_the_clock_is_changed() {
    for (midnights, hours) in [
        (["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"], 23),
        (["2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"], 25),
    ] {
        let ([from, to], filter) = (midnights.map(at), quotas(Mode::Enforce, &every("Day", 1)));
        assert!(get(&filter, "/", from - 1).allowed());
        let first = get(&filter, "/", from);
        assert_eq!(first.header("ratelimit"), Some(&*format!("\"some\";r=0;t={}", hours * 3600)));
        assert!(!get(&filter, "/", to - 1).allowed(), "{hours}");
        assert!(get(&filter, "/", to).allowed());
    }
}

#[test]
fn a_clock_that_goes_backwards_gives_nobody_a_new_quota() {
    let filter = quotas(Mode::Enforce, &every("Hour", 1));
    assert!(get(&filter, "/", at("2026-05-01T10:30:00Z")).allowed());
    assert!(get(&filter, "/", at("2026-05-01T11:30:00Z")).allowed());
    for back in ["2026-05-01T10:59:00Z", "2026-04-01T00:00:00Z", "1970-01-01T00:00:00Z"] {
        let refused = get(&filter, "/", at(back));
        let wait = at("2026-05-01T12:00:00Z") - at(back);
        assert_eq!(refused.reply.unwrap().again, Some(Duration::from_millis(wait)));
    }
    assert!(get(&filter, "/", at("2026-05-01T12:00:00Z")).allowed());
}

#[test]
fn a_request_that_a_limit_refuses_spends_no_quota_and_one_beyond_the_quota_nothing_else() {
    let spec = json!({
        "limits": [{"name": "rate", "requests": 1, "per": "1s"}, {"name": "slow", "requests": 9, "per": "1h"}],
        "quotas": [{"name": "day", "requests": 3, "every": "Day"}, {"name": "month", "requests": 100, "every": "Month"}],
    });
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    for second in 0..3 {
        let met = get(&filter, "/", second * 1000);
        assert_eq!(met.decisions[0].detail, Some(Detail::Remaining(2 - u32::try_from(second).unwrap())));
        let refused: Vec<_> = (0..20).map(|_| get(&filter, "/", second * 1000)).collect();
        let by = if second < 2 { "rate" } else { "day" };
        assert!(refused.iter().all(|met| rule(met) == by && met.decisions.len() == 1), "{second}");
    }
    assert!((3..9).all(|second| !get(&filter, "/", second * 1000).allowed()));
    let next = get(&filter, "/", 24 * 3600 * 1000);
    assert_eq!(next.decisions[0].detail, Some(Detail::Remaining(2)));
    assert_eq!(
        next.headers.get_all("ratelimit").iter().collect::<Vec<_>>(),
        ["\"day\";r=2;t=86400", "\"rate\";r=0;t=1"],
    );
    assert_eq!(next.headers.get_all("ratelimit-policy").iter().count(), 3, "each quota, and all limits");
}

#[test]
fn x_ratelimit_tells_of_whichever_is_closer_to_its_end_and_nothing_is_told_where_nothing_is_asked_for() {
    let spec = |fields: Value| {
        json!({
            "responseHeaders": fields,
            "limits": [{"name": "rate", "requests": 2, "per": "1h"}],
            "quotas": [{"name": "day", "requests": 3, "every": "Day"}],
        })
    };
    let filter = bind(Mode::Enforce, spec(json!(["XRateLimit"])), &StateStore::new([0, 0]));
    let told = |met: &Met| {
        let fields = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
        assert!(met.header("ratelimit").is_none());
        fields.map(|name| met.header(name).unwrap().to_owned())
    };
    assert_eq!(told(&get(&filter, "/", 0)), ["2", "1", "1800"]);
    assert_eq!(told(&get(&filter, "/", 3_600_000)), ["3", "1", "82800"], "as many, for longer");
    assert_eq!(told(&get(&filter, "/", 7_200_000)), ["3", "0", "79200"], "the quota has nothing left");
    assert_eq!(told(&get(&filter, "/", 7_200_000)), ["3", "0", "79200"]);
    let silent = bind(Mode::Enforce, spec(json!([])), &StateStore::new([0, 0]));
    assert!((0..4).all(|_| get(&silent, "/", 0).headers.is_empty()));
}

#[test]
fn of_several_quotas_that_refuse_the_one_that_begins_anew_last_is_told_and_none_is_spent() {
    let spec = json!([
        {"name": "day", "requests": 1, "every": "Day"},
        {"name": "month", "requests": 1, "every": "Month", "key": [{"type": "Path"}]},
        {"name": "week", "requests": 5, "every": "Week"},
    ]);
    let filter = quotas(Mode::Enforce, &spec);
    assert!(get(&filter, "/a", 0).allowed());
    assert_eq!([rule(&get(&filter, "/a", 0)), rule(&get(&filter, "/b", 0))], ["month", "day"]);
    let next = get(&filter, "/b", 24 * 3600 * 1000);
    assert!(next.allowed(), "nothing of the month was spent by who found no day");
}

#[test]
fn who_is_beyond_the_quota_takes_no_place_and_who_finds_none_spends_no_quota() {
    let spec = json!({
        "concurrent": [{"name": "few", "atMost": 1}],
        "quotas": [{"name": "day", "requests": 2, "every": "Day"}],
    });
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    let first = get(&filter, "/", 0);
    assert_eq!(rule(&get(&filter, "/", 0)), "few");
    drop(first);
    drop(get(&filter, "/", 0));
    let refused = get(&filter, "/", 0);
    assert_eq!(rule(&refused), "day");
    assert!(refused.held.is_empty());
    assert_eq!(rule(&get(&filter, "/", 0)), "day", "there is a place");
}

#[test]
fn quotas_are_counted_by_key_and_condition() {
    let spec = json!([{
        "name": "user", "requests": 1, "every": "Week", "when": "request.method == 'POST'",
        "key": [{"type": "Header", "name": "x-user", "missing": "Deny"}, {"type": "Header", "name": "x-t", "missing": "Skip"}],
    }]);
    let filter = quotas(Mode::Enforce, &spec);
    let ask = |head: request::Builder| judge(&*filter, head, &peer("192.0.2.1:1", None), 0);
    let of = |user| Request::post("/").header("x-user", user).header("x-t", "1");
    assert!(ask(of("ann")).allowed() && !ask(of("ann")).allowed() && ask(of("bob")).allowed());
    assert!(ask(Request::get("/").header("x-user", "ann").header("x-t", "1")).allowed());
    let skipped = ask(Request::post("/").header("x-user", "ann"));
    assert!(skipped.allowed() && skipped.headers.is_empty() && skipped.decisions.is_empty());
    let denied = ask(Request::post("/"));
    assert!(denied.reply.unwrap().headers.is_empty(), "no wait helps");
}

#[test]
fn a_quota_in_shadow_tells_whom_it_would_refuse_and_counts_who_would_pass() {
    let spec = json!({
        "limits": [{"name": "rate", "requests": 1, "per": "1s", "mode": "Shadow"}],
        "quotas": [{"name": "day", "requests": 2, "every": "Day", "mode": "Shadow"}],
    });
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    let met: Vec<_> = [0, 0, 1000, 2000].map(|millis| get(&filter, "/", millis)).into();
    assert!(met.iter().all(|met| met.allowed() && met.headers.is_empty()));
    let told: Vec<_> = met.iter().map(|met| (rule(met), met.decisions.last().unwrap().outcome)).collect();
    let would = Outcome::WouldRefuse(Reason::RateLimited);
    let allowed = Outcome::Allowed;
    assert_eq!(told, [("rate", allowed), ("rate", would), ("rate", allowed), ("day", would)]);
}

#[test]
fn counts_outlive_a_push_and_follow_its_number_but_not_another_calendar() {
    let store = StateStore::new([0, 0]);
    let of = |requests: u32, zone: &str| {
        let quota = json!({"name": "a", "requests": requests, "every": "Day", "timeZone": zone});
        bind(Mode::Enforce, json!({"quotas": [quota]}), &store)
    };
    assert_eq!(admitted(&of(2, "UTC"), "/", 5, 0), 2);
    assert_eq!(admitted(&of(3, "utc"), "/", 5, 0), 1);
    assert_eq!(admitted(&of(1, "UTC"), "/", 5, 0), 0);
    assert_eq!(admitted(&of(1, "Asia/Tokyo"), "/", 5, 0), 1);
}

#[test]
fn counts_outlive_the_process() {
    let spec = json!({"quotas": [{
        "name": "a", "requests": 2, "every": "Month", "key": [{"type": "Path"}],
    }]});
    let store = StateStore::new([3, 4]);
    let filter = bind(Mode::Enforce, spec.clone(), &store);
    assert_eq!((admitted(&filter, "/a", 1, 0), admitted(&filter, "/b", 9, 0)), (1, 2));
    let saved = store.save(Moment::default(), usize::MAX).0;
    let next = StateStore::restored(saved, Moment { wall: Duration::from_secs(9), ..Moment::default() });
    let filter = bind(Mode::Enforce, spec, &next.unwrap());
    assert_eq!((admitted(&filter, "/a", 9, 9_000), admitted(&filter, "/b", 9, 9_000)), (1, 0));
    assert_eq!(admitted(&filter, "/b", 9, 32 * 24 * 3600 * 1000), 2);
}

#[test]
fn who_is_named_has_a_quota_of_his_own_or_none() {
    let spec = json!([{
        "name": "plan", "requests": 1, "every": "Month", "key": [{"type": "Header", "name": "x-tenant"}],
        "overrides": [
            {"key": ["acme"], "requests": 3},
            {"key": ["ours"], "unlimited": true},
        ],
    }]);
    let filter = quotas(Mode::Enforce, &spec);
    let of = |tenant: &str| {
        let head = Request::get("/").header("x-tenant", tenant);
        judge(&*filter, head, &peer("192.0.2.1:1", None), 0)
    };
    let passed = |tenant: &str| (0..9).filter(|_| of(tenant).allowed()).count();
    let first = of("acme");
    let month = 31 * 24 * 3600;
    assert_eq!(first.header("ratelimit-policy"), Some(&*format!("\"plan\";q=3;w={month}")), "his own");
    assert_eq!(first.header("ratelimit"), Some(&*format!("\"plan\";r=2;t={month}")));
    assert_eq!([passed("acme"), passed("ours"), passed("bob")], [2, 9, 1]);
    assert!(of("ours").headers.is_empty(), "nothing is counted");
    assert_eq!(of("acme").header("ratelimit-policy"), Some(&*format!("\"plan\";q=3;w={month}")));
}

#[test]
fn a_request_spends_of_a_quota_what_it_costs_or_nothing() {
    let spec = json!([
        {"name": "credits", "requests": 10, "every": "Day", "cost": {"header": "x-credits", "atMost": 8}},
        {"name": "posts", "requests": 2, "every": "Day", "cost": {"expression": "request.method == 'POST' ? 1 : 0"}},
    ]);
    let filter = quotas(Mode::Enforce, &spec);
    let ask = |head: request::Builder| judge(&*filter, head, &peer("192.0.2.1:1", None), 0);
    let get = |credits: &str| ask(Request::get("/").header("x-credits", credits));
    assert_eq!(get("7").decisions[0].detail, Some(Detail::Remaining(3)));
    let refused = get("4");
    assert_eq!((rule(&refused), refused.allowed()), ("credits", false));
    assert_eq!(get("2").decisions[0].detail, Some(Detail::Remaining(1)), "who was refused has spent nothing");
    assert!(ask(Request::post("/")).allowed(), "one of each");
    assert!(!ask(Request::post("/")).allowed());
    assert!(get("0").decisions.is_empty(), "it costs nothing, so it is not counted");
    let next_day = 24 * 3600 * 1000;
    let boast = Request::get("/").header("x-credits", "4000000000");
    let met = judge(&*filter, boast, &peer("192.0.2.1:1", None), next_day);
    assert_eq!(met.decisions[0].detail, Some(Detail::Remaining(2)), "not believed beyond what is written");
}

/// What became of a request that may have to wait; it gives up if it is not to go on.
fn delayed(filter: &Arc<dyn Filter>, goes_on: bool, millis: u64) -> (bool, Decisions) {
    let (mut head, ()) = Request::get("/").body(()).unwrap().into_parts();
    let (mut decisions, mut held) = (Decisions::new(), Vec::new());
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer("192.0.2.1:1", None),
        route: None,
        now: Timestamp::from_millis(millis),
        unix: &|| Duration::from_millis(millis),
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut HeaderMap::new(),
        claims: &mut None,
        held: &mut held,
    };
    let passed = match filter.on_request(&mut cx) {
        Verdict::Continue => true,
        Verdict::Effect(Effect::Wait(_)) if goes_on => {
            cx.held.iter_mut().for_each(|held| held.on_resume());
            matches!(filter.on_effect(&mut cx, &Performed::Waited), Verdict::Continue)
        }
        _ => false,
    };
    (passed, decisions)
}

#[test]
fn who_gives_up_while_he_waits_for_his_turn_spends_no_quota_and_who_goes_on_does() {
    let spec = json!({
        "onLimit": {"delay": {"atMost": "1m"}},
        "limits": [{"name": "rate", "requests": 1, "per": "1s"}],
        "quotas": [
            {"name": "day", "requests": 3, "every": "Day"},
            {"name": "trial", "requests": 2, "every": "Day", "mode": "Shadow"},
        ],
    });
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    assert!(delayed(&filter, true, 0).0);
    assert!((0..9).all(|_| !delayed(&filter, false, 0).0));
    assert!(delayed(&filter, true, 0).0);
    let (third, decisions) = delayed(&filter, true, 0);
    assert!(third);
    let told: Vec<_> = decisions.iter().map(|d| (&*d.rule.name, d.outcome)).collect();
    let would = Outcome::WouldRefuse(Reason::RateLimited);
    assert_eq!(told, [("day", Outcome::Allowed), ("rate", Outcome::Allowed), ("trial", would)]);
    let (fourth, decisions) = delayed(&filter, true, 0);
    assert!(!fourth && &*decisions[0].rule.name == "day");
}

fn quota(more: &Value) -> Value {
    let mut quota = json!({"name": "a", "requests": 5, "every": "Day"});
    quota.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"quotas": [quota]})
}

#[test]
fn faults_of_quotas_are_told_where_they_are() {
    let beside = |what: &str, other: Value| {
        let mut spec = quota(&json!({}));
        spec[what] = Value::Array(vec![other]);
        spec
    };
    let with = |what: &str, value: &str| {
        let mut spec = quota(&json!({}));
        spec[what] = json!(value);
        spec
    };
    let many: Vec<_> =
        (0..17).map(|n| json!({"name": format!("a{n}"), "requests": 1, "every": "Day"})).collect();
    let twice = quota(&json!({}))["quotas"][0].clone();
    for (spec, want) in [
        (quota(&json!({"requests": 0})), "spec/quotas/0/requests: 0 is out of range: use at least 1"),
        (quota(&json!({"name": "a b"})), "spec/quotas/0/name: `a b` cannot be a name"),
        (
            quota(&json!({"timeZone": "Europe/Berlni"})),
            "spec/quotas/0/timeZone: `Europe/Berlni` is no time zone: did you mean `Europe/Berlin`?",
        ),
        (
            quota(&json!({"timeZone": "12345678"})),
            "spec/quotas/0/timeZone: `12345678` is no time zone: use an IANA",
        ),
        (
            quota(&json!({"when": "request.mehtod == 'GET'"})),
            "spec/quotas/0/when: there is no `request.mehtod`",
        ),
        (quota(&json!({"key": [{"type": "Header"}]})), "spec/quotas/0/key/0"),
        (quota(&json!({"key": [{"type": "Path"}, {"type": "Path"}]})), "spec/quotas/0/key/1: the same part"),
        (
            quota(&json!({"key": [{"type": "Path"}, {"type": "Descriptor", "name": "u"}]})),
            "spec/quotas/0/key/1/type: Descriptor goes with a `domain` only",
        ),
        (
            quota(&json!({"cost": {"fixed": 6}})),
            "spec/quotas/0/cost/fixed: 6 is out of range: use 1 to 5; no request would pass",
        ),
        (quota(&json!({"cost": {}})), "spec/quotas/0/cost: write one of `fixed`, `header` and `expression`"),
        (json!({"quotas": [twice, twice]}), "spec/quotas/1/name: `a` is used twice"),
        (json!({"quotas": many}), "spec/quotas: 17 of them: write at most 16"),
        (
            beside("limits", json!({"name": "a", "requests": 1, "per": "1s"})),
            "spec/quotas/0/name: a limit of this policy has the same name",
        ),
        (
            beside("concurrent", json!({"name": "a", "atMost": 1})),
            "spec/quotas/0/name: one of `concurrent` has the same name",
        ),
        (
            with("scope", "Mesh"),
            "spec/quotas: `quotas` go with `scope: Local`, where each proxy counts its own",
        ),
        (
            {
                let mut spec = quota(&json!({"mode": "Shadow"}));
                spec["scope"] = json!("Exact");
                spec
            },
            "spec/quotas/0/mode: with `scope: Exact`, write quotas in Shadow into a policy of their own",
        ),
        (with("domain", "edge"), "spec/quotas: a policy with a `domain` sees descriptors only"),
    ] {
        let faults = faults(KIND, spec);
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{want}: {faults:?}");
    }
}

proptest! {
    /// Beside a count that is kept by hand: a request passes if and only if what it costs is left in the latest hour that
    /// was ever seen.
    #[test]
    fn whatever_the_clock_does_no_hour_has_more_than_its_quota(
        asked in prop::collection::vec((0_u64..5 * 3_600_000, 1_u32..4), 1..120),
        requests in 1_u32..8,
    ) {
        let cost = json!({"header": "x-cost"});
        let spec = json!([{"name": "a", "requests": requests, "every": "Hour", "cost": cost}]);
        let filter = quotas(Mode::Enforce, &spec);
        let (mut hour, mut left) = (0, requests);
        for (wall, cost) in asked {
            if wall / 3_600_000 > hour {
                (hour, left) = (wall / 3_600_000, requests);
            }
            let head = Request::get("/").header("x-cost", cost);
            let met = judge(&*filter, head, &peer("192.0.2.1:1", None), wall);
            // Nothing is believed to cost more than there is.
            let cost = cost.min(requests);
            prop_assert_eq!(met.allowed(), left >= cost, "{} in hour {}", wall, hour);
            left -= if met.allowed() { cost } else { 0 };
        }
    }
}

#[test]
fn faults_of_overrides_of_quotas_are_told_where_they_are() {
    for (spec, want) in [
        (
            quota(&json!({"key": [{"type": "Path"}], "overrides": [{"key": ["a", "b"], "requests": 1}]})),
            "spec/quotas/0/overrides/0/key: 2 values: the quota's key has 1 parts",
        ),
        (
            quota(&json!({"key": [{"type": "ClientAddress"}], "overrides": [{"key": ["a"], "requests": 1}]})),
            "spec/quotas/0/overrides/0/key/0: a client address cannot be overridden: write a quota with `when`",
        ),
        (
            quota(&json!({"key": [{"type": "Path"}], "overrides": [{"key": ["a"]}]})),
            "spec/quotas/0/overrides/0: write `requests` or `unlimited: true`",
        ),
        (
            quota(&json!({"key": [{"type": "Path"}], "overrides": [{"key": ["a"], "requests": 0}]})),
            "spec/quotas/0/overrides/0/requests: 0 is out of range: use at least 1",
        ),
        (
            quota(
                &json!({"key": [{"type": "Path"}], "overrides": [{"key": ["a"], "requests": 1, "unlimited": true}]}),
            ),
            "spec/quotas/0/overrides/0/unlimited: it goes without `requests`",
        ),
    ] {
        let faults = faults(KIND, spec);
        assert!(faults.len() == 1 && faults[0].starts_with(want), "{want}: {faults:?}");
    }
}
