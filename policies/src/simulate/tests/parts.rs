use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[test]
fn steps_get_wider_as_the_time_gets_longer_and_no_count_is_lost() {
    let mut series = Series::<1>::default();
    for second in 0..100_000 {
        series.at(Timestamp::from_millis(second * 1000))[0] += 1;
    }
    assert_eq!(series.column(0).sum::<u64>(), 100_000);
    assert!(series.counts().len() <= 240 && series.counts().len() > 100);
    assert_eq!(series.step(), Duration::from_secs(512));
    assert_eq!(series.counts()[0], [512]);
    // A moment that lies years ahead costs no more.
    series.at(Timestamp::from_nanos(u64::MAX))[0] += 1;
    assert!(series.counts().len() <= 240);
    assert_eq!(series.column(0).sum::<u64>(), 100_001);
}

#[test]
fn requests_that_come_late_are_put_in_order_within_the_window_and_clamped_beyond_it() {
    let mut order = Reorder::new(3);
    let mut got = Vec::new();
    for at in [10, 30, 20, 40, 50, 15, 60] {
        let mut request = request(at, "/", "ann");
        order.push(&mut request);
        got.extend(order.pop(false).map(|request| request.at));
    }
    while let Some(request) = order.pop(true) {
        got.push(request.at);
    }
    let want = [10, 20, 20, 30, 40, 50, 60].map(|at| Timestamp::from_millis(1_000_000 + at));
    assert_eq!((got.as_slice(), order.late()), (&want[..], 1));
}

/// The times at which requests come out that go in at these.
fn ordered(order: &mut Reorder, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut got = Vec::new();
    let mut take = |request: &mut Request| got.push(request.at.as_nanos() / 1_000_000 - 1_000_000);
    for at in times {
        order.push(&mut request(at, "/", "ann"));
        while let Some(request) = order.pop(false) {
            take(request);
        }
    }
    while let Some(request) = order.pop(true) {
        take(request);
    }
    got
}

#[test]
fn what_is_late_for_a_window_that_got_narrow_makes_it_wide_again() {
    let mut order = Reorder::new(2000);
    let late = 10_000 - 1500;
    let times = (0..10_000).chain([late]).chain(10_000..20_000).chain([late + 10_000]).chain(20_000..30_000);
    let got = ordered(&mut order, times);
    assert!(got.is_sorted() && got.len() == 30_002);
    assert_eq!(order.late(), 1);
    // Only the second was put where it belongs.
    assert_eq!(got.iter().filter(|at| **at == late + 10_000).count(), 2);
}

proptest! {
    #[test]
    fn requests_that_are_never_far_from_their_place_are_all_put_there(
        seed in any::<u64>(), percent in 1_u64..50, window in 300_usize..2000,
    ) {
        let apart = 1 + window as u64 * percent / 100;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut ended: Vec<_> = (0..4000_u64).map(|at| (at + rng.u64(..apart), at)).collect();
        ended.sort_unstable();
        let mut order = Reorder::new(window);
        let got = ordered(&mut order, ended.into_iter().map(|(_, at)| at));
        prop_assert_eq!(order.late(), 0);
        prop_assert_eq!(got, (0..4000).collect::<Vec<_>>());
    }

    #[test]
    fn the_most_frequent_are_found_and_no_count_is_too_low(keys in prop::collection::vec(0_u8..40, 1..400)) {
        let (mut frequent, mut real) = (Frequent::new(8), BTreeMap::<String, u64>::new());
        for key in &keys {
            // Uneven on purpose.
            let key = format!("k{}", u32::from(*key) * u32::from(*key) / 60);
            frequent.add(&key);
            *real.entry(key).or_default() += 1;
        }
        let top = frequent.top(100);
        prop_assert!(top.len() <= 8);
        prop_assert_eq!(top.iter().map(|(_, count, _)| count).sum::<u64>(), keys.len() as u64);
        for (key, count, excess) in &top {
            let real = real[*key];
            prop_assert!(*count >= real && count - excess <= real, "{} {} {} {}", key, count, excess, real);
        }
        for (key, count) in &real {
            let must = *count > keys.len() as u64 / 8;
            prop_assert!(!must || top.iter().any(|(found, ..)| found == key), "{} {}", key, count);
        }
    }

    #[test]
    fn times_in_order_go_through_in_order(steps in prop::collection::vec(0_u64..50, 1..100), window in 1_usize..20) {
        let mut order = Reorder::new(window);
        let (mut at, mut got) = (0, Vec::new());
        for step in &steps {
            at += step;
            order.push(&mut request(at, "/", "ann"));
            got.extend(order.pop(false).map(|request| request.at));
        }
        while let Some(request) = order.pop(true) {
            got.push(request.at);
        }
        prop_assert!(got.is_sorted() && got.len() == steps.len() && order.late() == 0);
    }
}

fn measured(text: &str, tally: &Tally) -> Result<(bool, f64), String> {
    text.parse::<Threshold>().and_then(|threshold| threshold.holds(Measured { tally, changed: None }))
}

#[test]
fn thresholds_compare_counts_and_shares() {
    let plan = plan(&policy("RateLimitPolicy", "  limits: [{name: all, requests: 6, per: 1h}]"));
    let simulator = replay(&plan, (0..8).map(|n| request(n, "/", "ann")));
    let tally = simulator.tally();
    let cases = [
        ("limited > 1%", true, 25.0),
        ("limited>25%", false, 25.0),
        ("limited >= 25 %", true, 25.0),
        ("limited == 2", true, 2.0),
        ("limited != 2", false, 2.0),
        ("status.429 < 3", true, 2.0),
        ("status.4xx <= 1", false, 2.0),
        ("status.200 > 5.5", true, 6.0),
        ("reason.rate_limited > 0", true, 2.0),
        ("failed > 0", false, 0.0),
        ("requests < 1000", true, 8.0),
        ("would_refuse > 0", false, 0.0),
    ];
    for (text, holds, value) in cases {
        assert_eq!(measured(text, tally), Ok((holds, value)), "{text}");
    }
    assert!(measured("changed > 0", tally).unwrap_err().contains("against"));
    assert_eq!(measured("limited > 1%", &Tally::default()), Ok((false, 0.0)));
}

#[test]
fn thresholds_that_are_none_say_what_would_be_right() {
    let error = |text: &str| text.parse::<Threshold>().unwrap_err();
    assert!(error("limited").contains("> >= < <= == !="));
    assert!(error("limitd > 1").contains("limited, refused"), "{}", error("limitd > 1"));
    assert!(error("limited = 1").contains("is none of"));
    for text in [
        "limited > x",
        "limited >",
        "limited > -1",
        "limited > 1e3",
        "limited > 1%%",
        "limited > inf",
        "limited > 1.2.3",
    ] {
        assert!(error(text).contains("is no number"), "{text}: {}", error(text));
    }
    for text in ["status.9xx > 1", "status.42 > 1", "status.abc > 1", "status. > 1", "status.600 > 1"] {
        assert!(error(text).contains("is no status"), "{text}");
    }
    assert!(error("reason.bad_luck > 1").contains("no reason"));
    for text in
        ["limited > 1%", "status.429 <= 3", "status.5xx == 0", "reason.no_route != 1.5", "retries >= 7"]
    {
        assert_eq!(text.parse::<Threshold>().unwrap().to_string(), text);
    }
}
