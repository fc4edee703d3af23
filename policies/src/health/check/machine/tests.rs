use proptest::prelude::*;

use super::*;

const TIMING: CheckTiming = CheckTiming {
    interval: Duration::from_secs(5),
    unhealthy_interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    jitter_percent: 20,
    unhealthy_threshold: 3,
    healthy_threshold: 2,
};
const DOWN: Finding = Finding::Failed(Cause::ConnectFailed);

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Reports findings one second apart; the verdict after each.
fn verdicts(machine: &mut Machine, findings: &[Finding]) -> Vec<bool> {
    let rng = &mut fastrand::Rng::with_seed(1);
    let mut report = |i: usize, finding: &Finding| {
        machine.report(&TIMING, *finding, at(i as u64 * 1000), rng);
        machine.healthy
    };
    findings.iter().enumerate().map(|(i, finding)| report(i, finding)).collect()
}

#[test]
fn an_endpoint_is_used_until_it_has_failed_as_often_in_a_row_as_written() {
    let mut machine = Machine::new(Initial::Healthy);
    let findings = [DOWN, DOWN, Finding::Passed, DOWN, DOWN, DOWN];
    assert_eq!(verdicts(&mut machine, &findings), [true, true, true, true, true, false]);
    assert_eq!(machine.view().since, Some(at(5000)));
    assert_eq!(machine.view().failed, Some((Cause::ConnectFailed, at(5000))));
}

#[test]
fn it_comes_back_after_as_many_passed_checks_in_a_row_as_written() {
    let mut machine = Machine::new(Initial::Healthy);
    verdicts(&mut machine, &[DOWN; 3]);
    let findings = [Finding::Passed, DOWN, Finding::Passed, Finding::Passed];
    assert_eq!(verdicts(&mut machine, &findings), [false, false, false, true]);
}

#[test]
fn of_an_endpoint_that_nothing_is_known_of_one_passed_check_is_enough() {
    let mut machine = Machine::new(Initial::Unhealthy);
    assert_eq!(verdicts(&mut machine, &[Finding::Passed]), [true]);
    let mut machine = Machine::new(Initial::Unhealthy);
    let findings = [DOWN, Finding::Passed, Finding::Passed];
    assert_eq!(verdicts(&mut machine, &findings), [false, false, true], "it had failed before");
}

#[test]
fn one_that_says_that_it_drains_need_not_say_so_twice() {
    let mut machine = Machine::new(Initial::Healthy);
    let draining = Finding::Draining(Cause::Draining(503));
    assert_eq!(verdicts(&mut machine, &[Finding::Passed, draining]), [true, false]);
}

#[test]
fn a_turn_tells_what_the_endpoint_failed_with() {
    let mut machine = Machine::new(Initial::Healthy);
    let rng = &mut fastrand::Rng::with_seed(1);
    let mut report = |finding| machine.report(&TIMING, finding, at(0), rng);
    assert_eq!([report(DOWN), report(DOWN)], [None, None]);
    let cause = Some(Cause::TimedOut);
    assert_eq!(report(Finding::Failed(Cause::TimedOut)), Some(Turn { healthy: false, cause }));
    assert_eq!(report(Finding::Passed), None);
    assert_eq!(report(Finding::Passed), Some(Turn { healthy: true, cause }));
}

#[test]
fn the_next_check_is_counted_from_the_beginning_of_this_one() {
    let timing = CheckTiming { jitter_percent: 0, ..TIMING };
    let mut machine = Machine::new(Initial::Healthy);
    let rng = &mut fastrand::Rng::with_seed(1);
    let first = machine.due(&timing, at(0), rng);
    assert!(machine.begin(&timing, first, rng));
    assert!(!machine.begin(&timing, first, rng), "one at a time");
    machine.report(&timing, Finding::Passed, first + Duration::from_millis(700), rng);
    assert_eq!(machine.due(&timing, first, rng), first + timing.interval);
    for _ in 0..3 {
        machine.report(&timing, DOWN, at(10_000), rng);
    }
    assert_eq!(machine.due(&timing, at(10_000), rng), at(12_000), "as written for the unhealthy");
}

#[test]
fn first_checks_are_spread_over_an_interval_or_a_second_where_nobody_is_served_before() {
    for (initial, within) in [(Initial::Healthy, 5000), (Initial::Unhealthy, 1000)] {
        let first = |seed| {
            let rng = &mut fastrand::Rng::with_seed(seed);
            Machine::new(initial).due(&TIMING, at(0), rng).since(at(0)).as_millis()
        };
        let firsts: Vec<_> = (0..1000).map(first).collect();
        assert!(firsts.iter().all(|first| *first <= within));
        for tenth in 0..10 {
            let range = within * tenth / 10..within * (tenth + 1) / 10;
            let there = firsts.iter().filter(|first| range.contains(first)).count();
            assert!((50..200).contains(&there), "{initial:?}: {there} of 1000 in tenth {tenth}");
        }
    }
}

#[test]
fn proxies_that_check_in_step_do_not_stay_in_step() {
    let mut dues = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (mut machine, rng) = (Machine::new(Initial::Healthy), &mut fastrand::Rng::with_seed(seed));
        machine.report(&TIMING, Finding::Passed, at(0), rng);
        let due = machine.due(&TIMING, at(0), rng);
        assert!((at(4000)..=at(6000)).contains(&due));
        dues.insert(due);
    }
    assert!(dues.len() > 90);
}

