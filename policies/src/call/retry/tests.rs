use super::super::budget::BudgetShare;
use super::super::conditions::condition;
use super::super::hedge::{Hedge, HedgeAfter};
use super::*;
use crate::model::Retry;
use crate::reason::Reason;
use proptest::prelude::*;

/// With all the time there is.
const NOW: (Timestamp, Option<Duration>) = (Timestamp::ZERO, None);

fn rule(codes: &[u16], attempts: u32, backoff: Option<u64>) -> RetryRule {
    let backoff = backoff.map(Duration::from_millis);
    RetryRule::from(&Retry { codes: codes.into(), attempts, backoff })
}

fn status(code: u16) -> Ended {
    Ended { result: CallResult::Status(code), unsent: false, replayable: true, asked: None }
}

fn failed(reason: Reason) -> Ended {
    Ended { result: CallResult::Failed(reason), unsent: false, replayable: true, asked: None }
}

fn first(rule: &RetryRule, method: &Method, ended: Ended) -> Next {
    let rng = &mut fastrand::Rng::with_seed(1);
    Retries::new(rule, method).next(ended, NOW, &RetryBudget::default(), rng)
}

fn retried(rule: &RetryRule, method: &Method, ended: Ended) -> bool {
    matches!(first(rule, method, ended), Next::Again { .. })
}

#[test]
fn listed_codes_are_retried_and_others_are_not() {
    let rule = rule(&[502, 503], 1, None);
    assert!(retried(&rule, &Method::GET, status(503)));
    for code in [200, 404, 500, 504] {
        assert_eq!(first(&rule, &Method::GET, status(code)), Next::Settled(Settled::NotRetried));
    }
    let grpc = Ended { result: CallResult::Grpc(14), ..status(200) };
    assert_eq!(first(&rule, &Method::POST, grpc), Next::Settled(Settled::NotRetried));
}

#[test]
fn a_listed_code_lets_a_post_be_sent_again() {
    assert!(retried(&rule(&[503], 1, None), &Method::POST, status(503)));
}

#[test]
fn connection_errors_are_retried_without_any_code() {
    let rule = rule(&[], 1, None);
    for reason in
        [Reason::ConnectFailed, Reason::ConnectTimeout, Reason::UpstreamReset, Reason::RequestTimeout]
    {
        assert!(retried(&rule, &Method::GET, failed(reason)), "{reason:?}");
    }
    assert!(!retried(&rule, &Method::GET, status(503)));
}

#[test]
fn a_post_is_sent_again_only_if_nobody_can_have_seen_it() {
    let rule = rule(&[503], 1, None);
    assert!(retried(&rule, &Method::POST, failed(Reason::ConnectFailed)));
    for reason in [Reason::UpstreamReset, Reason::RequestTimeout, Reason::UpstreamProtocol] {
        let next = first(&rule, &Method::POST, failed(reason));
        assert_eq!(next, Next::Settled(Settled::Unsafe), "{reason:?}");
    }
    let unsent = Ended { unsent: true, ..failed(Reason::UpstreamReset) };
    assert!(retried(&rule, &Method::PATCH, unsent));
}

#[test]
fn what_the_mesh_refused_is_refused() {
    let rule = rule(&[503], 3, None);
    for reason in Reason::ALL.into_iter().filter(|reason| condition(*reason).is_none()) {
        let next = first(&rule, &Method::GET, failed(reason));
        assert_eq!(next, Next::Settled(Settled::NotRetried), "{reason:?}");
    }
}

#[test]
fn a_body_that_is_gone_is_not_sent_again() {
    let gone = Ended { replayable: false, ..status(503) };
    let next = first(&rule(&[503], 1, None), &Method::PUT, gone);
    assert_eq!(next, Next::Settled(Settled::BodyGone));
}

#[test]
fn two_attempts_are_two_retries() {
    let (rule, budget) = (rule(&[503], 2, None), RetryBudget::default());
    let (mut retries, mut rng) = (Retries::new(&rule, &Method::GET), fastrand::Rng::with_seed(1));
    let mut next = || retries.next(status(503), NOW, &budget, &mut rng);
    assert!(matches!(next(), Next::Again { .. }) && matches!(next(), Next::Again { .. }));
    assert_eq!(next(), Next::Settled(Settled::Exhausted));
}

#[test]
fn an_empty_budget_ends_it_and_a_settled_request_takes_nothing_from_it() {
    let (rule, budget) = (rule(&[503], 20, None), RetryBudget::default());
    let mut rng = fastrand::Rng::with_seed(1);
    let mut next = |ended| Retries::new(&rule, &Method::GET).next(ended, NOW, &budget, &mut rng);
    for _ in 0..100 {
        assert_eq!(next(status(200)), Next::Settled(Settled::NotRetried));
    }
    for _ in 0..10 {
        assert!(matches!(next(status(503)), Next::Again { .. }));
    }
    assert_eq!(next(status(503)), Next::Settled(Settled::OverBudget));
}

