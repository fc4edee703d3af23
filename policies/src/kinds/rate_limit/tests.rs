use std::thread;
use std::time::Duration;

use http::{HeaderMap, Request, request};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decision::{Decisions, Detail, Outcome};
use crate::kind::Compiled;
use crate::kinds::tests::{compile, compile_in, faults};
use crate::model::{Identity, Mode, Peer};
use crate::pipeline::{Filter, Held, LocalReply, RequestContext, Verdict};
use crate::reason::Reason;
use crate::state::StateStore;
use crate::time::Timestamp;
use std::sync::Arc;

mod connections;
mod delay;
mod held;
mod idle;
mod interleavings;
mod mesh;
mod numbers;
mod parts;
mod quotas;
mod restart;
mod service;
mod shared;

const KIND: &str = "RateLimitPolicy";

fn bind(mode: Mode, spec: Value, store: &StateStore) -> Arc<dyn Filter> {
    match compile_in(mode, KIND, spec).expect("valid") {
        Compiled::Filter(filter) => filter.bind(store),
        _ => panic!("not a filter"),
    }
}

fn one(limit: Value) -> Value {
    Value::from_iter([("limits", Value::Array(vec![limit]))])
}

/// What one request met.
struct Met {
    reply: Option<LocalReply>,
    decisions: Decisions,
    headers: HeaderMap,
    /// Until its answer is out.
    held: Vec<Box<dyn Held>>,
}

