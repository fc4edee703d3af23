#![allow(clippy::needless_pass_by_value, reason = "what is written is easier to read as it is")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::health::check::{Cause, CheckTiming, Finding, HealthCheck, HttpProbe, Initial, Probe};
use crate::kind::Compiled;
use crate::kinds::tests::{compile, faults};

const KIND: &str = "HealthCheckPolicy";

fn health(spec: Value) -> Arc<HealthCheck> {
    match compile(KIND, spec).expect("valid") {
        Compiled::HealthCheck(health) => health,
        _ => panic!("not a health check"),
    }
}

fn http(spec: Value) -> HttpProbe {
    let health = health(json!({"checks": [{"http": spec}]}));
    let checks = Arc::into_inner(health).expect("nobody else has it").checks;
    match checks.into_vec().remove(0).probe {
        Probe::Http(probe) => probe,
        _ => panic!("not by HTTP"),
    }
}

#[test]
fn a_full_spec_becomes_its_parameters() {
    let health = health(json!({
        "checks": [
            {
                "name": "ready",
                "http": {"path": "/ready?deep=1", "method": "HEAD", "host": "cart.shop", "statuses": ["204", "300-302"],
                    "drainingStatuses": ["503"], "headers": [{"name": "X-Probe", "value": "1"}]},
                "interval": "10s", "unhealthyInterval": "2s", "timeout": "500ms",
                "unhealthyThreshold": 4, "healthyThreshold": 5, "jitterPercent": 10, "port": 9901,
            },
            {"grpc": {"service": "shop.Cart"}},
            {"tcp": {}},
        ],
        "initial": "Unhealthy",
        "panicPercent": 30,
        "idleAfter": "1m",
    }));
    assert_eq!((health.initial, health.panic_percent), (Initial::Unhealthy, 30));
    assert_eq!(health.idle_after, Duration::from_secs(60));
    let [ready, grpc, tcp] = &*health.checks else { panic!("three checks") };
    let timing = CheckTiming {
        interval: Duration::from_secs(10),
        unhealthy_interval: Duration::from_secs(2),
        timeout: Duration::from_millis(500),
        jitter_percent: 10,
        unhealthy_threshold: 4,
        healthy_threshold: 5,
    };
    assert_eq!((ready.timing, ready.port), (timing, Some(9901)));
    assert_eq!((&*ready.rule.name, &*ready.rule.source.to_string()), ("ready", "policies.yaml:61"));
    let Probe::Http(probe) = &ready.probe else { panic!("by HTTP") };
    assert_eq!((probe.method.as_str(), &*probe.path), ("HEAD", "/ready?deep=1"));
    assert_eq!(probe.host.as_ref().unwrap(), "cart.shop");
    assert_eq!(probe.headers, [("x-probe".parse().unwrap(), "1".parse().unwrap())]);
    assert!(matches!(&grpc.probe, Probe::Grpc { service } if &**service == "shop.Cart"));
    assert!(matches!(tcp.probe, Probe::Tcp));
    assert_eq!(&*tcp.rule.name, "checks[2]");
}

#[test]
fn what_is_not_written_has_a_default() {
    let health = health(json!({"checks": [{"tcp": {}, "interval": "7s"}]}));
    let timing = health.checks[0].timing;
    assert_eq!(
        (timing.interval, timing.unhealthy_interval),
        (Duration::from_secs(7), Duration::from_secs(7))
    );
    assert_eq!((timing.timeout, timing.jitter_percent), (Duration::from_secs(1), 20));
    assert_eq!((timing.unhealthy_threshold, timing.healthy_threshold), (3, 2));
    assert_eq!((health.initial, health.panic_percent), (Initial::Healthy, 50));
    assert_eq!(health.idle_after, Duration::from_secs(300));
}

#[test]
fn a_status_is_judged_as_written() {
    let usual = http(json!({"path": "/"}));
    for (status, passes) in [(199, false), (200, true), (299, true), (300, false), (301, false), (500, false)]
    {
        assert_eq!(usual.judge(status) == Finding::Passed, passes, "{status}");
    }
    let written = http(json!({"path": "/", "statuses": ["204", "401-403"], "drainingStatuses": ["503"]}));
    assert_eq!(written.judge(200), Finding::Failed(Cause::Status(200)));
    assert_eq!(written.judge(402), Finding::Passed);
    assert_eq!(written.judge(503), Finding::Draining(Cause::Draining(503)));
}

#[test]
fn every_value_out_of_range_is_named_with_its_place() {
    let spec = json!({
        "checks": [
            {"name": "a", "tcp": {}, "interval": "50ms", "unhealthyInterval": "2h", "timeout": "2m",
                "unhealthyThreshold": 0, "healthyThreshold": 101, "jitterPercent": 51, "port": 70000},
            {"name": "a", "http": {"path": "ready", "host": "a b", "statuses": ["99", "300-200", "2xx"],
                "headers": [{"name": "a b", "value": "x"}, {"name": "host", "value": "x"}, {"name": "b", "value": "\n"}]}},
            {"name": "no spaces"},
            {"http": {"path": "/", "drainingStatuses": ["299"]}},
            {"tcp": {}, "grpc": {}},
        ],
        "panicPercent": 101,
        "idleAfter": "1s",
    });
    let faults = faults(KIND, spec);
    let places = [
        "/panicPercent",
        "/idleAfter",
        "/checks/0/interval",
        "/checks/0/unhealthyInterval",
        "/checks/0/timeout",
        "/checks/0/unhealthyThreshold",
        "/checks/0/healthyThreshold",
        "/checks/0/jitterPercent",
        "/checks/0/port",
        "/checks/1/name",
        "/checks/1/http/path",
        "/checks/1/http/host",
        "/checks/1/http/statuses/0",
        "/checks/1/http/statuses/1",
        "/checks/1/http/statuses/2",
        "/checks/1/http/headers/0/name",
        "/checks/1/http/headers/1/name",
        "/checks/1/http/headers/2/value",
        "/checks/2/name",
        "/checks/2",
        "/checks/3/http/drainingStatuses/0",
        "/checks/4",
    ];
    for place in places {
        let named = faults.iter().any(|fault| fault.starts_with(&format!("spec{place}:")));
        assert!(named, "{place}: {faults:?}");
    }
    assert_eq!(faults.len(), places.len(), "{faults:?}");
}

#[test]
fn a_policy_without_checks_is_refused() {
    assert_eq!(faults(KIND, json!({"checks": []})), ["spec/checks: write 1 to 8 checks"]);
    let nine = vec![json!({"tcp": {}}); 9];
    assert_eq!(faults(KIND, json!({"checks": nine})), ["spec/checks: write 1 to 8 checks"]);
}

#[test]
fn unknown_fields_and_wrong_types_are_refused() {
    for bad in [
        json!({}),
        json!({"checks": [{"udp": {}}]}),
        json!({"checks": [{"tcp": {"port": 1}}]}),
        json!({"checks": [{"http": {}}]}),
        json!({"checks": [{"http": {"path": "/", "method": "CONNECT"}}]}),
        json!({"checks": [{"http": {"path": "/", "statuses": [200]}}]}),
        json!({"checks": [{"tcp": {}}], "initial": "Unknown"}),
    ] {
        assert!(!faults(KIND, bad.clone()).is_empty(), "{bad}");
    }
}