#[test]
fn a_clock_that_jumps_back_does_not_stall_the_checks() {
    let (mut machine, rng) = (Machine::new(Initial::Healthy), &mut fastrand::Rng::with_seed(1));
    machine.report(&TIMING, Finding::Passed, at(1_000_000_000), rng);
    let due = machine.due(&TIMING, at(0), rng);
    assert!(due <= at(0) + TIMING.longest());
    assert_eq!(machine.due(&TIMING, at(1000), rng), due, "and is not put off each time that is asked");
}

#[test]
fn an_interval_that_is_shortened_counts_at_once() {
    let (mut machine, rng) = (Machine::new(Initial::Healthy), &mut fastrand::Rng::with_seed(1));
    let hour = Duration::from_secs(3600);
    machine.report(&CheckTiming { interval: hour, ..TIMING }, Finding::Passed, at(0), rng);
    assert!(machine.due(&TIMING, at(0), rng) <= at(7000));
}

/// What may happen to a check.
#[derive(Clone, Copy, Debug)]
enum Event {
    Begin,
    Report(Finding),
    Forward(u64),
    Back(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let finding =
        prop_oneof![Just(Finding::Passed), Just(DOWN), Just(Finding::Draining(Cause::Draining(503)))];
    let event = prop_oneof![
        Just(Event::Begin),
        finding.prop_map(Event::Report),
        (0_u64..10_000).prop_map(Event::Forward),
        (0_u64..1_000_000).prop_map(Event::Back),
    ];
    prop::collection::vec(event, 0..60)
}

fn timings() -> impl Strategy<Value = CheckTiming> {
    let times = (100_u64..60_000, 100_u64..60_000, 10_u64..60_000);
    (times, 0_u8..=50, 1_u32..8, 1_u32..8).prop_map(|((interval, slow, timeout), jitter, bad, good)| {
        CheckTiming {
            interval: Duration::from_millis(interval),
            unhealthy_interval: Duration::from_millis(slow),
            timeout: Duration::from_millis(timeout),
            jitter_percent: jitter,
            unhealthy_threshold: bad,
            healthy_threshold: good,
        }
    })
}

proptest! {
    #[test]
    fn whatever_happens_the_next_check_comes_within_the_longest_wait(
        timing in timings(),
        unhealthy in any::<bool>(),
        events in events(),
        seed in any::<u64>(),
    ) {
        let initial = if unhealthy { Initial::Unhealthy } else { Initial::Healthy };
        let (mut machine, rng) = (Machine::new(initial), &mut fastrand::Rng::with_seed(seed));
        let mut now = 10_000_000;
        for event in events {
            match event {
                Event::Begin => drop(machine.begin(&timing, at(now), rng)),
                Event::Report(finding) => drop(machine.report(&timing, finding, at(now), rng)),
                Event::Forward(by) => now += by,
                Event::Back(by) => now -= u64::min(by, now),
            }
        }
        // Asked again and again, as the shell does.
        let due = machine.due(&timing, at(now), rng);
        prop_assert!(due <= at(now) + timing.longest());
        let late = at(now) + timing.longest();
        prop_assert!(machine.begin(&timing, late, rng), "it is begun when it is due");
        prop_assert!(machine.begin(&timing, late + timing.longest(), rng), "and again if nobody ever reports");
    }

    #[test]
    fn a_verdict_turns_after_exactly_as_many_findings_in_a_row_as_written(
        timing in timings(),
        findings in prop::collection::vec(any::<bool>(), 1..200),
    ) {
        let (mut machine, rng) = (Machine::new(Initial::Healthy), &mut fastrand::Rng::with_seed(1));
        let (mut healthy, mut turns) = (true, 0);
        for (i, passed) in findings.iter().enumerate() {
            let finding = if *passed { Finding::Passed } else { DOWN };
            let turn = machine.report(&timing, finding, at(i as u64), rng);
            // The same said of the whole history: so many of the latest are alike, and none is from before the last turn.
            let alike = findings[turns..=i].iter().rev().take_while(|other| *other == passed).count();
            let needed = if healthy { timing.unhealthy_threshold } else { timing.healthy_threshold };
            let turns_now = *passed != healthy && alike >= needed as usize;
            prop_assert_eq!(turn.is_some(), turns_now);
            if turns_now {
                (healthy, turns) = (*passed, i + 1);
            }
            prop_assert_eq!(machine.healthy, healthy);
        }
    }

    #[test]
    fn flapping_is_bounded_by_the_thresholds(
        timing in timings(),
        findings in prop::collection::vec(any::<bool>(), 0..300),
    ) {
        let (mut machine, rng) = (Machine::new(Initial::Healthy), &mut fastrand::Rng::with_seed(1));
        let turned = |passed: &bool| {
            let finding = if *passed { Finding::Passed } else { DOWN };
            machine.report(&timing, finding, at(0), rng).is_some()
        };
        let turns = findings.iter().map(turned).filter(|turned| *turned).count();
        let both = (timing.unhealthy_threshold + timing.healthy_threshold) as usize;
        prop_assert!(turns <= 2 * findings.len() / both + 1);
    }
}
