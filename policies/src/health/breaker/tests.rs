use std::thread;

use proptest::prelude::*;

use super::*;

const OPEN: Duration = Duration::from_secs(5);

fn consecutive(limit: u32, probes: u32) -> Arc<Breaker> {
    let params = BreakerParams { failure_rate: None, consecutive_failures: Some(limit), open: OPEN, probes };
    Arc::new(Breaker::new(params))
}

fn rate(percent: u8, minimum_calls: u32) -> Arc<Breaker> {
    let rate = FailureRate { percent, minimum_calls, window: Duration::from_secs(10) };
    let params =
        BreakerParams { failure_rate: Some(rate), consecutive_failures: None, open: OPEN, probes: 1 };
    Arc::new(Breaker::new(params))
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

fn call(breaker: &Arc<Breaker>, ok: bool, now: Timestamp) -> Option<PhaseChange> {
    try_admit(breaker, now).expect("admitted").record(ok, now)
}

fn trip(breaker: &Arc<Breaker>, now: Timestamp) {
    while breaker.view().phase == BreakerPhase::Closed {
        call(breaker, false, now);
    }
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
    let changes: Vec<_> = probes.into_iter().map(|probe| probe.record(true, at(5001))).collect();
    let closed = PhaseChange { from: BreakerPhase::HalfOpen, to: BreakerPhase::Closed };
    assert_eq!(changes, [None, None, Some(closed)]);
    assert!(try_admit(&breaker, at(5001)).is_some_and(|permit| !permit.is_probe()));
    assert_eq!(breaker.view().transitions, TransitionCounts { closed: 1, opened: 1, half_opened: 1 });
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
    assert!(first.record(false, at(5100)).is_some());
    assert_eq!(second.record(true, at(5200)), None, "a report from the round before counts for nothing");
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
    assert_eq!(old.record(false, at(5001)), None);
    assert_eq!(older.record(true, at(5001)), None);
    assert!(probe.record(true, at(5002)).is_some());
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
                probe.record(true, now + OPEN);
            }
            count
        });
        assert_eq!(admitted, 3);
        assert_eq!(breaker.view().phase, BreakerPhase::Closed);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit,
    Record(usize, bool),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0_u64..4000).prop_map(Step::Wait),
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
    ) {
        let rate = FailureRate { percent: 50, minimum_calls: 2, window: Duration::from_secs(1) };
        let failure_rate = limit.is_none().then_some(rate);
        let params = BreakerParams { failure_rate, consecutive_failures: limit, open: OPEN, probes };
        let breaker = Arc::new(Breaker::new(params));
        let mut now = Timestamp::ZERO;
        let mut held: Vec<Permit> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now = now + Duration::from_millis(ms),
                Step::Admit => {
                    let expected = breaker.would_admit(now);
                    let permit = try_admit(&breaker, now);
                    prop_assert_eq!(permit.is_some(), expected);
                    held.extend(permit);
                }
                Step::Record(i, ok) if !held.is_empty() => {
                    held.swap_remove(i % held.len()).record(ok, now);
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
        now = now + OPEN;
        for _ in 0..probes {
            let permit = try_admit(&breaker, now);
            prop_assert!(permit.is_some(), "never probed again: {:?}", breaker.view());
            permit.unwrap().record(true, now);
        }
        prop_assert_eq!(breaker.view().phase, BreakerPhase::Closed);
    }
}
