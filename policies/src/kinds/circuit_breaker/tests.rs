use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::health::{BreakerParams, BreakerScope, CapLimits, CircuitBreaker, FailureRate};
use crate::kind::Compiled;
use crate::kinds::tests::{compile, faults};

const KIND: &str = "CircuitBreakerPolicy";

fn circuit(spec: Value) -> Arc<CircuitBreaker> {
    match compile(KIND, spec).expect("valid") {
        Compiled::CircuitBreaker(circuit) => circuit,
        _ => panic!("not a circuit breaker"),
    }
}

#[test]
fn a_full_spec_becomes_its_parameters() {
    let circuit = circuit(json!({
        "caps": [{"scope": "Backend", "connections": 64, "pending": 0, "requests": 128}],
        "breakers": [{
            "name": "errors",
            "scope": "Endpoint",
            "failureRate": {"percent": 50, "minimumCalls": 20, "window": "10s"},
            "consecutiveFailures": 5,
            "open": "2s",
            "probes": 3,
        }],
    }));
    let caps = circuit.caps.as_ref().unwrap();
    assert_eq!(caps.limits, CapLimits { connections: Some(64), pending: Some(0), requests: Some(128) });
    assert_eq!(&*caps.rule.name, "caps[0]");
    let breaker = &circuit.breakers[0];
    assert_eq!(&*breaker.rule.name, "errors");
    assert_eq!(breaker.rule.source.to_string(), "policies.yaml:21");
    assert_eq!(breaker.scope, BreakerScope::Endpoint);
    let rate = FailureRate { percent: 50, minimum_calls: 20, window: Duration::from_secs(10) };
    let params = BreakerParams {
        failure_rate: Some(rate),
        consecutive_failures: Some(5),
        open: Duration::from_secs(2),
        probes: 3,
    };
    assert_eq!(breaker.params, params);
}

#[test]
fn open_time_probes_and_name_have_defaults() {
    let circuit = circuit(json!({"breakers": [{"scope": "Backend", "consecutiveFailures": 5}]}));
    let breaker = &circuit.breakers[0];
    assert_eq!(&*breaker.rule.name, "breakers[0]");
    assert_eq!(breaker.params.open, Duration::from_secs(5));
    assert_eq!(breaker.params.probes, 1);
}

#[test]
fn a_policy_that_does_nothing_is_refused() {
    assert_eq!(faults(KIND, json!({})), ["spec: nothing to do: write `caps`, `breakers` or `shared`"]);
    let spec = json!({"caps": [{"scope": "Backend"}], "breakers": [{"scope": "Backend"}]});
    assert_eq!(
        faults(KIND, spec),
        [
            "spec/caps/0: caps nothing: write at least one of `connections`, `pending` and `requests`",
            "spec/breakers/0: never trips: write `failureRate`, `consecutiveFailures` or both",
        ]
    );
}

#[test]
fn every_value_out_of_range_is_named_with_its_place() {
    let spec = json!({
        "caps": [{"scope": "Backend", "connections": 0, "requests": 0}, {"scope": "Backend", "pending": 1}],
        "breakers": [
            {"name": "a", "scope": "Backend", "consecutiveFailures": 0, "open": "0s", "probes": 0},
            {
                "name": "a",
                "scope": "Endpoint",
                "failureRate": {"percent": 101, "minimumCalls": 0, "window": "11m"},
            },
            {"name": "no spaces", "scope": "Backend", "consecutiveFailures": 1},
        ],
    });
    let faults = faults(KIND, spec);
    let places = [
        "/caps/0/connections",
        "/caps/0/requests",
        "/caps/1/scope",
        "/breakers/0/consecutiveFailures",
        "/breakers/0/open",
        "/breakers/0/probes",
        "/breakers/1/name",
        "/breakers/1/failureRate/percent",
        "/breakers/1/failureRate/minimumCalls",
        "/breakers/1/failureRate/window",
        "/breakers/2/name",
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
fn unknown_fields_scopes_and_wrong_types_are_refused() {
    for bad in [
        json!({"breakers": [{"scope": "Backend", "consecutivefailures": 1}]}),
        json!({"breakers": [{"scope": "Route", "consecutiveFailures": 1}]}),
        json!({"caps": [{"scope": "Endpoint", "requests": 1}]}),
        json!({"caps": [{"scope": "Backend", "requests": -1}]}),
        json!({"breakers": [{"scope": "Backend", "consecutiveFailures": 1, "open": 5}]}),
    ] {
        assert!(!faults(KIND, bad.clone()).is_empty(), "{bad}");
    }
}

#[test]
fn what_is_shared_has_defaults_and_bounds() {
    let rules = circuit(json!({"shared": {}})).shared.as_ref().unwrap().rules;
    assert_eq!((rules.quorum, rules.failures, rules.percent), (3, 5, 60));
    assert_eq!((rules.settle, rules.hold), (Duration::from_millis(200), Duration::from_secs(30)));
    let spec = json!({"shared": {"quorum": 1, "failures": 0, "percent": 101, "settle": "11s", "hold": "0s"}});
    assert_eq!(faults(KIND, spec).len(), 5);
}
