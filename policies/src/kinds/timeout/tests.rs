use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{DEFAULT_HEADER, TimeoutRule};
use crate::kind::Compiled;
use crate::kinds::KINDS;
use crate::kinds::tests::{compile, faults};
use crate::model::TargetKind;
use crate::model::fixture::{policy, target};

const KIND: &str = "TimeoutPolicy";

fn rule(spec: Value) -> Arc<TimeoutRule> {
    match compile(KIND, spec).expect("valid") {
        Compiled::Timeout(rule) => rule,
        _ => panic!("not a rule of timeouts"),
    }
}

/// Where something is wrong.
fn faulty(spec: Value) -> Vec<String> {
    let place =
        |fault: &String| fault.trim_start_matches("spec").split(':').next().unwrap_or_default().to_owned();
    faults(KIND, spec).iter().map(place).collect()
}

#[test]
fn each_limit_knows_its_own_line() {
    let times = rule(json!({"connect": "1s", "request": "10s", "perTry": "3s"})).times.clone();
    let request = times.request.unwrap();
    assert_eq!(request.after, Duration::from_secs(10));
    assert_eq!(&*request.said.unwrap().rule.name, "request");
    assert!(times.connect.is_some() && times.idle.is_none() && times.stream.is_none());
}

#[test]
fn a_deadline_is_propagated_by_default_and_clients_are_not_trusted() {
    let deadline = rule(json!({"deadline": {}})).times.deadline.clone().unwrap();
    assert!(deadline.propagate && !deadline.trust_clients && !deadline.refuse_hopeless);
    assert_eq!((&deadline.header, deadline.minimum), (&DEFAULT_HEADER, Duration::from_millis(5)));
}

#[test]
fn every_fault_is_told_with_its_place() {
    let spec = json!({
        "connect": "2m",
        "request": "1s",
        "perTry": "2s",
        "idle": "0s",
        "streamDuration": "9601h",
        "header": "9ms",
        "deadline": {"header": "te", "max": "1ms", "minimum": "10ms"},
    });
    let places = faulty(spec);
    for at in
        ["/connect", "/perTry", "/idle", "/streamDuration", "/header", "/deadline/header", "/deadline/max"]
    {
        assert!(places.iter().any(|place| place == at), "{at} is not among {places:?}");
    }
    assert_eq!(faults(KIND, json!({})).len(), 1);
}

#[test]
fn a_head_can_be_timed_only_where_it_is_read() {
    let faults_for = |kind: TargetKind| {
        let policy = policy(KIND, "t", vec![target(kind, "x", None)], json!({"header": "5s"}));
        let entry = KINDS.iter().find(|entry| entry.kind == KIND).unwrap();
        entry.compile(&policy).map(drop).map_err(|errors| errors[0].to_string())
    };
    for kind in [TargetKind::Namespace, TargetKind::Gateway, TargetKind::ListenerSet, TargetKind::Service] {
        assert_eq!(faults_for(kind), Ok(()), "{kind:?}");
    }
    let routes = [TargetKind::HTTPRoute, TargetKind::GRPCRoute, TargetKind::TCPRoute, TargetKind::TLSRoute];
    for kind in routes.into_iter().chain([TargetKind::Backend]) {
        let told = faults_for(kind).unwrap_err();
        assert!(
            told.starts_with("spec/header: cannot hold for a ") && told.contains("target the Gateway"),
            "{told}"
        );
    }
}
