use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Backoff, BudgetShare, Condition, Hedge, HedgeAfter, RetryRule};
use crate::kind::Compiled;
use crate::kinds::tests::{compile, faults};

const KIND: &str = "RetryPolicy";

fn rule(spec: Value) -> Arc<RetryRule> {
    match compile(KIND, spec).expect("valid") {
        Compiled::Retry(rule) => rule,
        _ => panic!("not a rule of retries"),
    }
}

/// Where something is wrong.
fn faulty(spec: Value) -> Vec<String> {
    let place =
        |fault: &String| fault.trim_start_matches("spec").split(':').next().unwrap_or_default().to_owned();
    faults(KIND, spec).iter().map(place).collect()
}

#[test]
fn a_full_spec_becomes_its_parameters() {
    let rule = rule(json!({
        "retryOn": {"conditions": ["5xx", "RetryAfter"], "statuses": [429], "grpc": ["UNAVAILABLE"]},
        "attempts": 3,
        "perTryTimeout": "2s",
        "backoff": {"base": "10ms", "max": "1s"},
        "maxWait": "5s",
        "methods": ["GET", "REPORT"],
        "allowUnsafe": true,
        "budget": {"percent": 50, "minPerSecond": 0, "interval": "30s"},
        "bodyLimit": 1024,
        "hedge": {"quantile": 0.95, "max": 2},
        "tellAttempts": true,
    }));
    assert!(rule.on.has(Condition::ServerError) && !rule.on.has(Condition::Reset));
    assert_eq!((rule.on.statuses(), rule.attempts), (&[429][..], 3));
    let max = Duration::from_secs(1);
    assert_eq!(rule.backoff, Backoff::Exponential { base: Duration::from_millis(10), max });
    assert_eq!(rule.budget, BudgetShare { percent: 50, min_per_second: 0, interval: 30 });
    assert_eq!(rule.hedge, Some(Hedge { after: HedgeAfter::Permille(950), max: 2 }));
    assert_eq!((rule.body_limit, rule.methods.len(), rule.allow_unsafe), (1024, 2, true));
    assert_eq!(rule.max_wait, Some(Duration::from_secs(5)));
}

#[test]
fn an_empty_spec_retries_what_is_safe_once() {
    let rule = rule(json!({}));
    assert!(rule.on.has(Condition::ConnectFailure) && !rule.on.has(Condition::ServerError));
    assert_eq!((rule.attempts, rule.allow_unsafe, rule.budget), (1, false, BudgetShare::default()));
}

#[test]
fn every_fault_is_told_with_its_place() {
    let spec = json!({
        "retryOn": {},
        "attempts": 11,
        "perTryTimeout": "0s",
        "backoff": {"base": "1s", "max": "1ms"},
        "methods": ["CONNECT", "no method"],
        "budget": {"percent": 0, "minPerSecond": 0, "interval": "1500ms"},
        "bodyLimit": 2_000_000,
        "hedge": {},
    });
    let places = faulty(spec);
    for at in [
        "/retryOn",
        "/attempts",
        "/perTryTimeout",
        "/backoff/max",
        "/methods/0",
        "/methods/1",
        "/budget",
        "/budget/interval",
        "/bodyLimit",
        "/hedge",
    ] {
        assert!(places.iter().any(|place| place == at), "{at} is not among {places:?}");
    }
    let hedge = json!({"hedge": {"quantile": 0.2, "max": 3}});
    let places = faulty(hedge);
    assert_eq!(places, ["/hedge/max", "/hedge/quantile"]);
}
