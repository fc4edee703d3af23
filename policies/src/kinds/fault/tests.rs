use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decision::{Decisions, Detail, Outcome};
use crate::kind::Compiled;
use crate::kinds::tests::{compile_in, faults};
use crate::model::{Mode, Peer};
use crate::pipeline::{
    Effect, Filter, Held, LocalReply, Performed, RequestContext, Verdict, WrittenReply, slowest,
};
use crate::reason::Reason;
use crate::state::StateStore;
use crate::time::Timestamp;

const KIND: &str = "FaultPolicy";

fn bind(mode: Mode, faults: &Value, store: &StateStore) -> Arc<dyn Filter> {
    match compile_in(mode, KIND, json!({ "faults": faults })).expect("valid") {
        Compiled::Filter(filter) => filter.bind(store),
        _ => panic!("not a filter"),
    }
}

fn enforced(faults: &Value) -> Arc<dyn Filter> {
    bind(Mode::Enforce, faults, &StateStore::new([0, 0]))
}

/// What one request met, until its answer is out.
#[derive(Debug, Default)]
struct Met {
    waited: Duration,
    reply: Option<LocalReply>,
    decisions: Decisions,
    held: Vec<Box<dyn Held>>,
}

impl Met {
    fn outcomes(&self) -> Vec<(&str, Outcome, Option<Detail>)> {
        self.decisions.iter().map(|d| (&*d.rule.name, d.outcome, d.detail)).collect()
    }

    fn is_hurt(&self) -> bool {
        self.reply.is_some() || !self.waited.is_zero() || slowest(&self.held).is_some()
    }
}

fn ask(filter: &Arc<dyn Filter>, asked: Option<&str>, rng: &mut fastrand::Rng) -> Met {
    let mut request = Request::get("/");
    if let Some(asked) = asked {
        request = request.header("x-fault", asked);
    }
    let (mut head, ()) = request.body(()).unwrap().into_parts();
    let peer = Peer { address: "192.0.2.1:1000".parse().unwrap(), identity: None };
    let (mut met, mut headers) = (Met::default(), HeaderMap::new());
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer,
        route: None,
        now: Timestamp::ZERO,
        unix: &|| Duration::ZERO,
        rng,
        decisions: &mut met.decisions,
        response_headers: &mut headers,
        claims: &mut None,
        held: &mut met.held,
    };
    let mut verdict = filter.on_request(&mut cx);
    while let Verdict::Effect(effect) = verdict {
        let Effect::Wait(wait) = effect else { panic!("a fault only waits: {effect:?}") };
        met.waited += wait;
        verdict = filter.on_effect(&mut cx, &Performed::Waited);
    }
    if let Verdict::Reply(reply) = verdict {
        met.reply = Some(reply);
    }
    met
}

fn once(filter: &Arc<dyn Filter>) -> Met {
    ask(filter, None, &mut fastrand::Rng::with_seed(1))
}

/// Of so many requests, how many are hurt.
fn hurt(filter: &Arc<dyn Filter>, requests: usize) -> usize {
    let mut rng = fastrand::Rng::with_seed(9);
    (0..requests).filter(|_| ask(filter, None, &mut rng).is_hurt()).count()
}

#[test]
fn an_abort_answers_in_the_words_of_the_policy_and_names_its_line() {
    let abort = json!({"status": 500, "grpc": "DATA_LOSS", "body": "no", "contentType": "text/html"});
    let met = once(&enforced(&json!([{"name": "gone", "abort": abort}])));
    let reply = met.reply.as_ref().unwrap();
    assert_eq!((reply.reason, reply.grpc(), reply.is_reset()), (Reason::FaultInjected, 15, false));
    let written = reply.written.as_ref().unwrap();
    assert_eq!(written.status, Some(StatusCode::INTERNAL_SERVER_ERROR));
    assert_eq!(written.body, Some(("text/html".parse().unwrap(), "no".into())));
    assert_eq!(met.outcomes(), [("gone", Outcome::Refused(Reason::FaultInjected), None)]);
    assert_eq!(met.decisions[0].rule.source.to_string(), "policies.yaml:41");
}

