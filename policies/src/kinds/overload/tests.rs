use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use serde_json::{Value, json};

use crate::decision::{Decisions, Detail, Outcome};
use crate::kind::Compiled;
use crate::kinds::tests::{compile_in, faults};
use crate::model::{Mode, Peer};
use crate::overload::{Load, Ticket};
use crate::pipeline::{Effect, Filter, Held, LocalReply, Performed, RequestContext, Verdict};
use crate::reason::Reason;
use crate::state::StateStore;
use crate::time::Timestamp;

const KIND: &str = "OverloadPolicy";

fn bind(mode: Mode, spec: Value, store: &StateStore) -> Arc<dyn Filter> {
    match compile_in(mode, KIND, spec).expect("valid") {
        Compiled::Filter(filter) => filter.bind(store),
        _ => panic!("not a filter"),
    }
}

fn enforced(spec: Value) -> Arc<dyn Filter> {
    bind(Mode::Enforce, spec, &StateStore::new([0, 0]))
}

/// What one request met, until its answer is out.
#[derive(Debug, Default)]
struct Met {
    waits: Option<Ticket>,
    reply: Option<LocalReply>,
    decisions: Decisions,
    held: Vec<Box<dyn Held>>,
}

impl Met {
    fn said(&self) -> Option<(&str, Outcome, Option<Detail>)> {
        self.decisions.last().map(|d| (&*d.rule.name, d.outcome, d.detail))
    }

    fn passes(&self) -> bool {
        self.reply.is_none() && self.waits.is_none()
    }
}

/// A request of a tenant, or what came of its wait.
fn ask(filter: &Arc<dyn Filter>, (path, tenant): (&str, &str), met: Met) -> Met {
    let (mut head, ()) = Request::get(path).header("x-tenant", tenant).body(()).unwrap().into_parts();
    let peer = Peer { address: "192.0.2.1:1000".parse().unwrap(), identity: None };
    let (Met { waits, mut decisions, mut held, .. }, mut headers) = (met, HeaderMap::new());
    let mut cx = RequestContext {
        head: &mut head,
        peer: &peer,
        route: None,
        now: Timestamp::ZERO,
        unix: &|| Duration::ZERO,
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut headers,
        claims: &mut None,
        held: &mut held,
    };
    let verdict = match waits {
        None => filter.on_request(&mut cx),
        Some(ticket) => filter.on_effect(&mut cx, &Performed::Turned(ticket)),
    };
    let (mut waits, mut reply) = (None, None);
    match verdict {
        Verdict::Continue => {}
        Verdict::Reply(refused) => reply = Some(refused),
        Verdict::Effect(Effect::Turn(ticket)) => waits = Some(ticket),
        other => panic!("{other:?}"),
    }
    Met { waits, reply, decisions, held }
}

fn get(filter: &Arc<dyn Filter>, path: &str) -> Met {
    ask(filter, (path, "a"), Met::default())
}

fn load(limit: u32, in_flight: u32, queued: u32) -> Option<Detail> {
    Some(Detail::Load(Load { limit, in_flight, queued }))
}

#[test]
fn who_is_shed_is_told_why_when_to_come_again_and_by_which_line() {
    let classes = json!([{"name": "critical", "when": "request.path == '/pay'"}]);
    let filter = enforced(json!({"limit": 1, "queue": {"max": 0}, "classes": classes}));
    let first = get(&filter, "/");
    assert_eq!(first.said(), Some(("others", Outcome::Allowed, load(1, 1, 0))));
    let second = get(&filter, "/pay");
    let reply = second.reply.as_ref().unwrap();
    assert_eq!((reply.reason, reply.again), (Reason::Overloaded, Some(Duration::from_secs(1))));
    assert_eq!(reply.headers, [(http::header::RETRY_AFTER, "1".parse().unwrap())]);
    assert_eq!(second.said(), Some(("critical", Outcome::Refused(Reason::Overloaded), load(1, 1, 0))));
    assert_eq!(second.decisions[0].rule.source.to_string(), "policies.yaml:51");
    drop(first);
    assert!(get(&filter, "/").passes());
}

#[test]
fn who_waits_goes_on_when_the_turn_comes_and_is_shed_when_it_does_not() {
    let filter = enforced(json!({"limit": 1, "queue": {"max": 2}}));
    let (first, second, third) = (get(&filter, "/"), get(&filter, "/"), get(&filter, "/"));
    assert!(first.passes() && second.waits.is_some() && third.waits.is_some());
    third.waits.as_ref().unwrap().give_up();
    let third = ask(&filter, ("/", "a"), third);
    assert_eq!(third.said(), Some(("others", Outcome::Refused(Reason::Overloaded), load(1, 1, 1))));
    drop(first);
    let second = ask(&filter, ("/", "a"), second);
    assert!(second.passes());
    assert_eq!(second.said(), Some(("others", Outcome::Allowed, load(1, 1, 0))));
}

