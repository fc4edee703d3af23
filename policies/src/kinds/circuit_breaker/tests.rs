use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::health::{
    Among, BreakerParams, BreakerScope, CapLimits, CapScope, CircuitBreaker, EjectionLimits, Failures,
    PeerLatency, Rate, SlowCalls, Span, SuccessRate,
};
use crate::kind::Compiled;
use crate::kinds::tests::{compile, faults};

const KIND: &str = "CircuitBreakerPolicy";

fn circuit(spec: Value) -> Arc<CircuitBreaker> {
    match compile(KIND, spec).expect("valid") {
        Compiled::CircuitBreaker(circuit) => circuit,
        _ => panic!("not a circuit breaker"),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_full_spec_becomes_its_parameters() {
    let circuit = circuit(json!({
        "caps": [
            {"scope": "Backend", "connections": 64, "pending": 0, "requests": 128, "retries": 3},
            {"scope": "Endpoint", "requests": 16},
            {"scope": "Rule", "requests": 32},
            {"scope": "Key", "key": [{"type": "Header", "name": "x-tenant", "missing": "Deny"}], "requests": 8},
        ],
        "breakers": [{
            "name": "errors",
            "scope": "Endpoint",
            "failureRate": {"percent": 50, "minimumCalls": 20, "window": "10s"},
            "slowCallRate": {"percent": 80, "slowerThan": "250ms", "minimumCalls": 10, "calls": 100},
            "consecutiveFailures": 5,
            "successRate": {"minimumCalls": 100, "window": "30s"},
            "latency": {"factor": 3, "minimumEndpoints": 5, "minimumCalls": 50, "window": "30s"},
            "honorRetryAfter": {"max": "30s"},
            "open": "2s",
            "maxOpen": "5m",
            "probes": 3,
            "ramp": "10s",
        }],
        "ejection": {"maxPercent": 30, "panicPercent": 20, "lastEndpoint": "Eject"},
    }));
    let caps = circuit.cap(CapScope::Backend).unwrap();
    let limits = CapLimits { connections: Some(64), pending: Some(0), requests: Some(128), retries: Some(3) };
    assert_eq!((caps.limits, &*caps.rule.name), (limits, "caps[0]"));
    assert_eq!(circuit.cap(CapScope::Rule).unwrap().limits.requests, Some(32));
    let keyed = circuit.cap(CapScope::Key).unwrap();
    assert_eq!((keyed.limits.requests, keyed.key.is_some()), (Some(8), true));
    let breaker = &circuit.breakers[0];
    assert_eq!(&*breaker.rule.name, "errors");
    assert_eq!(breaker.rule.source.to_string(), "policies.yaml:21");
    assert_eq!(breaker.scope, BreakerScope::Endpoint);
    assert_eq!(breaker.failures, Failures::default());
    assert_eq!(breaker.honor_retry_after, Some(30 * SECOND));
    let among =
        |minimum_endpoints, minimum_calls| Among { minimum_endpoints, minimum_calls, window: 30 * SECOND };
    let (minimum, rate) =
        (Duration::from_millis(10), Rate { percent: 80, minimum_calls: 10, window: Span::Calls(100) });
    let params = BreakerParams {
        failure_rate: Some(Rate { percent: 50, minimum_calls: 20, window: Span::Time(10 * SECOND) }),
        slow_calls: Some(SlowCalls { rate, slower_than: Duration::from_millis(250) }),
        consecutive_failures: Some(5),
        success_rate: Some(SuccessRate { standard_deviations: 1.9, among: among(3, 100) }),
        latency: Some(PeerLatency { factor: 3.0, minimum, among: among(5, 50) }),
        open: 2 * SECOND,
        max_open: Some(300 * SECOND),
        jitter: 10,
        probes: 3,
        ramp: 10 * SECOND,
    };
    assert_eq!(breaker.params, params);
    let ejection = EjectionLimits { max_percent: 30, at_least_one: true, panic_percent: 20, last_too: true };
    assert_eq!(circuit.ejection, ejection);
}

#[test]
fn failures_are_what_is_written_and_nothing_else() {
    let circuit = circuit(json!({"breakers": [{
        "scope": "Backend",
        "consecutiveFailures": 5,
        "failures": {
            "statuses": ["429", "502-504"],
            "grpc": ["CANCELLED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNAUTHENTICATED"],
            "reset": true,
            "expression": "response.status == 200 && response.headers['x-degraded'] == 'yes'",
        },
    }]}));
    let failures = &circuit.breakers[0].failures;
    assert_eq!(*failures.statuses, [429..=429, 502..=504]);
    assert_eq!(*failures.grpc, [1, 8, 14, 16]);
    assert_eq!((failures.connect, failures.timeout, failures.reset), (false, false, true));
    assert!(failures.expression.is_some());
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
            "spec/caps/0: caps nothing: write at least one of `connections`, `pending`, `requests` and `retries`",
            "spec/breakers/0: never trips: write at least one of `failureRate`, `slowCallRate`, \
             `consecutiveFailures`, `successRate`, `latency` and `honorRetryAfter`",
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
            {
                "scope": "Backend",
                "slowCallRate": {"percent": 0, "slowerThan": "0s", "minimumCalls": 11, "calls": 10},
                "failureRate": {"percent": 1, "minimumCalls": 1},
                "successRate": {"standardDeviations": 0, "minimumEndpoints": 1, "minimumCalls": 1, "window": "0s"},
                "failures": {"statuses": ["99", "600-500"], "expression": "response.stat"},
                "honorRetryAfter": {"max": "0s"},
                "open": "5s", "maxOpen": "1s", "jitter": 101, "ramp": "0s",
            },
            {
                "scope": "Endpoint",
                "latency": {"factor": 1, "atLeast": "2h", "minimumCalls": 0, "window": "1s"},
                "failureRate": {"percent": 1, "minimumCalls": 1, "window": "1s", "calls": 1},
                "failures": {"connect": false},
            },
        ],
        "ejection": {"maxPercent": 0, "panicPercent": 101},
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
        "/breakers/3/slowCallRate/percent",
        "/breakers/3/slowCallRate/slowerThan",
        "/breakers/3/slowCallRate/minimumCalls",
        "/breakers/3/failureRate",
        "/breakers/3/successRate",
        "/breakers/3/successRate/standardDeviations",
        "/breakers/3/successRate/minimumEndpoints",
        "/breakers/3/successRate/window",
        "/breakers/3/failures/statuses/0",
        "/breakers/3/failures/statuses/1",
        "/breakers/3/failures/expression",
        "/breakers/3/honorRetryAfter/max",
        "/breakers/3/maxOpen",
        "/breakers/3/jitter",
        "/breakers/3/ramp",
        "/breakers/4/latency/factor",
        "/breakers/4/latency/atLeast",
        "/breakers/4/latency/minimumCalls",
        "/breakers/4/failureRate/calls",
        "/breakers/4/failures",
        "/ejection/maxPercent",
        "/ejection/panicPercent",
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
fn a_cap_on_keys_needs_parts_that_a_request_has_before_a_backend_is_called() {
    let caps = |caps: Value| faults(KIND, json!({"caps": [caps]}));
    for (spec, place, word) in [
        (json!({"scope": "Key", "requests": 1}), "/caps/0/key", "needs a `key`"),
        (json!({"scope": "Rule", "key": [{"type": "Host"}], "requests": 1}), "/caps/0/key", "scope Key only"),
        (
            json!({"scope": "Key", "key": [{"type": "Claim", "name": "sub"}], "requests": 1}),
            "/caps/0/key/0/type",
            "verified after",
        ),
        (
            json!({"scope": "Key", "key": [{"type": "Descriptor", "name": "a"}], "requests": 1}),
            "/caps/0/key/0/type",
            "rate limits only",
        ),
        (
            json!({"scope": "Key", "key": [{"type": "Host"}, {"type": "Host"}], "requests": 1}),
            "/caps/0/key/1",
            "twice",
        ),
        (
            json!({"scope": "Key", "key": [{"type": "Header"}], "requests": 1}),
            "/caps/0/key/0",
            "needs a `name`",
        ),
        (
            json!({"scope": "Key", "key": [{"type": "Host"}], "connections": 1}),
            "/caps/0/connections",
            "scope Backend or Endpoint only",
        ),
        (
            json!({"scope": "Key", "key": [{"type": "Host"}], "pending": 1}),
            "/caps/0/pending",
            "scope Backend or Endpoint only",
        ),
    ] {
        let faults = caps(spec.clone());
        let fits = |fault: &String| fault.starts_with(&format!("spec{place}:")) && fault.contains(word);
        assert!(faults.iter().any(fits), "{spec}: {faults:?}");
    }
}

#[test]
fn a_key_of_addresses_is_of_connections_too_and_another_is_not() {
    let peer = crate::model::Peer { address: "192.0.2.1:5".parse().unwrap(), identity: None };
    let of_connection = |key: Value| {
        let circuit = circuit(json!({"caps": [{"scope": "Key", "key": key, "requests": 1}]}));
        circuit.cap(CapScope::Key).unwrap().key.as_ref().unwrap().of_connection(&peer, [1, 2])
    };
    assert!(matches!(of_connection(json!([{"type": "ClientAddress"}])), crate::health::CapKey::Of(_)));
    assert_eq!(of_connection(json!([{"type": "Host"}])), crate::health::CapKey::Uncounted);
}

#[test]
fn unknown_fields_scopes_and_wrong_types_are_refused() {
    for bad in [
        json!({"breakers": [{"scope": "Backend", "consecutivefailures": 1}]}),
        json!({"breakers": [{"scope": "Route", "consecutiveFailures": 1}]}),
        json!({"caps": [{"scope": "Endpoint", "retries": 1}]}),
        json!({"caps": [{"scope": "Rule", "connections": 1}]}),
        json!({"caps": [{"scope": "Rule", "pending": 1}]}),
        json!({"caps": [{"scope": "Pod", "requests": 1}]}),
        json!({"breakers": [{"scope": "Backend", "consecutiveFailures": 1}], "ejection": {}}),
        json!({"breakers": [{"scope": "Backend", "consecutiveFailures": 1, "failures": {"grpc": ["OK"]}}]}),
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
    assert_eq!((rules.settle, rules.hold), (Duration::from_millis(100), Duration::from_secs(30)));
    let spec = json!({"shared": {"quorum": 1, "failures": 0, "percent": 101, "settle": "11s", "hold": "0s"}});
    assert_eq!(faults(KIND, spec).len(), 5);
}