proptest! {
    #[test]
    fn the_wait_is_never_below_the_backoff_and_never_above_its_bound(
        backoff in 0_u64..100_000, made in 0_u32..200, seed in any::<u64>(),
    ) {
        let rule = rule(&[], u32::MAX, Some(backoff));
        let retries = Retries { made, ..Retries::new(&rule, &Method::GET) };
        let (wait, minimum) = (retries.wait(&mut fastrand::Rng::with_seed(seed)), Duration::from_millis(backoff));
        prop_assert!(wait >= minimum);
        prop_assert!(wait <= minimum + minimum.max(MAX_SPREAD));
        prop_assert!(made > 0 || wait <= minimum * 2);
    }

    #[test]
    fn without_a_backoff_the_wait_is_short_and_differs(made in 0_u32..200, seed in any::<u64>()) {
        let rule = rule(&[], u32::MAX, None);
        let retries = Retries { made, ..Retries::new(&rule, &Method::GET) };
        let rng = &mut fastrand::Rng::with_seed(seed);
        let waits = [retries.wait(rng), retries.wait(rng)];
        prop_assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(250)) && waits[0] != waits[1]);
    }
}

fn answered(code: u16, asked: Option<Pushback>) -> Ended {
    Ended { asked, ..status(code) }
}

#[test]
fn what_an_answer_asks_for_is_the_least_wait_and_no_longer_than_there_is_patience() {
    let patient = RetryRule { max_wait: Some(Duration::from_secs(5)), ..rule(&[503], 9, None) };
    let after = |secs| answered(503, Some(Pushback::After(Duration::from_secs(secs))));
    assert_eq!(first(&patient, &Method::GET, after(5)), Next::Again { after: Duration::from_secs(5) });
    for ended in [after(6), answered(503, Some(Pushback::Never))] {
        assert_eq!(first(&patient, &Method::GET, ended), Next::Settled(Settled::PushedBack));
    }
}

#[test]
fn no_attempt_begins_when_the_time_is_over() {
    let rule = rule(&[503], 1, Some(1000));
    let (budget, rng) = (RetryBudget::default(), &mut fastrand::Rng::with_seed(1));
    let now = |left| (Timestamp::ZERO, Some(Duration::from_millis(left)));
    let mut next = |left| Retries::new(&rule, &Method::GET).next(status(503), now(left), &budget, rng);
    assert_eq!(next(1000), Next::Settled(Settled::OutOfTime));
    assert!(matches!(next(2001), Next::Again { .. }));
}

#[test]
fn only_what_may_be_repeated_is_hedged_and_each_hedge_is_an_attempt() {
    let hedge = Hedge { after: HedgeAfter::Fixed(Duration::from_millis(5)), max: 2 };
    let rule = RetryRule { hedge: Some(hedge), ..rule(&[503], 2, None) };
    let budget = RetryBudget::default();
    let post = Retries::new(&rule, &Method::POST);
    assert_eq!(post.hedge_after(None, Timestamp::ZERO), None);
    let mut get = Retries::new(&rule, &Method::GET);
    assert_eq!(get.hedge_after(None, Timestamp::ZERO), Some(Duration::from_millis(5)));
    assert_eq!(get.hedge(false, NOW, &budget), Err(Settled::BodyGone));
    assert_eq!((get.hedge(true, NOW, &budget), get.hedge(true, NOW, &budget)), (Ok(()), Ok(())));
    assert_eq!(get.hedge(true, NOW, &budget), Err(Settled::Exhausted));
    let next = get.next(status(503), NOW, &budget, &mut fastrand::Rng::with_seed(1));
    assert_eq!(next, Next::Settled(Settled::Exhausted));
}

proptest! {
    /// Of many requests, one after the other, each with retries and hedges as they come.
    #[test]
    fn retries_and_hedges_together_keep_every_bound(
        (attempts, hedges) in (1_u32..10, 1_u32..5),
        (percent, min_per_second) in (0_u32..=100, 0_u32..5),
        requests in prop::collection::vec(
            prop::collection::vec((any::<bool>(), 0_u64..300, prop::option::of(0_u64..4)), 0..12), 1..60,
        ),
        seed in any::<u64>(),
    ) {
        let max_wait = Duration::from_secs(2);
        let rule = RetryRule {
            budget: BudgetShare { percent, min_per_second, interval: 10 },
            hedge: Some(Hedge { after: HedgeAfter::Fixed(Duration::from_millis(1)), max: hedges }),
            max_wait: Some(max_wait),
            ..rule(&[503], attempts, None)
        };
        let (budget, rng) = (RetryBudget::default(), &mut fastrand::Rng::with_seed(seed));
        let (mut now, mut granted) = (Timestamp::ZERO, 0_u64);
        for (number, events) in requests.iter().enumerate() {
            budget.request(now);
            let (ends, mut retries) = (now + Duration::from_secs(3), Retries::new(&rule, &Method::GET));
            let (mut made, mut beside) = (0, 0);
            for (hedge, pause, asked) in events {
                now = now + Duration::from_millis(*pause);
                let left = ends.since(now);
                if *hedge {
                    let given = retries.hedge(true, (now, Some(left)), &budget).is_ok();
                    prop_assert!(!given || !left.is_zero());
                    (made, beside) = (made + u32::from(given), beside + u32::from(given));
                } else {
                    let asked = asked.map(|secs| Pushback::After(Duration::from_secs(secs)));
                    let next = retries.next(answered(503, asked), (now, Some(left)), &budget, rng);
                    if let Next::Again { after } = next {
                        prop_assert!(after < left && after <= max_wait);
                        (now, made) = (now + after, made + 1);
                    }
                }
                prop_assert!(made <= attempts && beside <= hedges);
            }
            granted += u64::from(made);
            let seconds = now.as_nanos() / 1_000_000_000 + 1;
            let share = (number as u64 + 1) * u64::from(percent) / 100;
            prop_assert!(granted <= share + seconds * u64::from(min_per_second));
        }
    }
}
