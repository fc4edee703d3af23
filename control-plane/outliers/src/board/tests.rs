use super::*;
use crate::{Failing, Witness};
use proptest::prelude::*;

const RULES: Rules = Rules {
    quorum: 3,
    failures: 5,
    percent: 60,
    settle: Duration::from_millis(200),
    hold: Duration::from_secs(10),
};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn board() -> Board {
    Board::new(Most { backends: 2, endpoints: 4, reporters: 100 }, 0)
}

fn failing(failures: u32, age: u64) -> Statement {
    let failing = Failing { failures, age: at(age), ejected: false };
    Statement { success: None, failing: Some(failing) }
}

fn fine(age: u64) -> Statement {
    Statement { success: Some(at(age)), failing: None }
}

fn suspects(board: &Board) -> Vec<String> {
    board.suspects("b").map(|(endpoint, _)| endpoint.to_string()).collect()
}

/// Three say that `e` fails, and nobody else says anything.
fn suspicious() -> Board {
    let mut board = board();
    for reporter in 0..3 {
        assert!(board.take(reporter, ("b", "e"), failing(2, 10), RULES, at(1000)));
    }
    assert_eq!(board.judge(at(1200)), BTreeSet::from(["b".into()]));
    board
}

#[test]
fn several_who_see_it_fail_make_an_endpoint_suspect_once_others_could_have_spoken() {
    let mut board = board();
    for reporter in 0..3 {
        board.take(reporter, ("b", "e"), failing(2, 10), RULES, at(1000));
    }
    assert!(board.judge(at(1199)).is_empty() && suspects(&board).is_empty());
    assert_eq!(board.judge(at(1200)), BTreeSet::from(["b".into()]));
    assert_eq!(suspects(&board), ["e"]);
    assert!(board.judge(at(1300)).is_empty(), "nothing has changed");
}

#[test]
fn too_few_failures_are_not_enough() {
    let mut board = board();
    for reporter in 0..4 {
        board.take(reporter, ("b", "e"), failing(1, 10), RULES, at(1000));
    }
    board.judge(at(2000));
    assert!(suspects(&board).is_empty(), "four of five");
    board.take(4, ("b", "e"), failing(1, 10), RULES, at(2000));
    board.judge(at(2000));
    assert_eq!(suspects(&board), ["e"]);
}

#[test]
fn many_failures_of_too_few_are_not_enough() {
    let mut board = board();
    let rules = Rules { failures: 2, ..RULES };
    for reporter in 0..2 {
        board.take(reporter, ("b", "e"), failing(9, 10), rules, at(1000));
    }
    board.judge(at(1200));
    assert!(suspects(&board).is_empty());
    board.take(2, ("b", "e"), failing(1, 10), rules, at(1200));
    board.judge(at(1200));
    assert_eq!(suspects(&board), ["e"]);
}

#[test]
fn what_one_says_counts_for_no_more_than_its_part() {
    let mut board = board();
    let rules = Rules { failures: 12, ..RULES };
    board.take(0, ("b", "e"), failing(1000, 10), rules, at(1000));
    for reporter in 1..3 {
        board.take(reporter, ("b", "e"), failing(1, 10), rules, at(1000));
    }
    board.judge(at(1200));
    assert!(suspects(&board).is_empty(), "four, one and one");
}

#[test]
fn who_had_success_since_it_began_to_fail_speaks_for_it_and_who_had_before_does_not() {
    for (age, suspect) in [(100, false), (700, true)] {
        let mut board = board();
        for reporter in 0..3 {
            board.take(reporter, ("b", "e"), failing(2, 500), RULES, at(1000));
        }
        for reporter in 10..13 {
            board.take(reporter, ("b", "e"), fine(age), RULES, at(1000));
        }
        board.judge(at(1200));
        assert_eq!(!suspects(&board).is_empty(), suspect, "success {age} ms ago");
    }
}

#[test]
fn one_that_is_ejected_counts_for_its_part_without_any_failure() {
    let mut board = board();
    for reporter in 0..3 {
        let failing = Failing { failures: 0, age: at(10), ejected: true };
        let said = Statement { success: Some(at(1)), failing: Some(failing) };
        board.take(reporter, ("b", "e"), said, RULES, at(1000));
    }
    board.judge(at(1200));
    assert_eq!(suspects(&board), ["e"]);
}

#[test]
fn a_suspicion_ends_when_most_had_success_since() {
    let mut board = suspicious();
    for reporter in 0..2 {
        board.take(reporter, ("b", "e"), fine(0), RULES, at(3000));
    }
    assert!(!board.judge(at(3000)).is_empty());
    assert!(suspects(&board).is_empty());
}

#[test]
fn success_from_before_it_does_not_end_it() {
    let mut board = suspicious();
    for reporter in 10..15 {
        board.take(reporter, ("b", "e"), fine(1850), RULES, at(3000));
    }
    assert!(board.judge(at(3000)).is_empty());
    assert_eq!(suspects(&board), ["e"]);
}

#[test]
fn one_voice_does_not_end_it() {
    let mut board = suspicious();
    board.take(9, ("b", "e"), fine(0), RULES, at(3000));
    assert!(board.judge(at(3000)).is_empty());
    assert_eq!(suspects(&board), ["e"]);
}

