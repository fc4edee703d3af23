//! What breakers read in responses, and what they make of it.

use super::*;
use http::{Response, response};

fn reading(change: impl FnOnce(&mut BreakerRule)) -> Arc<CircuitBreaker> {
    let mut rule = breaker("b", BreakerScope::Backend, 2);
    change(&mut rule);
    circuit(Mode::Enforce, None, vec![rule])
}

fn head(status: u16, name: &str, value: &str) -> response::Parts {
    Response::builder().status(status).header(name, value).body(()).unwrap().into_parts().0
}

fn answered(setup: &mut Setup, head: &response::Parts, millis: u64) -> Option<Transition> {
    let mut attempt = setup.admit(millis).unwrap();
    attempt.read(head, &|| WALL);
    attempt.record(ended(CallResult::Status(head.status.as_u16())), at(millis))
}

#[test]
fn retry_after_holds_the_backend_back_for_as_long_as_it_says_within_the_bound() {
    let honors = reading(|rule| rule.honor_retry_after = Some(Duration::from_secs(30)));
    let mut setup = Setup::new(1, &honors);
    let transition = answered(&mut setup, &head(429, "retry-after", "7"), 0).unwrap();
    assert_eq!(transition.evidence.unwrap().to_string(), "a response asked to wait 7s");
    assert_eq!(setup.refusal(1000).headers[0].1, "6");
    setup.call(OK, 7000);
    answered(&mut setup, &head(503, "retry-after", "86400"), 7000).unwrap();
    assert_eq!(setup.refusal(7000).headers[0].1, "30");
}

/// 1994-11-06, 08:49:30.
const WALL: Duration = Duration::from_secs(784_111_770);

#[test]
fn a_date_in_retry_after_is_a_wait_from_now_on() {
    let honors = reading(|rule| rule.honor_retry_after = Some(Duration::from_secs(30)));
    let mut setup = Setup::new(1, &honors);
    answered(&mut setup, &head(503, "retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), 0).unwrap();
    assert_eq!(setup.refusal(0).headers[0].1, "7");
    let mut setup = Setup::new(1, &honors);
    let past = answered(&mut setup, &head(503, "retry-after", "Sun, 06 Nov 1994 08:49:30 GMT"), 0);
    assert_eq!(past, None, "that is now");
}

#[test]
fn without_the_word_retry_after_means_nothing() {
    let mut setup = Setup::new(1, &reading(|_| {}));
    assert_eq!(answered(&mut setup, &head(429, "retry-after", "7"), 0), None);
    assert!(setup.admit(0).is_ok());
}

#[test]
fn the_pushback_of_grpc_is_read_in_trailers_too() {
    let honors = reading(|rule| rule.honor_retry_after = Some(Duration::from_secs(30)));
    let mut setup = Setup::new(1, &honors);
    let mut attempt = setup.admit(0).unwrap();
    attempt.read_trailers(&head(200, "grpc-retry-pushback-ms", "2500").headers);
    let transition = attempt.record(ended(CallResult::Grpc(8)), at(0)).unwrap();
    assert_eq!(transition.to, BreakerPhase::Open);
    assert_eq!(setup.guard().status().next().unwrap().until, Some(at(2500)));
}

#[test]
fn kinds_of_failures_trip_breakers_of_their_own() {
    let only = |statuses, connect| Failures {
        statuses,
        grpc: Box::default(),
        connect,
        timeout: false,
        reset: false,
        expression: None,
    };
    let mut gateway = breaker("gateway", BreakerScope::Backend, 3);
    gateway.failures = only([502..=504].into(), false);
    let mut connect = breaker("connect", BreakerScope::Backend, 2);
    connect.failures = only(Box::default(), true);
    let mut setup = Setup::new(1, &circuit(Mode::Enforce, None, vec![gateway, connect]));
    let refused = CallResult::Failed(Reason::ConnectFailed);
    for result in [CallResult::Status(500), CallResult::Status(503), CallResult::Status(503), refused] {
        assert_eq!(setup.call(result, 0), None);
    }
    assert_eq!(&*setup.call(refused, 0).unwrap().rule.name, "connect");
}

#[test]
fn refusals_of_the_mesh_are_not_slow_calls_however_long_they_took() {
    let rate = Rate { percent: 1, minimum_calls: 1, window: Span::Calls(1) };
    let slow_calls = Some(SlowCalls { rate, slower_than: Duration::from_millis(100) });
    let mut setup = Setup::new(1, &reading(|rule| rule.params.slow_calls = slow_calls));
    let late = |reason| CallOutcome { result: CallResult::Failed(reason), latency: Duration::from_secs(9) };
    for reason in [Reason::ConnectionCap, Reason::PendingCap, Reason::ClientStalled, Reason::Internal] {
        assert_eq!(setup.admit(0).unwrap().record(late(reason), at(0)), None, "{reason:?}");
    }
    let transition = setup.admit(0).unwrap().record(late(Reason::ClientGone), at(0)).unwrap();
    assert_eq!(transition.to, BreakerPhase::Open);
}

#[test]
fn a_ramping_backend_refuses_the_rest_and_a_ramping_endpoint_leaves_it_to_the_others() {
    let ramp = |scope| {
        let mut rule = breaker("b", scope, 1);
        rule.params.ramp = Duration::from_secs(10);
        circuit(Mode::Enforce, None, vec![rule])
    };
    let mut setup = Setup::new(1, &ramp(BreakerScope::Backend));
    setup.call(FAILED, 0);
    assert_eq!(setup.call(OK, 4500).unwrap().to, BreakerPhase::Ramping);
    let admitted = (0..1000).filter(|_| setup.admit(4500).is_ok()).count();
    assert!((60..150).contains(&admitted), "{admitted}");
    assert!((0..1000).any(|_| setup.admit(4500).is_err()));
    let ramping = Some(Detail::State(BreakerPhase::Ramping));
    assert_eq!(setup.decided(), (Outcome::Refused(Reason::CircuitOpen), ramping, "b"));

    let mut setup = Setup::new(2, &ramp(BreakerScope::Endpoint));
    let failed = setup.call(FAILED, 0).unwrap().endpoint.unwrap();
    assert!((0..1000).any(|_| setup.call(OK, 4500).is_some()));
    let ramped = (0..1000).filter(|_| setup.admit(4500).unwrap().endpoint.label == failed).count();
    assert!((20..110).contains(&ramped), "half of a tenth: {ramped}");
    let all = (0..1000).filter(|_| setup.admit(14_500).unwrap().endpoint.label == failed).count();
    assert!((400..600).contains(&all), "{all}");
}
