//! `newConnections`: connections that are counted when they come in.

use super::*;
use crate::kinds::tests::policy;
use crate::model::{ResourceName, TargetKind, TargetRef};
use crate::pipeline::{ConnectionContext, Cut, on_connection};

fn limited(mode: Mode, limits: &Value) -> Arc<dyn Filter> {
    bind(mode, json!({"newConnections": limits}), &StateStore::new([0, 0]))
}

/// A connection from an address, for a name; what is said of it.
fn connect(
    filter: &Arc<dyn Filter>,
    from: &str,
    name: Option<&str>,
    millis: u64,
) -> (Result<(), Cut>, Decisions) {
    let mut decisions = Decisions::new();
    let mut cx = ConnectionContext {
        port: 80,
        peer: &peer(from, None),
        server_name: name,
        carried: false,
        now: Timestamp::from_millis(millis),
        decisions: &mut decisions,
    };
    let said = on_connection(std::slice::from_ref(filter), &mut cx);
    (said, decisions)
}

fn let_in(filter: &Arc<dyn Filter>, from: &str, name: Option<&str>, times: usize) -> usize {
    (0..times).filter(|_| connect(filter, from, name, 0).0.is_ok()).count()
}

#[test]
fn connections_beyond_the_burst_are_cut_as_written_until_the_rate_has_room_again() {
    for (refuse, reset) in [(json!("Reset"), true), (json!("Close"), false)] {
        let limit = json!([{"name": "new", "connections": 2, "per": "1s", "burst": 3, "refuse": refuse}]);
        let filter = limited(Mode::Enforce, &limit);
        assert!(filter.judges_connections());
        assert_eq!(let_in(&filter, "192.0.2.1:1", None, 9), 3);
        let (said, decisions) = connect(&filter, "192.0.2.1:1", None, 499);
        assert_eq!(said, Err(Cut { reason: Reason::RateLimited, reset }));
        assert_eq!((&*decisions[0].rule.name, decisions.len()), ("new", 1));
        assert_eq!(decisions[0].outcome, Outcome::Refused(Reason::RateLimited));
        assert_eq!(decisions[0].detail, Some(Detail::RetryAfter(Duration::from_millis(1))));
        let (said, decisions) = connect(&filter, "192.0.2.1:1", None, 500);
        assert_eq!((said, decisions[0].detail), (Ok(()), Some(Detail::Remaining(0))));
    }
}

#[test]
fn requests_are_none_of_their_business_and_a_policy_without_them_has_no_word() {
    let filter = limited(Mode::Enforce, &json!([{"name": "new", "connections": 1, "per": "1h"}]));
    assert_eq!(admitted(&filter, "/", 9, 0), 9);
    let requests =
        bind(Mode::Enforce, one(json!({"name": "a", "requests": 1, "per": "1h"})), &StateStore::new([0, 0]));
    assert!(!requests.judges_connections());
    assert_eq!(let_in(&requests, "192.0.2.1:1", None, 9), 9);
}

#[test]
fn connections_are_counted_apart_by_network_and_by_the_name_they_ask_for() {
    let limit = |key: Value| {
        limited(Mode::Enforce, &json!([{"name": "new", "connections": 1, "per": "1h", "key": key}]))
    };
    let networks = limit(json!([{"type": "ClientAddress", "prefix": {"ipv4": 24}}]));
    let of = |from: &str| let_in(&networks, from, None, 5);
    assert_eq!([of("10.0.0.1:1"), of("10.0.0.9:2"), of("10.0.1.1:1"), of("[2001:db8::1]:1")], [1, 0, 1, 1]);
    let names = limit(json!([{"type": "ServerName"}]));
    let of = |name: Option<&str>| let_in(&names, "10.0.0.1:1", name, 5);
    assert_eq!([of(Some("a.example")), of(Some("A.Example")), of(Some("b.example"))], [1, 0, 1]);
    assert_eq!([of(None), of(None)], [1, 0], "those without share");
    let skip = limit(json!([{"type": "ServerName", "missing": "Skip"}]));
    assert_eq!(let_in(&skip, "10.0.0.1:1", None, 5), 5);
    let deny = limit(json!([{"type": "ServerName", "missing": "Deny"}]));
    assert_eq!(let_in(&deny, "10.0.0.1:1", None, 5), 0);
}

#[test]
fn one_that_refuses_costs_the_others_nothing() {
    let limits = json!([
        {"name": "all", "connections": 3, "per": "1h"},
        {"name": "each", "connections": 1, "per": "1h", "key": [{"type": "ClientAddress"}]},
    ]);
    let filter = limited(Mode::Enforce, &limits);
    let of = |from: &str| let_in(&filter, from, None, 20);
    assert_eq!([of("10.0.0.1:1"), of("10.0.0.2:1"), of("10.0.0.3:1"), of("10.0.0.4:1")], [1, 1, 1, 0]);
}

#[test]
fn in_shadow_all_come_in_and_those_beyond_are_told_of() {
    let one = |mode: Value| json!([{"name": "new", "connections": 1, "per": "1h", "mode": mode}]);
    for filter in
        [limited(Mode::Shadow, &one(json!("Enforce"))), limited(Mode::Enforce, &one(json!("Shadow")))]
    {
        assert_eq!(let_in(&filter, "10.0.0.1:1", None, 3), 3);
        let decisions = connect(&filter, "10.0.0.1:1", None, 0).1;
        assert_eq!(decisions[0].outcome, Outcome::WouldRefuse(Reason::RateLimited));
    }
}

