use super::*;

fn standing(success: f64, millis: u64) -> Standing {
    Standing { calls: 100, success, latency: Duration::from_millis(millis) }
}

const AMONG: Among = Among { minimum_endpoints: 3, minimum_calls: 50, window: Duration::from_secs(10) };

fn is_outlier(own: f64, others: &[f64]) -> bool {
    let others: Vec<_> = others.iter().map(|success| standing(*success, 10)).collect();
    SuccessRate { standard_deviations: 1.9, among: AMONG }.judge(standing(own, 10), &others).is_some()
}

#[test]
fn one_bad_endpoint_of_three_is_an_outlier() {
    assert!(is_outlier(0.0, &[1.0, 1.0]));
    assert!(!is_outlier(1.0, &[0.0, 1.0]));
}

#[test]
fn peers_that_are_all_alike_leave_room_for_chance() {
    assert!(!is_outlier(0.95, &[1.0, 1.0, 1.0]));
    assert!(is_outlier(0.90, &[1.0, 1.0, 1.0]));
}

#[test]
fn peers_that_differ_leave_more_room() {
    assert!(!is_outlier(0.6, &[1.0, 0.7, 0.9, 0.6]));
}

#[test]
fn too_few_peers_or_calls_are_not_compared() {
    assert!(!is_outlier(0.0, &[1.0]));
    let rate = SuccessRate { standard_deviations: 1.9, among: AMONG };
    let few = Standing { calls: 49, ..standing(0.0, 10) };
    assert_eq!(rate.judge(few, &[standing(1.0, 10); 5]), None);
    let idle = Standing { calls: 49, ..standing(1.0, 10) };
    assert_eq!(rate.judge(standing(0.0, 10), &[standing(1.0, 10), idle]), None);
}

#[test]
fn latency_is_held_against_the_median_and_a_second_slow_one_hides_nothing() {
    let latency = PeerLatency { factor: 3.0, minimum: Duration::from_millis(10), among: AMONG };
    let judge = |own, others: &[u64]| {
        let others: Vec<_> = others.iter().map(|millis| standing(1.0, *millis)).collect();
        latency.judge(standing(1.0, own), &others).is_some()
    };
    assert!(judge(300, &[100, 100, 100, 300]));
    assert!(!judge(299, &[100, 100, 100]));
    assert!(!judge(9, &[1, 1, 1]), "faster than the least that matters");
}

#[test]
fn the_usual_latency_is_hardly_moved_by_one_call_that_hangs() {
    let mut recent = Recent::new(Duration::from_secs(10));
    for i in 0..50 {
        let millis = if i == 20 { 60_000 } else { 20 };
        recent.record(true, Duration::from_millis(millis), Timestamp::from_millis(i * 10));
    }
    let usual = recent.standing(Timestamp::from_millis(500)).latency;
    assert!((20..24).contains(&usual.as_millis()), "{usual:?}");
}
