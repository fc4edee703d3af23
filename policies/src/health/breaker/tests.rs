use std::thread;

use proptest::prelude::*;

use super::*;
use crate::health::Span;

const OPEN: Duration = Duration::from_secs(5);

fn with(params: BreakerParams) -> Arc<Breaker> {
    Arc::new(Breaker::new(params, 1))
}

fn consecutive(limit: u32, probes: u32) -> Arc<Breaker> {
    with(BreakerParams { consecutive_failures: Some(limit), open: OPEN, probes, ..BreakerParams::default() })
}

fn of(percent: u8, minimum_calls: u32, window: Span) -> Rate {
    Rate { percent, minimum_calls, window }
}

fn rate(percent: u8, minimum_calls: u32) -> Arc<Breaker> {
    let rate = of(percent, minimum_calls, Span::Time(Duration::from_secs(10)));
    with(BreakerParams { failure_rate: Some(rate), open: OPEN, ..BreakerParams::default() })
}

/// Half of the latest four calls above 100 ms.
fn slow(probes: u32) -> Arc<Breaker> {
    let slow_calls = SlowCalls { rate: of(50, 4, Span::Calls(4)), slower_than: Duration::from_millis(100) };
    with(BreakerParams { slow_calls: Some(slow_calls), open: OPEN, probes, ..BreakerParams::default() })
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn try_admit(breaker: &Arc<Breaker>, now: Timestamp) -> Option<Permit> {
    match breaker.admit(now) {
        Admission::Admitted(permit) => Some(permit),
        Admission::Refused { .. } => None,
    }
}

fn reported(permit: Permit, report: Report, now: Timestamp) -> Option<PhaseChange> {
    match permit.record(report, now) {
        Recorded::Quiet => None,
        Recorded::Changed(change) => Some(change),
        Recorded::Due(trip) => trip.open(now),
    }
}

fn ended(permit: Permit, ok: bool, now: Timestamp) -> Option<PhaseChange> {
    reported(permit, Report::of(ok), now)
}

fn call(breaker: &Arc<Breaker>, ok: bool, now: Timestamp) -> Option<PhaseChange> {
    ended(try_admit(breaker, now).expect("admitted"), ok, now)
}

fn took(breaker: &Arc<Breaker>, millis: u64, now: Timestamp) -> Option<PhaseChange> {
    let report = Report { latency: Duration::from_millis(millis), ..Report::of(true) };
    reported(try_admit(breaker, now).expect("admitted"), report, now)
}

fn trip(breaker: &Arc<Breaker>, now: Timestamp) {
    for _ in 0..1000 {
        if breaker.view().phase.holds_back() {
            return;
        }
        call(breaker, false, now);
    }
    panic!("never trips");
}

#[test]
fn consecutive_failures_open_it_and_a_success_starts_the_count_again() {
    let breaker = consecutive(3, 1);
    for ok in [false, false, true, false, false] {
        assert_eq!(call(&breaker, ok, at(0)), None);
    }
    let change = PhaseChange { from: BreakerPhase::Closed, to: BreakerPhase::Open };
    assert_eq!(call(&breaker, false, at(0)), Some(change));
    assert!(try_admit(&breaker, at(4999)).is_none());
}

#[test]
fn the_failure_rate_counts_only_from_the_minimum_of_calls_on() {
    let breaker = rate(50, 4);
    for ok in [false, false, true] {
        assert_eq!(call(&breaker, ok, at(0)), None);
    }
    assert!(call(&breaker, false, at(0)).is_some());
    assert_eq!(breaker.view().counts, Counts { calls: 4, failures: 3 });
}

#[test]
fn a_rate_below_the_threshold_keeps_it_closed() {
    let breaker = rate(50, 4);
    for i in 0..1000 {
        assert_eq!(call(&breaker, i % 3 != 2, at(i)), None, "call {i}");
    }
}

#[test]
fn failures_that_left_the_window_do_not_count() {
    let breaker = rate(50, 4);
    (0..3).for_each(|_| assert_eq!(call(&breaker, false, at(0)), None));
    assert_eq!(call(&breaker, false, at(10_000)), None);
}

#[test]
fn an_open_breaker_says_how_long_it_stays_so() {
    let breaker = consecutive(1, 1);
    trip(&breaker, at(1000));
    let Admission::Refused { phase, retry_in } = breaker.admit(at(2000)) else { panic!("admitted") };
    assert_eq!((phase, retry_in), (BreakerPhase::Open, Duration::from_secs(4)));
    assert_eq!(breaker.view().until, Some(at(6000)));
}

#[test]
fn half_open_lets_exactly_the_probes_through_and_closes_when_all_succeed() {
    let breaker = consecutive(1, 3);
    trip(&breaker, at(0));
    let probes: Vec<_> = (0..5).filter_map(|_| try_admit(&breaker, at(5000))).collect();
    assert_eq!(probes.len(), 3);
    assert!(probes.iter().all(Permit::is_probe));
    let changes: Vec<_> = probes.into_iter().map(|probe| ended(probe, true, at(5001))).collect();
    let closed = PhaseChange { from: BreakerPhase::HalfOpen, to: BreakerPhase::Closed };
    assert_eq!(changes, [None, None, Some(closed)]);
    assert!(try_admit(&breaker, at(5001)).is_some_and(|permit| !permit.is_probe()));
    assert_eq!(
        breaker.view().transitions,
        TransitionCounts { closed: 1, opened: 1, half_opened: 1, ramped: 0 }
    );
}

#[test]
fn a_succeeded_probe_does_not_make_room_for_another() {
    let breaker = consecutive(1, 2);
    trip(&breaker, at(0));
    call(&breaker, true, at(5000));
    let _second = try_admit(&breaker, at(5000)).unwrap();
    assert!(try_admit(&breaker, at(5000)).is_none());
}

#[test]
fn one_failed_probe_opens_it_for_the_whole_time_again() {
    let breaker = consecutive(1, 2);
    trip(&breaker, at(0));
    let (first, second) = (try_admit(&breaker, at(5000)).unwrap(), try_admit(&breaker, at(5000)).unwrap());
    assert!(ended(first, false, at(5100)).is_some());
    assert_eq!(ended(second, true, at(5200)), None, "a report from the round before counts for nothing");
    assert!(try_admit(&breaker, at(10_099)).is_none());
    assert!(try_admit(&breaker, at(10_100)).is_some());
}

#[test]
fn a_probe_that_is_dropped_without_a_report_frees_its_slot() {
    let breaker = consecutive(1, 1);
    trip(&breaker, at(0));
    drop(try_admit(&breaker, at(5000)).unwrap());
    assert!(breaker.would_admit(at(5000)));
    assert!(call(&breaker, true, at(5000)).is_some());
}

#[test]
fn calls_admitted_before_it_opened_say_nothing_about_the_probes() {
    let breaker = consecutive(1, 1);
    let (old, older) = (try_admit(&breaker, at(0)).unwrap(), try_admit(&breaker, at(0)).unwrap());
    trip(&breaker, at(0));
    let probe = try_admit(&breaker, at(5000)).unwrap();
    assert_eq!(ended(old, false, at(5001)), None);
    assert_eq!(ended(older, true, at(5001)), None);
    assert!(ended(probe, true, at(5002)).is_some());
}

#[test]
fn threads_never_get_more_probes_than_written() {
    let breaker = consecutive(1, 3);
    for round in 1..200 {
        let now = at(round * 10_000);
        trip(&breaker, now);
        let admitted: usize = thread::scope(|scope| {
            let ask = || (0..20).filter_map(|_| try_admit(&breaker, now + OPEN)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            let held: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
            let count = held.len();
            for probe in held {
                ended(probe, true, now + OPEN);
            }
            count
        });
        assert_eq!(admitted, 3);
        assert_eq!(breaker.view().phase, BreakerPhase::Closed);
    }
}

#[test]
fn slow_calls_trip_it_though_all_succeed_and_a_slow_probe_is_not_enough_to_close_it() {
    let breaker = slow(1);
    assert_eq!([300, 10, 10].map(|ms| took(&breaker, ms, at(0))), [None; 3]);
    assert!(took(&breaker, 101, at(0)).is_some());
    let told = breaker.view().evidence.unwrap().to_string();
    assert_eq!(told, "2 of 4 calls took longer than 100ms within 4 calls");
    let again = took(&breaker, 150, at(5000)).unwrap();
    assert_eq!((again.from, again.to), (BreakerPhase::HalfOpen, BreakerPhase::Open));
    assert_eq!(breaker.view().failed_probes, 1);
    assert_eq!(took(&breaker, 100, at(10_000)).unwrap().to, BreakerPhase::Closed);
}

#[test]
fn a_call_that_tells_nothing_counts_only_if_it_was_long() {
    let breaker = slow(1);
    let gone = |millis| {
        let report = Report { ok: None, latency: Duration::from_millis(millis), told: None };
        reported(try_admit(&breaker, at(0)).unwrap(), report, at(0))
    };
    assert_eq!((0..20).find_map(|_| gone(50)), None);
    assert_eq!([gone(500), gone(500), gone(500)], [None; 3]);
    assert!(gone(500).is_some());
}

#[test]
fn what_spared_it_is_told_until_a_call_shows_that_it_is_well() {
    let breaker = consecutive(1, 1);
    let Recorded::Due(trip) = try_admit(&breaker, at(0)).unwrap().record(Report::of(false), at(0)) else {
        panic!("no reason to trip")
    };
    trip.spare();
    let told = || breaker.view().spared.map(|why| why.to_string());
    assert_eq!((breaker.view().phase, told().as_deref()), (BreakerPhase::Closed, Some("a call failed")));
    let gone = Report { ok: None, ..Report::default() };
    assert_eq!(reported(try_admit(&breaker, at(0)).unwrap(), gone, at(0)), None);
    assert!(told().is_some());
    call(&breaker, true, at(0));
    assert_eq!(told(), None);
}

#[test]
fn a_window_of_calls_forgets_by_number_and_not_by_time() {
    let failure_rate = Some(of(50, 4, Span::Calls(4)));
    let breaker = with(BreakerParams { failure_rate, ..BreakerParams::default() });
    for (i, ok) in [false, true, true, true, false, true, true, true].into_iter().enumerate() {
        assert_eq!(call(&breaker, ok, at(1_000_000 * i as u64)), None, "call {i}");
    }
    assert_eq!(call(&breaker, false, at(9_000_000)), None);
    assert!(call(&breaker, false, at(99_000_000)).is_some());
}

/// Trips it at once, and returns how long it stays open.
fn open_for(breaker: &Arc<Breaker>, now: Timestamp) -> Duration {
    trip(breaker, now);
    breaker.view().until.unwrap().since(now)
}

fn growing(jitter: u8) -> Arc<Breaker> {
    let (open, max_open) = (Duration::from_secs(1), Some(Duration::from_secs(6)));
    with(BreakerParams { consecutive_failures: Some(1), open, max_open, jitter, ..BreakerParams::default() })
}

#[test]
fn trips_in_a_row_double_the_pause_and_a_healthy_time_ends_the_row() {
    let breaker = growing(0);
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..4 {
        pauses.push(open_for(&breaker, at(now)).as_secs());
        now += pauses.last().unwrap() * 1000;
        call(&breaker, true, at(now)).expect("closed by the probe");
        now += 500;
    }
    assert_eq!(pauses, [1, 2, 4, 6]);
    assert_eq!(open_for(&breaker, at(now + 5_500)).as_secs(), 1, "closed for as long as it was open");
}

#[test]
fn a_probe_that_fails_is_a_trip_in_a_row() {
    let breaker = growing(0);
    trip(&breaker, at(0));
    call(&breaker, false, at(1000));
    assert_eq!(breaker.view().until, Some(at(3000)));
}

#[test]
fn two_breakers_of_one_seed_draw_the_same_jitter_and_two_of_others_do_not() {
    let params = growing(50).params;
    let pause = |seed| open_for(&Arc::new(Breaker::new(params, seed)), at(0));
    assert_eq!(pause(7), pause(7));
    let pauses: std::collections::HashSet<_> = (0..50).map(pause).collect();
    assert!(pauses.len() > 45, "{pauses:?}");
    assert!(pauses.iter().all(|pause| (1000..=1500).contains(&pause.as_millis())), "{pauses:?}");
}

fn ramping(now: Timestamp) -> Arc<Breaker> {
    let params = BreakerParams { consecutive_failures: Some(3), open: OPEN, ..BreakerParams::default() };
    let breaker = with(BreakerParams { ramp: Duration::from_secs(10), ..params });
    trip(&breaker, now);
    let change = call(&breaker, true, now + OPEN).unwrap();
    assert_eq!(change.to, BreakerPhase::Ramping);
    breaker
}

#[test]
fn a_ramp_lets_a_tenth_through_at_first_and_all_at_its_end() {
    let breaker = ramping(at(0));
    let rng = &mut fastrand::Rng::with_seed(1);
    let mut share = |millis| (0..10_000).filter(|_| breaker.ramp_admits(at(millis), rng)).count();
    for (millis, percent) in [(5000, 10), (10_000, 55), (14_000, 91), (15_000, 100)] {
        let got = share(millis) / 100;
        assert!(got.abs_diff(percent) <= 2, "{got} % at {millis}");
    }
    assert!(try_admit(&breaker, at(15_000)).is_some());
    assert_eq!((breaker.view().phase, breaker.view().since), (BreakerPhase::Closed, at(15_000)));
}

#[test]
fn failures_on_the_ramp_trip_it_again_and_those_near_its_end_still_count_after_it() {
    let breaker = ramping(at(0));
    assert_eq!([14_000, 14_500].map(|ms| call(&breaker, false, at(ms))), [None; 2]);
    assert!(call(&breaker, false, at(15_100)).is_some());
    let breaker = ramping(at(0));
    trip(&breaker, at(6000));
    assert_eq!(breaker.view().phase, BreakerPhase::Open);
}

#[test]
fn what_a_response_asks_for_opens_it_for_that_long() {
    let breaker = consecutive(9, 1);
    let report = Report { told: Some(Duration::from_secs(30)), ..Report::of(true) };
    assert!(reported(try_admit(&breaker, at(0)).unwrap(), report, at(0)).is_some());
    assert_eq!(breaker.view().until, Some(at(30_000)));
    assert_eq!(breaker.view().evidence.unwrap().to_string(), "a response asked to wait 30s");
}

#[test]
fn a_clock_that_is_set_back_keeps_nobody_waiting_longer_than_written() {
    let hour = 3_600_000;
    let breaker = consecutive(1, 1);
    trip(&breaker, at(hour));
    assert!(!breaker.would_admit(at(10)), "still open, from now on");
    assert!(!breaker.would_admit(at(5009)));
    assert!(breaker.would_admit(at(5010)) && try_admit(&breaker, at(5010)).is_some());
    let breaker = ramping(at(hour));
    assert!(try_admit(&breaker, at(10)).is_some());
    assert!(try_admit(&breaker, at(10_010)).is_some());
    assert_eq!(breaker.view().phase, BreakerPhase::Closed);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    SetBack(u64),
    Admit,
    Record(usize, bool),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0_u64..4000).prop_map(Step::Wait),
        1 => (0_u64..100_000).prop_map(Step::SetBack),
        3 => Just(Step::Admit),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(i, ok)| Step::Record(i, ok)),
        1 => any::<usize>().prop_map(Step::Drop),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_calls_wedges_it(
        steps in prop::collection::vec(step(), 0..200),
        limit in prop::option::of(1_u32..4),
        probes in 1_u32..4,
        ramp in prop::sample::select(vec![0, 3000_u64]),
    ) {
        let failure_rate = limit.is_none().then_some(of(50, 2, Span::Time(Duration::from_secs(1))));
        let (ramp, max_open) = (Duration::from_millis(ramp), Some(4 * OPEN));
        let usual = BreakerParams { open: OPEN, probes, ramp, max_open, jitter: 20, ..BreakerParams::default() };
        let breaker = with(BreakerParams { failure_rate, consecutive_failures: limit, ..usual });
        let mut now = Timestamp::ZERO;
        let mut held: Vec<Permit> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now = now + Duration::from_millis(ms),
                Step::SetBack(ms) => now = Timestamp::from_nanos(now.as_nanos().saturating_sub(ms * 1_000_000)),
                Step::Admit => {
                    let expected = breaker.would_admit(now);
                    let permit = try_admit(&breaker, now);
                    prop_assert_eq!(permit.is_some(), expected);
                    held.extend(permit);
                }
                Step::Record(i, ok) if !held.is_empty() => {
                    ended(held.swap_remove(i % held.len()), ok, now);
                }
                Step::Drop(i) if !held.is_empty() => drop(held.swap_remove(i % held.len())),
                Step::Record(..) | Step::Drop(_) => {}
            }
            let inner = breaker.inner.lock();
            let current = held.iter().filter(|p| p.probe && p.epoch == inner.epoch).count();
            prop_assert_eq!(inner.probes as usize, current + inner.succeeded as usize);
            prop_assert!(inner.probes <= probes);
        }
        held.clear();
        // Whatever the clock did: a call now, and it is probed after its longest pause.
        let _ = try_admit(&breaker, now);
        now = now + 4 * OPEN;
        for _ in 0..probes {
            let permit = try_admit(&breaker, now);
            prop_assert!(permit.is_some(), "never probed again: {:?}", breaker.view());
            ended(permit.unwrap(), true, now);
        }
        now = now + ramp;
        prop_assert!(try_admit(&breaker, now).is_some());
        prop_assert_eq!(breaker.view().phase, BreakerPhase::Closed);
    }
}