#[test]
fn the_important_and_the_tenants_with_less_are_before_others() {
    let classes = json!([{"name": "critical", "when": "request.path == '/pay'"}]);
    let tenant = json!([{"type": "Header", "name": "x-tenant"}]);
    let filter = enforced(json!({"limit": 2, "classes": classes, "tenant": tenant}));
    let of = |path, tenant| ask(&filter, (path, tenant), Met::default());
    let mut noisy = vec![of("/", "noisy"), of("/", "noisy")];
    let (more, quiet, pays) = (of("/", "noisy"), of("/", "quiet"), of("/pay", "noisy"));
    noisy.pop();
    let pays = ask(&filter, ("/pay", "noisy"), pays);
    assert!(pays.passes());
    drop(pays);
    assert!(ask(&filter, ("/", "quiet"), quiet).passes());
    assert!(more.waits.is_some());
}

#[test]
fn who_has_a_greater_share_is_before_one_with_fewer_in_service() {
    let (tenant, shares) =
        (json!([{"type": "Header", "name": "x-tenant"}]), json!([{"tenant": ["gold"], "weight": 4}]));
    let next = |shares: serde_json::Value| {
        let filter = enforced(json!({"limit": 5, "tenant": tenant, "shares": shares}));
        let of = |tenant| ask(&filter, ("/", tenant), Met::default());
        let _served = [of("gold"), of("gold"), of("gold"), of("plain")];
        let last = of("gone");
        let (plain, gold) = (of("plain"), of("gold"));
        drop(last);
        (ask(&filter, ("/", "gold"), gold).passes(), plain)
    };
    assert!(next(shares).0, "three of four are less than one of one");
    assert!(!next(json!([])).0);
}

#[test]
fn shares_of_nobody_are_told_with_their_place() {
    let told = faults(
        KIND,
        json!({
            "tenant": [{"type": "Header", "name": "x-tenant"}],
            "shares": [{"tenant": ["a"], "weight": 0}, {"tenant": ["a", "b"], "weight": 1}, {"tenant": ["a"], "weight": 1001}],
        }),
    );
    for (place, fix) in [
        ("spec/shares/0/weight", "use 1 to 1000"),
        ("spec/shares/1/tenant", "`tenant` has 1 parts"),
        ("spec/shares/2/weight", "use 1 to 1000"),
        ("spec/shares/2/tenant", "written twice"),
    ] {
        assert!(told.iter().any(|t| t.starts_with(place) && t.contains(fix)), "{place}: {told:#?}");
    }
    let shares = json!([{"tenant": ["192.0.2.1"], "weight": 2}]);
    assert!(faults(KIND, json!({"shares": shares}))[0].contains("write `tenant`"));
    let by_address = json!({"tenant": [{"type": "ClientAddress"}], "shares": shares});
    assert!(faults(KIND, by_address)[0].starts_with("spec/tenant/0"));
}

#[test]
fn shadow_lets_everybody_pass_and_tells_who_would_not() {
    let filter = bind(Mode::Shadow, json!({"limit": 1, "queue": {"max": 0}}), &StateStore::new([0, 0]));
    let (first, second) = (get(&filter, "/"), get(&filter, "/"));
    assert!(first.passes() && second.passes());
    assert_eq!(second.said(), Some(("others", Outcome::WouldRefuse(Reason::Overloaded), load(1, 1, 0))));
}

#[test]
fn a_push_keeps_who_is_in_service_and_brings_another_limit() {
    let store = StateStore::new([0, 0]);
    let of = |limit: u32| bind(Mode::Enforce, json!({"limit": limit, "queue": {"max": 0}}), &store);
    let first = get(&of(1), "/");
    assert!(!get(&of(1), "/").passes());
    assert!(get(&of(2), "/").passes());
    assert!(first.passes());
}

#[test]
fn each_mistake_is_told_with_its_place() {
    let told = faults(
        KIND,
        json!({
            "limit": 0,
            "adaptive": {"min": 1},
            "classes": [{"name": "others", "when": "true"}, {"name": "x y", "when": "request.nothing"}],
            "queue": {"max": 20_000, "maxWait": "2m"},
            "tenant": [{"type": "Header"}],
        }),
    );
    for (place, fix) in [
        ("spec/limit", "use 1 to 1000000"),
        ("spec/adaptive", "write `limit` or `adaptive`"),
        ("spec/classes/0/name", "fit no class"),
        ("spec/classes/1/name", "cannot be a name"),
        ("spec/classes/1/when", "nothing"),
        ("spec/queue/max", "use 0 to 10000"),
        ("spec/queue/maxWait", "use 1ms to 1m"),
        ("spec/tenant", "needs a `name`"),
    ] {
        assert!(told.iter().any(|t| t.starts_with(place) && t.contains(fix)), "{place}: {told:#?}");
    }
    let told = faults(KIND, json!({"adaptive": {"min": 10, "max": 5, "initial": 50}}));
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(compile_in(Mode::Enforce, KIND, json!({})).is_ok(), "all of it has a default");
}