#[test]
fn what_an_abort_does_not_say_follows_from_the_table() {
    let reply = once(&enforced(&json!([{"name": "gone", "abort": {}}]))).reply.unwrap();
    assert_eq!(reply.written.as_deref(), Some(&WrittenReply::default()));
    assert_eq!((reply.reason.answer().status.as_u16(), reply.grpc()), (503, 14));
}

#[test]
fn a_reset_answers_nothing() {
    let reply = once(&enforced(&json!([{"name": "cut", "reset": true}]))).reply.unwrap();
    assert!(reply.is_reset());
}

#[test]
fn delays_add_up_the_slowest_throttle_counts_and_an_end_comes_after_the_wait() {
    let filter = enforced(&json!([
        {"name": "a", "delay": {"fixed": "100ms"}, "throttle": {"bytesPerSecond": 2000}},
        {"name": "b", "delay": {"fixed": "50ms"}},
        {"name": "c", "throttle": {"bytesPerSecond": 1000}},
    ]));
    let met = once(&filter);
    assert_eq!((met.waited, met.reply.is_none()), (Duration::from_millis(150), true));
    assert_eq!(slowest(&met.held).unwrap().get(), 1000);
    assert_eq!(met.outcomes()[2], ("c", Outcome::Injected, Some(Detail::BytesPerSecond(1000))));
    let ends = enforced(&json!([
        {"name": "a", "delay": {"fixed": "100ms"}},
        {"name": "b", "delay": {"fixed": "50ms"}, "abort": {"status": 504}},
        {"name": "never", "delay": {"fixed": "1s"}},
    ]));
    let met = once(&ends);
    assert_eq!(met.waited, Duration::from_millis(150));
    assert_eq!(met.reply.unwrap().written.unwrap().status, Some(StatusCode::GATEWAY_TIMEOUT));
    assert_eq!(met.decisions.len(), 2, "one that ends the request is the last that is drawn");
}

#[test]
fn a_small_percentage_is_a_small_percentage() {
    let of =
        |percent: f64| hurt(&enforced(&json!([{"name": "a", "percent": percent, "abort": {}}])), 200_000);
    assert_eq!((of(0.0), of(100.0)), (0, 200_000));
    assert!((150..250).contains(&of(0.1)), "{}", of(0.1));
    assert!((59_000..61_000).contains(&of(30.0)), "{}", of(30.0));
}

#[test]
fn no_more_are_under_a_fault_at_one_time_than_its_cap_and_all_is_given_back() {
    let filter = enforced(&json!([{"name": "a", "maxActive": 2, "delay": {"fixed": "1s"}}]));
    let (first, second, third) = (once(&filter), once(&filter), once(&filter));
    assert!(first.is_hurt() && second.is_hurt() && !third.is_hurt());
    assert_eq!(third.outcomes(), [("a", Outcome::Allowed, Some(Detail::Cap(2)))]);
    drop(first);
    assert!(once(&filter).is_hurt(), "its answer was out");
    assert_eq!(second.decisions.len(), 1);
}

#[test]
fn a_push_keeps_the_count_and_brings_a_new_cap() {
    let store = StateStore::new([0, 0]);
    let of = |most: u32| {
        bind(Mode::Enforce, &json!([{"name": "a", "maxActive": most, "delay": {"fixed": "1s"}}]), &store)
    };
    let first = once(&of(1));
    assert!(first.is_hurt());
    assert!(!once(&of(1)).is_hurt());
    assert!(once(&of(2)).is_hurt());
}

#[test]
fn only_requests_that_ask_by_name_are_hurt_where_that_is_written() {
    let filter = enforced(&json!([{"name": "a", "header": {"name": "x-fault"}, "abort": {}}]));
    let asks = |value| ask(&filter, value, &mut fastrand::Rng::with_seed(1)).is_hurt();
    assert!(asks(Some("a")) && asks(Some("b, a")));
    assert!(!asks(None) && !asks(Some("b")) && !asks(Some("aa")) && !asks(Some("")));
}