#[test]
fn a_second_suspicion_has_a_greater_number() {
    let mut board = suspicious();
    let first = board.suspects("b").next().unwrap().1.number;
    board.judge(at(60_000));
    for reporter in 0..3 {
        board.take(reporter, ("b", "e"), failing(2, 10), RULES, at(61_000));
    }
    board.judge(at(61_200));
    assert!(board.suspects("b").next().unwrap().1.number > first);
}

#[test]
fn only_where_something_fails_is_anybody_asked() {
    let mut board = board();
    assert!(!board.take(1, ("b", "e"), fine(0), RULES, at(0)), "nobody asked");
    assert_eq!(board.asked().len(), 0);
    board.take(1, ("b", "e"), failing(1, 0), RULES, at(0));
    let asked = BTreeMap::from([(Arc::from("b"), BTreeSet::from([Arc::from("e")]))]);
    assert_eq!(board.asked(), asked, "and of nothing but what fails");
    assert!(board.take(2, ("b", "e"), fine(0), RULES, at(0)));
    board.take(1, ("b", "e"), fine(0), RULES, at(100));
    board.judge(at(100));
    assert_eq!(board.asked().len(), 0);
}

#[test]
fn a_backend_without_rules_is_nobodys_business() {
    let mut board = suspicious();
    board.rewrite(|name| (name == "b").then_some(RULES));
    assert_eq!(suspects(&board), ["e"]);
    board.rewrite(|_| None);
    assert!(suspects(&board).is_empty());
}

#[test]
fn what_there_is_no_room_for_is_not_heard() {
    let mut board = board();
    assert!(board.take(1, ("a", "e"), failing(1, 0), RULES, at(0)));
    for endpoint in 0..10 {
        let heard = board.take(1, ("b", &format!("e{endpoint}")), failing(1, 0), RULES, at(0));
        assert_eq!(heard, endpoint < 4);
    }
    assert!(!board.take(1, ("c", "e"), failing(1, 0), RULES, at(0)), "a third backend");
    for reporter in 0..200 {
        assert_eq!(board.take(reporter, ("b", "e0"), failing(1, 0), RULES, at(0)), reporter < 100);
    }
}

/// Any statement at all.
fn any_statement() -> impl Strategy<Value = Statement> {
    let failing = (0_u32.., 0_u64..5000, any::<bool>());
    let failing = failing.prop_map(|(failures, age, ejected)| Failing { failures, age: at(age), ejected });
    let success = prop::option::of((0_u64..5000).prop_map(at));
    (success, prop::option::of(failing)).prop_map(|(success, failing)| Statement { success, failing })
}

proptest! {
    #[test]
    fn fewer_than_the_quorum_never_make_anything_suspect(
        said in prop::collection::vec((0_u64..2, any_statement(), 0_u64..500), 1..200),
    ) {
        let (mut board, mut now) = (board(), 0);
        for (reporter, statement, pause) in said {
            now += pause;
            board.take(reporter, ("b", "e"), statement, RULES, at(now));
            board.judge(at(now));
            prop_assert!(suspects(&board).is_empty());
        }
    }

    #[test]
    fn liars_do_not_outvote_twice_as_many_who_call_it_with_success(
        liars in prop::collection::vec((0_u64..5, any_statement(), 0_u64..100), 1..100),
    ) {
        let (mut board, mut now) = (board(), 1);
        for (reporter, statement, pause) in liars {
            now += pause;
            // A lie about the time before the board's first day is cut off there.
            board.take(reporter, ("b", "e"), statement, RULES, at(now));
            for honest in 100..110 {
                board.take(honest, ("b", "e"), fine(0), RULES, at(now));
            }
            board.judge(at(now));
            prop_assert!(suspects(&board).is_empty());
        }
    }

    #[test]
    fn every_suspicion_ends_when_nobody_says_anything_any_more(
        said in prop::collection::vec((0_u64..20, any_statement(), 0_u64..500), 1..200),
    ) {
        let (mut board, mut now) = (board(), 0);
        for (reporter, statement, pause) in said {
            now += pause;
            board.take(reporter, ("b", "e"), statement, RULES, at(now));
            board.judge(at(now));
        }
        board.judge(at(now) + RULES.hold);
        prop_assert!(suspects(&board).is_empty());
        prop_assert_eq!(board.asked().len(), 0);
        prop_assert!(board.backends.is_empty(), "and all is forgotten");
    }

    /// However calls end, an endpoint that only fails is found with as many failures as one breaker would need, and
    /// those that come until it is said.
    #[test]
    fn an_endpoint_that_only_fails_becomes_suspect(calls in prop::collection::vec(0_usize..10, 30..60)) {
        let (mut board, witnesses) = (board(), <[Witness; 10]>::default());
        witnesses.iter().for_each(|witness| witness.record(true, at(0)));
        for (i, caller) in calls.iter().enumerate() {
            let now = at(10 + 20 * i as u64);
            witnesses[*caller].record(false, now);
            for (reporter, witness) in witnesses.iter().enumerate() {
                board.take(reporter as u64, ("b", "e"), witness.statement(None, now), RULES, now);
            }
            board.judge(now);
        }
        let distinct: BTreeSet<_> = calls.iter().collect();
        prop_assume!(distinct.len() >= 5);
        prop_assert_eq!(suspects(&board), ["e"]);
    }
}