#[test]
fn what_was_counted_outlives_a_push() {
    let store = StateStore::new([0, 0]);
    let push = |connections: u32| {
        let limit = json!([{"name": "new", "connections": connections, "per": "1h"}]);
        bind(Mode::Enforce, json!({"newConnections": limit}), &store)
    };
    assert_eq!(let_in(&push(5), "10.0.0.1:1", None, 3), 3);
    assert_eq!(let_in(&push(5), "10.0.0.1:1", None, 9), 2);
    assert_eq!(let_in(&push(7), "10.0.0.1:1", None, 9), 2);
}

#[test]
fn what_no_connection_has_is_refused_with_the_reason() {
    let told = |limit: Value| {
        let mut one = json!({"name": "new", "connections": 1, "per": "1s"});
        limit.as_object().unwrap().iter().for_each(|(name, value)| one[name] = value.clone());
        let faults = faults(KIND, json!({"newConnections": [one]}));
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults[0].clone()
    };
    let header = json!({"key": [{"type": "Header", "name": "x-user"}]});
    let say = "spec/newConnections/0/key/0/type: connections are counted before any request is read, and have no Header: \
               use ClientAddress or ServerName";
    assert_eq!(told(header), say);
    let identity = told(json!({"key": [{"type": "PeerIdentity"}]}));
    assert!(identity.contains("before TLS"), "{identity}");
    let hops = told(json!({"key": [{"type": "ClientAddress", "trustedHops": 1}]}));
    assert!(
        hops.starts_with("spec/newConnections/0/key/0/trustedHops: there is no x-forwarded-for"),
        "{hops}"
    );
    let zero = told(json!({"connections": 0}));
    assert!(zero.starts_with("spec/newConnections/0/connections: 0 is out of range"), "{zero}");
    let fast = told(json!({"connections": 2_000_000}));
    assert!(fast.starts_with("spec/newConnections/0/connections: 2000000 per 1s"), "{fast}");
    let name = json!({"name": "a", "requests": 1, "per": "1s", "key": [{"type": "ServerName"}]});
    assert!(faults(KIND, one(name))[0].contains("ServerName goes with `newConnections` only"));
    let new = json!([{"name": "a", "connections": 1, "per": "1s"}]);
    let limits = json!([{"name": "a", "requests": 1, "per": "1s"}]);
    assert_eq!(
        faults(KIND, json!({"newConnections": new, "limits": limits})).len(),
        1,
        "one name, two rules"
    );
    for scope in ["Mesh", "Exact"] {
        let told = faults(KIND, json!({"newConnections": new, "scope": scope}));
        assert!(
            told[0].starts_with("spec/newConnections: `newConnections` go with `scope: Local` only"),
            "{told:?}"
        );
    }
}

#[test]
fn a_target_has_what_is_counted_or_the_policy_is_refused() {
    let told = |kind: TargetKind, spec: Value| {
        let mut policy = policy(KIND, Mode::Enforce, spec);
        let object = ResourceName::new("shop", "r");
        policy.targets.push(TargetRef { kind, object, section: None });
        let faults = crate::kinds::find(KIND).unwrap().compile(&policy).err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let new = json!({"newConnections": [{"name": "a", "connections": 1, "per": "1s"}]});
    let requests = one(json!({"name": "a", "requests": 1, "per": "1s"}));
    for kind in [TargetKind::TCPRoute, TargetKind::TLSRoute, TargetKind::Gateway, TargetKind::Service] {
        assert_eq!(told(kind, new.clone()), Vec::<String>::new());
    }
    for kind in [TargetKind::HTTPRoute, TargetKind::GRPCRoute] {
        assert!(told(kind, new.clone())[0].starts_with("spec/newConnections: a connection is for whatever"));
    }
    for kind in [TargetKind::TCPRoute, TargetKind::TLSRoute] {
        assert!(told(kind, requests.clone())[0].contains("nobody sees requests in them"));
    }
}

proptest! {
    #[test]
    fn no_more_connections_come_in_than_burst_plus_rate_times_time(
        steps in prop::collection::vec((0_u64..700, 0_usize..3), 1..150),
    ) {
        let limits = json!([
            {"name": "all", "connections": 3, "per": "1s", "burst": 4},
            {"name": "each", "connections": 2, "per": "1s", "key": [{"type": "ClientAddress"}]},
        ]);
        let filter = limited(Mode::Enforce, &limits);
        let (mut now, mut passed) = (0, Vec::new());
        for (step, from) in steps {
            now += step;
            if connect(&filter, ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"][from], None, now).0.is_ok() {
                passed.push((now, from));
            }
        }
        let within = |times: &[u64], burst: u64, rate: u64| {
            times.iter().enumerate().all(|(i, from)| {
                times[i..].iter().enumerate().all(|(n, to)| (n as u64) < burst + (to - from) * rate / 1000)
            })
        };
        prop_assert!(within(&passed.iter().map(|(time, _)| *time).collect::<Vec<_>>(), 4, 3));
        for client in 0..3 {
            let of = passed.iter().filter(|(_, from)| *from == client).map(|(time, _)| *time);
            prop_assert!(within(&of.collect::<Vec<_>>(), 2, 2));
        }
    }
}