#[test]
fn at_a_gateway_nobody_may_ask_unless_it_is_written() {
    let filter = enforced(&json!([
        {"name": "a", "header": {"name": "x-fault"}, "abort": {"status": 500}},
        {"name": "b", "header": {"name": "x-fault", "atGateways": true}, "abort": {"status": 504}},
        {"name": "c", "abort": {"status": 599}},
    ]));
    let there = filter.at_gateway().expect("another one");
    let status = |filter, asked| {
        let met = ask(filter, Some(asked), &mut fastrand::Rng::with_seed(1));
        met.reply.unwrap().written.as_ref().unwrap().status.unwrap().as_u16()
    };
    assert_eq!([status(&filter, "a"), status(&filter, "b"), status(&filter, "x")], [500, 504, 599]);
    assert_eq!([status(&there, "a"), status(&there, "b"), status(&there, "x")], [599, 504, 599]);
    assert!(enforced(&json!([{"name": "c", "abort": {}}])).at_gateway().is_none());
}

#[test]
fn shadow_hurts_nobody_and_counts_as_if_it_did() {
    let spec = json!([
        {"name": "a", "delay": {"fixed": "1s"}, "throttle": {"bytesPerSecond": 10}},
        {"name": "b", "abort": {}},
    ]);
    let met = once(&bind(Mode::Shadow, &spec, &StateStore::new([0, 0])));
    assert!(!met.is_hurt());
    assert_eq!(
        met.outcomes(),
        [
            ("a", Outcome::WouldInject, Some(Detail::Delayed(Duration::from_secs(1)))),
            ("b", Outcome::WouldRefuse(Reason::FaultInjected), None),
        ]
    );
}

#[test]
fn each_mistake_is_told_with_its_place() {
    let told = faults(
        KIND,
        json!({"faults": [
            {"name": "a b", "percent": 101.0, "maxActive": 0, "abort": {"status": 200, "contentType": "x"}},
            {"name": "a", "delay": {}, "throttle": {"bytesPerSecond": 0}},
            {"name": "a", "delay": {"exponential": {"mean": "2s", "max": "1s"}}, "header": {"name": "x y"}},
            {"name": "c", "abort": {}, "throttle": {"bytesPerSecond": 5}},
        ]}),
    );
    for (place, fix) in [
        ("spec/faults/0/name", "cannot be a name"),
        ("spec/faults/0/percent", "use 0 to 100"),
        ("spec/faults/0/maxActive", "use 1 to 1000000"),
        ("spec/faults/0/abort/status", "use 400 to 599"),
        ("spec/faults/0/abort/contentType", "with a `body` only"),
        ("spec/faults/1/delay", "exactly one"),
        ("spec/faults/1/throttle/bytesPerSecond", "use 1 to"),
        ("spec/faults/2/name", "used twice"),
        ("spec/faults/2/delay/exponential/max", "no less than `mean`"),
        ("spec/faults/2/header/name", "not the name of a header"),
        ("spec/faults/3/throttle", "no answer of the backend"),
    ] {
        assert!(told.iter().any(|t| t.starts_with(place) && t.contains(fix)), "{place}: {told:#?}");
    }
    assert_eq!(told.len(), 11, "{told:#?}");
    assert!(faults(KIND, json!({"faults": []}))[0].contains("write 1 to 16"));
}

proptest! {
    /// However requests come and go, the count is that of those who are there, and never above the cap.
    #[test]
    fn the_count_is_that_of_those_who_are_there(most in 1..5_u32, steps in prop::collection::vec(any::<u8>(), 1..200)) {
        let filter = enforced(&json!([{"name": "a", "maxActive": most, "delay": {"fixed": "1s"}}]));
        let mut there: Vec<Met> = Vec::new();
        for step in steps {
            if step % 3 == 0 && !there.is_empty() {
                there.swap_remove(usize::from(step) % there.len());
            } else {
                let met = once(&filter);
                prop_assert_eq!(met.is_hurt(), there.len() < most as usize);
                if met.is_hurt() {
                    there.push(met);
                }
            }
        }
    }
}
