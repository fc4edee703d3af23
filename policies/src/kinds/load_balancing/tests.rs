use std::sync::Arc;
use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use crate::balance::{Algorithm, Asker, HashTable, Keyless, LoadBalancing, Prefer, SlowStart};
use crate::expression::Facts;
use crate::kind::Compiled;
use crate::kinds::tests::{compile, faults};
use crate::model::Peer;

const KIND: &str = "LoadBalancingPolicy";

fn settings(spec: Value) -> Arc<LoadBalancing> {
    match compile(KIND, spec).expect("valid") {
        Compiled::LoadBalancing(settings) => settings,
        _ => panic!("not load balancing"),
    }
}

#[test]
fn a_full_spec_becomes_its_parameters() {
    let full = settings(json!({
        "algorithm": "LeastRequest",
        "choices": 3,
        "locality": {"prefer": "SameZone", "failover": ["b", "c"]},
        "overprovisioningFactor": 2,
        "slowStart": {"window": "10s", "minPercent": 20, "aggression": 2},
        "subset": {"size": 20},
    }));
    assert!(matches!(full.algorithm, Algorithm::LeastRequest { choices: 3 }));
    assert_eq!(full.locality.prefer, Prefer::SameZone);
    assert_eq!(full.locality.failover, ["b", "c"].map(Arc::from));
    assert_eq!((full.overprovisioning, full.subset), (2.0, Some(20)));
    let slow = SlowStart { window: Duration::from_secs(10), min_percent: 20, aggression: 2.0 };
    assert_eq!(full.slow_start, Some(slow));
    assert_eq!(&*full.origin.as_ref().unwrap().rule.name, "LeastRequest");
}

#[test]
fn what_is_not_written_has_defaults() {
    let plain = settings(json!({"slowStart": {}}));
    assert!(matches!(plain.algorithm, Algorithm::PeakEwma));
    assert_eq!((plain.decay, plain.overprovisioning), (Duration::from_secs(10), 1.4));
    let slow = SlowStart { window: Duration::from_secs(30), min_percent: 10, aggression: 1.0 };
    assert_eq!(plain.slow_start, Some(slow));
    let hashed = |algorithm| settings(json!({"algorithm": algorithm, "hashKey": [{"type": "Path"}]}));
    let table = |settings: &LoadBalancing| match settings.algorithm {
        Algorithm::Hash { table, keyless: Keyless::PeakEwma } => Some(table),
        _ => None,
    };
    assert_eq!(table(&hashed("Maglev")), Some(HashTable::Maglev { size: 65_537 }));
    assert_eq!(table(&hashed("RingHash")), Some(HashTable::Ring { least: 4096, most: 262_144 }));
}

#[test]
fn a_policy_that_says_nothing_is_refused() {
    assert_eq!(faults(KIND, json!({})), ["spec: nothing to do: write at least an `algorithm`"]);
}

#[test]
fn every_fault_is_named_with_its_place() {
    for (spec, places) in [
        (
            json!({
                "algorithm": "RoundRobin", "choices": 2, "decay": "5s", "maxLoadFactor": 1.2, "tableSize": 251,
                "ringSize": {}, "hashKey": [{"type": "Path"}], "onMissingKey": "Random",
            }),
            &["/choices", "/decay", "/maxLoadFactor", "/tableSize", "/ringSize", "/hashKey", "/onMissingKey"]
                [..],
        ),
        (
            json!({"algorithm": "Maglev", "hashKey": [{"type": "Path"}], "slowStart": {}, "subset": {"size": 3}}),
            &["/slowStart", "/subset"],
        ),
        (json!({"algorithm": "Maglev"}), &["/hashKey"]),
        (
            json!({
                "algorithm": "Maglev", "tableSize": 65_536, "maxLoadFactor": 1.0,
                "hashKey": [
                    {"type": "Descriptor", "name": "x"}, {"type": "Header"}, {"type": "Path", "missing": "Deny"},
                    {"type": "Path"},
                ],
            }),
            &["/tableSize", "/maxLoadFactor", "/hashKey/0/type", "/hashKey/1", "/hashKey/2/missing"],
        ),
        (
            json!({
                "choices": 11, "algorithm": "LeastRequest", "overprovisioningFactor": 0.5,
                "slowStart": {"window": "2h", "minPercent": 0, "aggression": 0},
                "locality": {"prefer": "SameZone", "failover": ["a", "", "a"]}, "subset": {"size": 0},
            }),
            &[
                "/choices",
                "/overprovisioningFactor",
                "/slowStart/window",
                "/slowStart/minPercent",
                "/slowStart/aggression",
                "/locality/failover/1",
                "/locality/failover/2",
                "/subset/size",
            ],
        ),
        (json!({"locality": {"prefer": "None", "failover": ["a"]}}), &["/locality/failover"]),
        (
            json!({"algorithm": "RingHash", "hashKey": [{"type": "Path"}], "ringSize": {"minimum": 1024, "maximum": 1500}}),
            &["/ringSize/maximum"],
        ),
    ] {
        let faults = faults(KIND, spec);
        for place in places {
            let starts = format!("spec{place}:");
            assert!(faults.iter().any(|fault| fault.starts_with(&starts)), "{place}: {faults:?}");
        }
    }
}

#[test]
fn a_table_size_that_is_no_prime_is_told_the_next() {
    let spec = json!({"algorithm": "Maglev", "hashKey": [{"type": "Path"}], "tableSize": 65_536});
    assert_eq!(faults(KIND, spec), ["spec/tableSize: 65536 is not a prime: the next is 65537"]);
}

#[test]
fn a_key_is_all_of_its_parts_and_nothing_where_one_is_missing() {
    let by = settings(json!({
        "algorithm": "Maglev",
        "hashKey": [{"type": "Header", "name": "x-user"}, {"type": "Host"}],
    }));
    let key = |user: Option<&str>, host: &str| {
        let mut request = Request::get("/").header("host", host);
        if let Some(user) = user {
            request = request.header("x-user", user);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let peer = Peer { address: "10.0.0.1:1".parse().unwrap(), identity: None };
        by.key.as_ref().unwrap().of(Asker(&Facts { head: &head, peer: &peer, route: None, claims: None }))
    };
    assert_eq!(key(None, "a"), None);
    assert_eq!(key(Some("u"), "A"), key(Some("u"), "a"));
    assert_ne!(key(Some("u"), "a"), key(Some("v"), "a"));
    assert_ne!(key(Some("u"), "a"), key(Some("u"), "b"));
}

#[test]
fn a_connection_has_a_key_of_its_address_alone() {
    let peer = Peer { address: "10.0.0.1:1".parse().unwrap(), identity: None };
    let key = |parts: Value| {
        let by = settings(json!({"algorithm": "RingHash", "hashKey": parts}));
        by.key.as_ref().unwrap().of_connection(&peer)
    };
    assert!(key(json!([{"type": "ClientAddress"}])).is_some());
    assert_eq!(key(json!([{"type": "ClientAddress"}, {"type": "Path"}])), None);
}