impl Met {
    fn allowed(&self) -> bool {
        self.reply.is_none()
    }
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn peer(address: &str, identity: Option<&str>) -> Peer {
    Peer { address: address.parse().unwrap(), identity: identity.map(|id| Identity(id.into())) }
}

fn judge(filter: &dyn Filter, head: request::Builder, peer: &Peer, millis: u64) -> Met {
    let (mut head, ()) = head.body(()).unwrap().into_parts();
    let (mut decisions, mut headers, mut held) = (Decisions::new(), HeaderMap::new(), Vec::new());
    let verdict = filter.on_request(&mut RequestContext {
        head: &mut head,
        peer,
        route: None,
        now: Timestamp::from_millis(millis),
        unix: &|| Duration::from_millis(millis),
        rng: &mut fastrand::Rng::with_seed(1),
        decisions: &mut decisions,
        response_headers: &mut headers,
        claims: &mut None,
        held: &mut held,
    });
    let reply = match verdict {
        Verdict::Continue => None,
        Verdict::Reply(reply) => Some(reply),
        Verdict::Answer(reply) => panic!("a limit only refuses: {reply:?}"),
        Verdict::Effect(effect) => panic!("nobody is to be asked: {effect:?}"),
    };
    Met { reply, decisions, headers, held }
}

fn get(filter: &Arc<dyn Filter>, path: &str, millis: u64) -> Met {
    judge(&**filter, Request::get(path), &peer("192.0.2.1:1000", None), millis)
}

fn admitted(filter: &Arc<dyn Filter>, path: &str, requests: u32, millis: u64) -> usize {
    (0..requests).filter(|_| get(filter, path, millis).allowed()).count()
}

#[test]
fn the_burst_passes_and_the_next_request_is_told_when_to_come_back() {
    let limit = json!({"name": "all", "requests": 10, "per": "20s", "burst": 2});
    let filter = bind(Mode::Enforce, one(limit), &StateStore::new([0, 0]));
    let first = get(&filter, "/", 0);
    assert_eq!(first.header("ratelimit-policy"), Some("\"all\";q=10;w=20"));
    assert_eq!(first.header("ratelimit"), Some("\"all\";r=1;t=2"));
    assert_eq!(first.decisions[0].outcome, Outcome::Allowed);
    assert_eq!(first.decisions[0].detail, Some(Detail::Remaining(1)));
    assert!(get(&filter, "/", 0).allowed());
    let third = get(&filter, "/", 500);
    let reply = third.reply.as_ref().unwrap();
    assert_eq!(reply.reason, Reason::RateLimited);
    assert_eq!(reply.headers, [(http::header::RETRY_AFTER, "2".parse().unwrap())]);
    assert_eq!(third.header("ratelimit"), Some("\"all\";r=0;t=2"));
    assert_eq!(third.decisions.len(), 1);
    assert_eq!(third.decisions[0].outcome, Outcome::Refused(Reason::RateLimited));
    assert_eq!(third.decisions[0].rule.source.to_string(), "policies.yaml:11");
    assert!(get(&filter, "/", 2000).allowed());
}

#[test]
fn the_burst_is_the_number_of_requests_unless_written() {
    let filter =
        bind(Mode::Enforce, one(json!({"name": "a", "requests": 7, "per": "1s"})), &StateStore::new([0, 0]));
    assert_eq!(admitted(&filter, "/", 20, 0), 7);
}

#[test]
fn a_refused_request_spends_nothing_of_the_other_limits() {
    let spec = json!({"limits": [
        {"name": "wide", "requests": 5, "per": "1h"},
        {"name": "narrow", "requests": 1, "per": "1s"},
    ]});
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    assert_eq!(admitted(&filter, "/", 100, 0), 1);
    let passed: usize = (1..10).map(|second| admitted(&filter, "/", 100, second * 1000)).sum();
    assert_eq!(passed, 4, "all five of the wide limit went to requests that passed");
}

#[test]
fn the_tightest_limit_is_told_and_the_policy_field_lists_all() {
    let spec = json!({"limits": [
        {"name": "minute", "requests": 100, "per": "1m"},
        {"name": "hour", "requests": 50, "per": "1h"},
    ]});
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    let met = get(&filter, "/", 0);
    assert_eq!(met.header("ratelimit"), Some("\"hour\";r=49;t=72"));
    assert_eq!(met.header("ratelimit-policy"), Some("\"hour\";q=50;w=3600, \"minute\";q=100;w=60"));
    assert_eq!(met.decisions.len(), 1);
    assert_eq!(met.decisions[0].rule.source.to_string(), "policies.yaml:12");
}

#[test]
fn of_limits_that_refuse_equally_long_the_first_by_name_is_told() {
    let one = |name: &str| json!({"name": name, "requests": 1, "per": "60s"});
    let filter = bind(Mode::Enforce, json!({"limits": [one("b"), one("a")]}), &StateStore::new([0, 0]));
    get(&filter, "/", 0);
    assert_eq!(&*get(&filter, "/", 0).decisions[0].rule.name, "a");
}

#[test]
fn of_several_refusing_limits_the_longest_wait_is_told() {
    let spec = json!({"limits": [
        {"name": "a", "requests": 1, "per": "5s"},
        {"name": "b", "requests": 1, "per": "60s"},
    ]});
    let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
    get(&filter, "/", 0);
    let met = get(&filter, "/", 0);
    assert_eq!(&*met.decisions[0].rule.name, "b");
    assert_eq!(met.reply.unwrap().headers[0].1, "60");
}

#[test]
fn shadow_decides_and_changes_nothing() {
    let filter =
        bind(Mode::Shadow, one(json!({"name": "a", "requests": 1, "per": "1s"})), &StateStore::new([0, 0]));
    let (first, second) = (get(&filter, "/", 0), get(&filter, "/", 0));
    assert!(first.allowed() && first.headers.is_empty());
    assert!(second.allowed() && second.headers.is_empty());
    assert_eq!(first.decisions[0].outcome, Outcome::Allowed);
    assert_eq!(second.decisions[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
}

fn keyed(part: Value) -> Arc<dyn Filter> {
    let mut limit = json!({"name": "a", "requests": 1, "per": "1h"});
    limit["key"] = Value::Array(vec![part]);
    bind(Mode::Enforce, one(limit), &StateStore::new([0, 0]))
}

/// Whether the two requests are counted apart.
fn apart(part: Value, one: (request::Builder, Peer), other: (request::Builder, Peer)) -> bool {
    let filter = keyed(part);
    assert!(judge(&*filter, one.0, &one.1, 0).allowed());
    judge(&*filter, other.0, &other.1, 0).allowed()
}

#[test]
fn client_addresses_are_told_apart_by_ip_and_never_by_header() {
    let key = || json!({"type": "ClientAddress"});
    let from = |address: &str| (Request::get("/"), peer(address, None));
    assert!(apart(key(), from("192.0.2.1:1"), from("192.0.2.2:1")));
    assert!(!apart(key(), from("192.0.2.1:1"), from("192.0.2.1:2")));
    assert!(!apart(key(), from("192.0.2.1:1"), from("[::ffff:192.0.2.1]:1")));
    let forged = (Request::get("/").header("x-forwarded-for", "1.2.3.4"), peer("192.0.2.1:1", None));
    assert!(!apart(key(), from("192.0.2.1:1"), forged));
}

#[test]
fn headers_are_told_apart_by_value_and_requests_without_one_share_a_bucket() {
    let key = || json!({"type": "Header", "name": "X-User"});
    let with = |values: &[&str]| {
        let head = values.iter().fold(Request::get("/"), |head, value| head.header("x-user", *value));
        (head, peer("192.0.2.1:1", None))
    };
    assert!(apart(key(), with(&["ann"]), with(&["bob"])));
    assert!(!apart(key(), with(&["ann"]), with(&["ann"])));
    assert!(!apart(key(), with(&[]), with(&[])));
    assert!(apart(key(), with(&[]), with(&[""])));
    assert!(apart(key(), with(&["ab", "c"]), with(&["a", "bc"])));
}

#[test]
fn path_method_host_and_identity_are_told_apart() {
    let plain = |head: request::Builder| (head, peer("192.0.2.1:1", None));
    let path = || json!({"type": "Path"});
    assert!(apart(path(), plain(Request::get("/a")), plain(Request::get("/b"))));
    assert!(!apart(path(), plain(Request::get("/a?x=1")), plain(Request::get("/a?x=2"))));
    let method = || json!({"type": "Method"});
    assert!(apart(method(), plain(Request::get("/")), plain(Request::post("/"))));
    let host = || json!({"type": "Host"});
    let named = |name: &str| plain(Request::get("/").header("host", name));
    assert!(apart(host(), named("a.example"), named("b.example")));
    assert!(!apart(host(), named("A.example:8080"), named("a.example")));
    assert!(!apart(host(), plain(Request::get("http://a.example/")), named("a.example")));
    assert!(apart(host(), named("[2001:db8::1]:80"), named("[2001:db8::2]")));
    let identity = || json!({"type": "PeerIdentity"});
    let who = |id| (Request::get("/"), peer("192.0.2.1:1", id));
    assert!(apart(identity(), who(Some("spiffe://a")), who(Some("spiffe://b"))));
    assert!(!apart(identity(), who(None), who(None)));
}

#[test]
fn a_push_that_changes_nothing_here_keeps_what_was_spent() {
    let store = StateStore::new([0, 0]);
    let spec = |unrelated: u32| {
        json!({"limits": [
            {"name": "kept", "requests": 3, "per": "1h"},
            {"name": "other", "requests": unrelated, "per": "1s"},
        ]})
    };
    assert_eq!(admitted(&bind(Mode::Enforce, spec(100), &store), "/", 2, 0), 2);
    assert_eq!(admitted(&bind(Mode::Shadow, spec(100), &store), "/", 0, 0), 0);
    assert_eq!(admitted(&bind(Mode::Enforce, spec(200), &store), "/", 5, 1), 1);
}

#[test]
fn a_changed_rate_keeps_what_was_spent() {
    let store = StateStore::new([0, 0]);
    let spec =
        |requests: u32, key: Value| one(json!({"name": "a", "requests": requests, "per": "1h", "key": key}));
    for key in [json!([]), json!([{"type": "Path"}])] {
        assert_eq!(admitted(&bind(Mode::Enforce, spec(10, key.clone()), &store), "/", 4, 0), 4);
        let raised = bind(Mode::Enforce, spec(20, key.clone()), &store);
        assert_eq!(admitted(&raised, "/", 100, 0), 16, "4 of 20 are spent");
        let lowered = bind(Mode::Enforce, spec(5, key.clone()), &store);
        assert_eq!(admitted(&lowered, "/", 100, 0), 0, "all of 5 are spent");
        assert_eq!(admitted(&lowered, "/", 100, 720_000), 1, "and one is back after a fifth of the hour");
    }
}

#[test]
fn the_snapshot_before_counts_with_the_new_rate_too() {
    let store = StateStore::new([0, 0]);
    let spec = |requests: u32| one(json!({"name": "a", "requests": requests, "per": "1h"}));
    let before = bind(Mode::Enforce, spec(10), &store);
    assert!(get(&before, "/", 0).allowed());
    let after = bind(Mode::Enforce, spec(3), &store);
    let passed = admitted(&before, "/", 5, 0) + admitted(&after, "/", 5, 0);
    assert_eq!(passed, 2);
}

#[test]
fn another_key_starts_afresh() {
    let store = StateStore::new([0, 0]);
    let spec = |key: &str| one(json!({"name": "a", "requests": 1, "per": "1h", "key": [{"type": key}]}));
    assert_eq!(admitted(&bind(Mode::Enforce, spec("Path"), &store), "/", 5, 0), 1);
    assert_eq!(admitted(&bind(Mode::Enforce, spec("Method"), &store), "/", 5, 0), 1);
}

#[test]
fn threads_with_several_limits_admit_exactly_the_tightest() {
    let spec = json!({"limits": [
        {"name": "a", "requests": 300, "per": "1h"},
        {"name": "b", "requests": 200, "per": "1h"},
        {"name": "c", "requests": 400, "per": "1h", "key": [{"type": "Method"}]},
    ]});
    let store = StateStore::new([0, 0]);
    let filter = bind(Mode::Enforce, spec, &store);
    let total: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| admitted(&filter, "/", 500, 0))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(total, 200);
    // What the others did not need was given back: with the tight limit lifted, exactly their rest passes.
    let lifted = json!({"limits": [{"name": "a", "requests": 300, "per": "1h"}]});
    assert_eq!(admitted(&bind(Mode::Enforce, lifted, &store), "/", 500, 0), 100);
}

#[test]
fn pushes_under_load_never_wedge_or_refill() {
    let store = StateStore::new([0, 0]);
    let spec = |requests: u32, unrelated: u32| {
        json!({"limits": [
            {"name": "b", "requests": requests, "per": "1h", "key": [{"type": "Path"}]},
            {"name": "a", "requests": unrelated, "per": "1h"},
        ]})
    };
    let total: usize = thread::scope(|scope| {
        let work = |seed: u32| {
            let store = &store;
            move || -> usize {
                let push = |i: u32| bind(Mode::Enforce, spec(50, 100_000 + (i + seed) % 7), store);
                (0..300).map(|i| admitted(&push(i), "/", 10, 0)).sum()
            }
        };
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(work(seed))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(total, 50);
}

#[test]
fn every_fault_is_named_with_its_place() {
    let spec = json!({"limits": [
        {"name": "a", "requests": 0, "per": "0s", "burst": 0},
        {"name": "a", "requests": 1, "per": "1s", "key": [{"type": "Header"}, {"type": "Path", "name": "x"}]},
        {"name": "b\"", "requests": 1, "per": "1s", "key": [{"type": "Header", "name": "no spaces"}]},
        {"name": "c", "requests": 2000, "per": "1ms"},
        {"name": "d", "requests": 1, "per": "8760h", "burst": 4000000000_u32},
        {"name": "e", "requests": 1, "per": "1s", "key": [{"type": "Path"}, {"type": "Path"}]},
    ]});
    let faults = faults(KIND, spec);
    let places = [
        "/limits/0/requests",
        "/limits/0/per",
        "/limits/0/burst",
        "/limits/1/name",
        "/limits/1/key/0",
        "/limits/1/key/1/name",
        "/limits/2/name",
        "/limits/2/key/0/name",
        "/limits/3/requests",
        "/limits/4/burst",
        "/limits/5/key/1",
    ];
    for place in places {
        assert!(
            faults.iter().any(|fault| fault.starts_with(&format!("spec{place}:"))),
            "{place}: {faults:?}"
        );
    }
    assert_eq!(faults.len(), places.len(), "{faults:?}");
}

#[test]
fn no_limits_too_many_limits_and_unknown_fields_are_refused() {
    let limit = |i: usize| json!({"name": format!("l{i}"), "requests": 1, "per": "1s"});
    assert!(compile(KIND, json!({"limits": (0..16).map(limit).collect::<Vec<_>>()})).is_ok());
    assert_eq!(faults(KIND, json!({"limits": []})), ["spec/limits: 0 limits: write 1 to 16"]);
    assert!(!faults(KIND, json!({"limits": (0..17).map(limit).collect::<Vec<_>>()})).is_empty());
    assert!(!faults(KIND, json!({})).is_empty());
    assert!(!faults(KIND, one(json!({"name": "a", "requests": 1, "per": "1s", "brust": 1}))).is_empty());
    assert!(!faults(KIND, one(json!({"name": "a", "requests": -1, "per": "1s"}))).is_empty());
    assert!(!faults(KIND, one(json!({"name": "a", "requests": 1, "per": "1 second"}))).is_empty());
}

proptest! {
    #[test]
    fn no_limit_ever_admits_more_than_burst_plus_rate_times_time(
        steps in prop::collection::vec((0_u64..700, 0_usize..3), 1..150),
    ) {
        let spec = json!({"limits": [
            {"name": "path", "requests": 2, "per": "1s", "burst": 3, "key": [{"type": "Path"}]},
            {"name": "all", "requests": 3, "per": "1s", "burst": 4},
        ]});
        let filter = bind(Mode::Enforce, spec, &StateStore::new([0, 0]));
        let (mut now, mut passed) = (0, Vec::new());
        for (step, path) in steps {
            now += step;
            if get(&filter, ["/a", "/b", "/c"][path], now).allowed() {
                passed.push((now, path));
            }
        }
        let within = |times: Vec<u64>, burst: u64, rate: u64| {
            times.iter().enumerate().all(|(i, from)| {
                times[i..].iter().enumerate().all(|(n, to)| (n as u64) < burst + (to - from) * rate / 1000)
            })
        };
        prop_assert!(within(passed.iter().map(|(t, _)| *t).collect(), 4, 3));
        for path in 0..3 {
            let times = passed.iter().filter(|(_, p)| *p == path).map(|(t, _)| *t).collect();
            prop_assert!(within(times, 3, 2));
        }
    }
}
